//! A backup is whole, private and repeatable, and a restore trusts nothing that the backup cannot know of.

use crate::command::{Done, Folder, binary, eventually, finish};
use crate::gateway::{EMAIL, ORGANIZATION, PASSWORD, USER};
use crate::options::{Key, Options, User};
use crate::platform::Platform;
use crate::revocation::{delete, is_204, number_of};
use rusqlite::Connection;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

fn back_up(folder: &Folder, to: &Path) -> Done {
    folder.cli(&["backup", to.to_str().expect("a path")], "")
}

fn restore(folder: &Folder, from: &Path) -> Done {
    folder.cli(&["restore", from.to_str().expect("a path")], "")
}

/// Every file and folder below, with its mode and the owner.
fn tree(folder: &Path) -> Vec<(PathBuf, u32, u32)> {
    let mut found = Vec::new();
    let metadata = fs::symlink_metadata(folder).expect("a file");
    found.push((folder.to_owned(), metadata.mode() & 0o777, metadata.uid()));
    if metadata.is_dir() {
        for entry in fs::read_dir(folder).expect("a folder") {
            found.extend(tree(&entry.expect("an entry").path()));
        }
    }
    found
}

#[track_caller]
fn is_private(folder: &Path) {
    for (path, mode, _) in tree(folder) {
        assert_eq!(mode, if path.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<String> = entries.map(|name| name.into_string().expect("a name")).collect();
    names.sort();
    names
}

fn moved_aside(folder: &Folder) -> Vec<String> {
    names(&folder.state()).into_iter().filter(|name| name.contains(".before-restore-")).collect()
}

#[test]
fn a_restored_gateway_has_its_users_and_trusts_no_older_token() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).https().start();
    let copy = gateway.folder.dir.path().join("backup");
    let before = gateway.mint();
    assert_eq!(back_up(&gateway.folder, &copy).code, Some(0));
    is_private(&copy);
    assert_eq!(names(&copy), ["backup.json", "gateway.db", "keys", "tls"]);

    // What the backup cannot know: a revocation, a mint, a user.
    is_204(&gateway.exchange(delete(&before)));
    let after = gateway.mint();
    gateway.folder.add(&User::new("later", "pw", EMAIL, ORGANIZATION));
    let refused = restore(&gateway.folder, &copy);
    assert_eq!(refused.code, Some(75), "{refused:?}");
    assert!(refused.stderr.contains("stop it first"), "{refused:?}");
    assert_eq!(gateway.status(&after), 200);
    gateway.signal("STOP");
    assert_eq!(restore(&gateway.folder, &copy).code, Some(75), "one that is paused runs");
    gateway.signal("CONT");
    gateway.still_healthy();

    let folder = gateway.stop();
    assert!(moved_aside(&folder).is_empty(), "nothing was begun");
    let done = restore(&folder, &copy).ok();
    assert_eq!(moved_aside(&folder).len(), 3, "store, keys and certificate: {done}");
    assert!(moved_aside(&folder).iter().all(|name| done.contains(name)), "{done}");
    is_private(&folder.state());
    assert!(!names(&folder.state()).iter().any(|name| name.contains("restoring")));
    let listed = folder.cli(&["revoke", "list", "--limit", "1"], "").ok();
    assert!(listed.contains("everybody") && listed.contains("restore"), "{listed}");
    assert!(
        folder.cli(&["audit", "list"], "").ok().lines().last().is_some_and(|line| line.contains("restore"))
    );

    let gateway = folder.run(&[]);
    for token in [&before, &after] {
        assert_eq!(gateway.status(token), 401);
    }
    assert_eq!(gateway.login("later", "pw"), None, "it came after the backup");
    let token = gateway.mint();
    assert_eq!(gateway.status(&token), 200);
    assert!(number_of(&token) > number_of(&after) + 1_000_000, "{}", number_of(&token));
    gateway.still_healthy();

    // What was moved aside is whole: put back, it is what it was.
    let folder = gateway.stop();
    let state = folder.state();
    let aside = moved_aside(&folder);
    let old = Connection::open(state.join(&aside[0])).expect("a store");
    let users: u64 = old.query_row("SELECT count(*) FROM users", [], |row| row.get(0)).expect("a count");
    assert_eq!(users, 2);
    drop(old);
    // A second restore moves the first one's outcome aside, and a third can be made at once.
    restore(&folder, &copy).ok();
    restore(&folder, &copy).ok();
    assert_eq!(moved_aside(&folder).len(), 9);
    folder.run(&[]).still_healthy();
}

