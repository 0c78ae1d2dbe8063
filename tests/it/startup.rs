//! What may not be started: without its port, its store or its keys a gateway ends at once, with a code that says so.

use crate::command::{eventually, private};
use crate::configuration::options;
use crate::gateway::{PASSWORD, USER};
use crate::jwt::{self, now};
use crate::options::{Key, Options, User};
use crate::platform::Platform;
use std::fs;
use std::net::TcpListener;

#[test]
fn a_port_that_is_taken_ends_the_start() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    for (section, key, value) in
        [("server", "http", format!("[{address:?}]")), ("admin", "listen", format!("{address:?}"))]
    {
        let done = options().set(section, key, value).folder().cli(&["run"], "");
        assert_eq!(done.code, Some(1), "{done:?}");
        assert!(done.stderr.contains(&address), "{done:?}");
    }
}

#[test]
fn a_lost_store_is_not_recreated_beside_its_keys() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    let token = gateway.mint();
    assert_eq!(gateway.status(&token), 200);
    let folder = gateway.kill();
    for file in ["gateway.db", "gateway.db-wal", "gateway.db-shm"] {
        drop(fs::remove_file(folder.state().join(file)));
    }
    for arguments in [&["run"][..], &["user", "list"]] {
        let done = folder.cli(arguments, "");
        assert_eq!(done.code, Some(1), "{arguments:?}: {done:?}");
    }
    assert!(!folder.state().join("gateway.db").exists(), "and none was left behind");
    // The new store's cutoff stands in a later second than the token, as it does whenever a store is lost.
    let iat = jwt::read(&token).1["iat"].as_u64().expect("a time");
    eventually("the next second", || (now() > iat).then_some(()));
    let gateway = folder.run(&["--init"]);
    assert_eq!(gateway.status(&token), 401, "nothing minted before the store is trusted");
    gateway.folder.add(&User::new(USER, PASSWORD, "x@example.com", "O"));
    eventually("the user", || gateway.login(USER, PASSWORD));
    gateway.still_healthy();
}

#[test]
fn with_keys_of_ones_own_a_store_is_made_only_when_asked_for() {
    let folder = options().key(Key::ours("k1")).folder();
    assert_eq!(folder.cli(&["run"], "").code, Some(1));
    let gateway = folder.run(&["--init"]);
    // A store that exists needs no word any more, and `--init` does it no harm.
    let gateway = gateway.kill().run(&[]);
    drop(gateway.kill().run(&["--init"]));
}

#[test]
fn a_key_that_changed_under_its_name_is_refused() {
    let key = Key::ours("k1");
    let folder = options().key(key).folder();
    let folder = folder.run(&["--init"]).kill();
    private(&folder.dir.path().join("k1.key"), b"another secret, also long enough for a key");
    let done = folder.cli(&["run"], "");
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stderr.contains("k1"), "{done:?}");
}

#[test]
fn a_file_that_is_not_a_store_is_refused() {
    let platform = Platform::echo();
    let folder = Options::new(&platform).start().kill();
    for file in ["gateway.db-wal", "gateway.db-shm"] {
        drop(fs::remove_file(folder.state().join(file)));
    }
    let store = folder.state().join("gateway.db");
    let bytes = b"this is not a store ".repeat(1_000);
    fs::write(&store, &bytes).expect("a file");
    for arguments in [&["run"][..], &["run", "--init"], &["user", "list"]] {
        let done = folder.cli(arguments, "");
        assert_eq!(done.code, Some(1), "{arguments:?}: {done:?}");
    }
    assert_eq!(fs::read(&store).expect("the file"), bytes, "it is left as it was found");
}
