//! A key that could not be made leaves nothing behind, and a new one takes no other's name.

use crate::command::{Folder, finish, started_by};
use crate::gateway::{EMAIL, ORGANIZATION, PASSWORD, USER};
use crate::options::{Options, User};
use crate::platform::Platform;
use crate::revocation::revoke;
use rusqlite::Connection;
use std::fs;
use std::path::PathBuf;

fn key_file(folder: &Folder, kid: &str) -> PathBuf {
    folder.state().join(format!("keys/{kid}.hs256"))
}

fn kids(folder: &Folder) -> Vec<String> {
    let entries = fs::read_dir(folder.state().join("keys")).expect("keys");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("a file").file_name().into_string().expect("a name"))
        .map(|name| name.trim_end_matches(".hs256").to_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn new_key_takes_no_name_that_is_recorded_or_has_a_file() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    let folder = &gateway.folder;
    let first = kids(folder).remove(0);
    let generate = || folder.cli(&["key", "generate"], "").ok().trim().replace("made ", "");
    let second = generate();
    fs::remove_file(key_file(folder, &second)).expect("a key");
    let third = generate();
    assert!(third != first && third != second, "{first} {second} {third}");
    assert_eq!(kids(folder), [first.clone(), third.clone()]);
    // In a successor's place, too.
    fs::remove_file(key_file(folder, &third)).expect("a key");
    revoke(folder, &["key", &first, "--replace"]).ok();
    let fourth = kids(folder).pop().expect("a key");
    assert!(![&first, &second, &third].contains(&&fourth), "{fourth}");
    gateway.still_healthy();
    gateway.stop().run(&[]).still_healthy();
}

#[test]
fn key_that_cannot_be_recorded_leaves_no_file() {
    let folder = Options::servers(&["http://127.0.0.1:1"]).nobody().folder();
    folder.add(&User::new(USER, PASSWORD, EMAIL, ORGANIZATION));
    let before = kids(&folder);
    // A file of a key may have four blocks, a change in the store has more.
    let full = ["bash", "-c", "trap '' XFSZ; ulimit -f 4; exec \"$@\"", "bash"];
    // Not even that of a key.
    let no_room = ["bash", "-c", "trap '' XFSZ; ulimit -f 0; exec \"$@\"", "bash"];
    for arguments in [&["key", "generate"][..], &["revoke", "key", &before[0], "--replace"]] {
        for prefix in [full, no_room] {
            let done = finish(started_by(&prefix, &folder.command(arguments)), "");
            assert_eq!((done.code, done.stdout.as_str()), (Some(1), ""), "{done:?}");
            assert_eq!(kids(&folder), before, "{arguments:?}: {done:?}");
        }
    }
    let other = Connection::open(folder.state().join("gateway.db")).expect("a store");
    other.execute_batch("BEGIN IMMEDIATE").expect("the only writer");
    let done = folder.cli(&["key", "generate"], "");
    assert_eq!(done.code, Some(75), "{done:?}");
    assert_eq!(kids(&folder), before, "{done:?}");
    drop(other);
    folder.cli(&["key", "generate"], "").ok();
    assert_eq!(kids(&folder).len(), 2);
}