#[test]
fn a_backup_is_made_again_in_the_same_folder_while_the_gateway_serves() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    let folder = &gateway.folder;
    let copy = folder.dir.path().join("backup");
    back_up(folder, &copy).ok();
    let users = || -> u64 {
        let store = Connection::open(copy.join("gateway.db")).expect("a store");
        store.query_row("SELECT count(*) FROM users", [], |row| row.get(0)).expect("a count")
    };
    assert_eq!(users(), 1);
    for round in 2..=4 {
        folder.add(&User::new(&format!("user{round}"), "pw", EMAIL, ORGANIZATION));
        folder.cli(&["key", "generate"], "").ok();
        // As if one had been interrupted.
        fs::write(copy.join("gateway.db.partial"), "half").expect("a file");
        fs::write(copy.join("keys/x.hs256.partial"), "half").expect("a file");
        back_up(folder, &copy).ok();
        assert_eq!(users(), round);
        assert!(!copy.join("gateway.db.partial").exists());
    }
    fs::remove_file(copy.join("keys/x.hs256.partial")).expect("a file");
    assert_eq!(names(&copy.join("keys")), names(&folder.state().join("keys")));
    is_private(&copy);
    // A key that is there no more is not restored either.
    fs::write(copy.join("keys/older.hs256"), "a key that was taken away since").expect("a file");
    back_up(folder, &copy).ok();
    assert_eq!(names(&copy.join("keys")), names(&folder.state().join("keys")));
    // A writer that holds the store does not keep a backup from reading it.
    let other = Connection::open(folder.state().join("gateway.db")).expect("a store");
    other.execute_batch("BEGIN IMMEDIATE").expect("the only writer");
    back_up(folder, &copy).ok();
    drop(other);
    gateway.still_healthy();
}

#[test]
fn what_is_not_a_backup_is_neither_written_over_nor_restored() {
    let folder = Options::servers(&["http://127.0.0.1:1"]).nobody().folder();
    folder.add(&User::new(USER, PASSWORD, EMAIL, ORGANIZATION));
    let place = |name: &str| folder.dir.path().join(name);
    let private =
        |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o700)).expect("its mode");
    // Somebody's files, a file, a folder that is open, one without a parent.
    fs::create_dir(place("theirs")).expect("a folder");
    private(&place("theirs"));
    fs::write(place("theirs/gateway.db"), "theirs").expect("a file");
    fs::write(place("file"), "theirs").expect("a file");
    fs::create_dir(place("open")).expect("a folder");
    fs::set_permissions(place("open"), fs::Permissions::from_mode(0o755)).expect("its mode");
    for name in ["theirs", "file", "open", "no/parent", "state"] {
        let done = back_up(&folder, &place(name));
        assert_eq!((done.code, done.stdout.as_str()), (Some(1), ""), "{name}: {done:?}");
    }
    assert_eq!(fs::read(place("theirs/gateway.db")).expect("a file"), b"theirs");
    assert_eq!(names(&place("theirs")), ["gateway.db"]);
    // An empty one is a place for a backup.
    fs::create_dir(place("empty")).expect("a folder");
    private(&place("empty"));
    back_up(&folder, &place("empty")).ok();

    let before = tree(&folder.state());
    let users = |folder: &Folder| folder.cli(&["user", "list", "--json"], "").ok();
    let (listed, copy) = (users(&folder), place("empty"));
    let whole = fs::read(copy.join("gateway.db")).expect("a store");
    let manifest = fs::read_to_string(copy.join("backup.json")).expect("a manifest");
    let mut flipped = whole.clone();
    flipped.iter_mut().skip(4096).take(3000).for_each(|byte| *byte = 0xff);
    let spoil = |store: &[u8], manifest: &str| {
        fs::write(copy.join("gateway.db"), store).expect("a store");
        fs::write(copy.join("backup.json"), manifest).expect("a manifest");
    };
    for (what, store, manifest) in [
        ("cut", &whole[..whole.len() / 2], manifest.clone()),
        ("damaged", &flipped, manifest.clone()),
        ("empty", &[], manifest.clone()),
        (
            "something else",
            b"something else that is long enough for a header of a database, or so it looks at first",
            manifest.clone(),
        ),
        ("not completed", &whole, manifest.replace("true", "false")),
        ("of a later program", &whole, manifest.replace("\"format\": 1", "\"format\": 2")),
        ("no JSON", &whole, "{".to_owned()),
    ] {
        spoil(store, &manifest);
        let done = restore(&folder, &copy);
        assert_eq!((done.code, done.stdout.as_str()), (Some(65), ""), "{what}: {done:?}");
        assert_eq!((tree(&folder.state()), users(&folder)), (before.clone(), listed.clone()), "{what}");
    }
    for name in ["theirs", "file", "nothing"] {
        assert_eq!(restore(&folder, &place(name)).code, Some(65), "{name}");
    }
    spoil(&whole, &manifest);
    restore(&folder, &copy).ok();
    assert_eq!(users(&folder), listed);
}

#[test]
fn owner_and_modes_are_the_state_folders_also_where_root_does_it() {
    if fs::metadata("/proc/self").expect("a process").uid() != 0 {
        return;
    }
    const NOBODY: u32 = 65_534;
    let folder = Options::servers(&["http://127.0.0.1:1"]).nobody().folder();
    fs::set_permissions(folder.dir.path(), fs::Permissions::from_mode(0o755)).expect("its mode");
    fs::create_dir(folder.state()).expect("a folder");
    fs::set_permissions(folder.state(), fs::Permissions::from_mode(0o700)).expect("its mode");
    chown(folder.state(), Some(NOBODY), Some(NOBODY)).expect("its owner");
    folder.add(&User::new(USER, PASSWORD, EMAIL, ORGANIZATION));
    let copy = folder.dir.path().join("backup");
    for _ in 0..2 {
        back_up(&folder, &copy).ok();
    }
    let is_theirs = |at: &Path| {
        is_private(at);
        for (path, _, owner) in tree(at) {
            assert_eq!(owner, NOBODY, "{}", path.display());
        }
    };
    is_theirs(&copy);
    restore(&folder, &copy).ok();
    is_theirs(&folder.state());
    // On a machine that has nothing yet, from a copy that only root can read.
    for (path, ..) in tree(&copy).iter().filter(|(path, ..)| *path != copy.join("gateway.db")) {
        chown(path, Some(0), Some(0)).expect("its owner");
    }
    fs::remove_dir_all(folder.state()).expect("a folder");
    restore(&folder, &copy).ok();
    is_theirs(&folder.state());
    let mut show = binary();
    show.args(["user", "show", USER, "--config"]).arg(folder.config());
    assert!(finish(show, "").ok().contains(EMAIL));
}

#[test]
fn keys_that_the_configuration_names_are_the_operators_to_keep() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).key(Key::ours("k1")).start();
    let copy = gateway.folder.dir.path().join("backup");
    back_up(&gateway.folder, &copy).ok();
    assert_eq!(names(&copy), ["backup.json", "gateway.db"]);
    let token = gateway.mint();
    let folder = gateway.stop();
    restore(&folder, &copy).ok();
    let gateway = folder.run(&[]);
    assert_eq!(gateway.status(&token), 401);
    eventually("a log in", || gateway.login(USER, PASSWORD));
    gateway.still_healthy();
}
