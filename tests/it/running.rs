//! Which gateways a revocation is confirmed by: those whose process runs, however silent, and no others.

use crate::command::{Done, Folder, eventually, within};
use crate::gateway::{Gateway, USER};
use crate::options::Options;
use crate::platform::Platform;
use crate::revocation::{are_counted, revoke_once};
use rusqlite::Connection;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

fn gateway(platform: &Platform) -> Gateway {
    Options::new(platform).set("store", "heartbeat_interval", "\"1s\"").start()
}

fn rows(folder: &Folder) -> Vec<String> {
    let store = Connection::open(folder.state().join("gateway.db")).expect("a store");
    let mut statement = store.prepare("SELECT id FROM gateways").expect("a statement");
    let rows = statement.query_map([], |row| row.get(0)).expect("rows");
    rows.map(|row| row.expect("a row")).collect()
}

fn locks(folder: &Folder) -> Vec<String> {
    let entries = fs::read_dir(folder.state().join("gateways")).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().into_string().expect("a name")).collect()
}

fn counts(done: &Done) -> (Option<i32>, &str) {
    (done.code, done.stdout.trim())
}

#[test]
fn a_paused_gateway_is_counted_however_long_it_is_silent() {
    let platform = Platform::echo();
    let gateway = gateway(&platform);
    let folder = &gateway.folder;
    are_counted(folder, 1);
    let (token, id) = (gateway.mint(), locks(folder));
    assert_eq!(id, rows(folder));
    let mode = |path| fs::metadata(path).expect("a file").permissions().mode() & 0o777;
    let lock = folder.state().join("gateways").join(&id[0]);
    assert_eq!((mode(lock.clone()), mode(folder.state().join("gateways"))), (0o600, 0o700));
    gateway.signal("STOP");
    // Longer than two heartbeats and the seconds on top of them: it was not counted from then on.
    assert_eq!(within(6, || None::<()>), None);
    let done = revoke_once(folder, &["user", USER]);
    assert_eq!(counts(&done), (Some(75), "revoked; active on 0 of 1 gateways"), "{done:?}");
    assert!(done.stderr.contains(&id[0]) && done.stderr.contains("max_staleness (300 s)"), "{done:?}");
    let json: Value =
        serde_json::from_str(&revoke_once(folder, &["user", USER, "--json"]).stdout).expect("JSON");
    assert_eq!(
        (&json["waiting_for"][0], &json["in_force_on"]),
        (&id[0].as_str().into(), &0.into()),
        "{json}"
    );
    gateway.signal("CONT");
    eventually("the token to end", || (gateway.status(&token) == 401).then_some(()));
    let confirmed = || revoke_once(folder, &["user", USER]);
    let done = eventually("a confirmation", || Some(confirmed()).filter(|done| done.code == Some(0)));
    assert_eq!(done.stdout.trim(), "revoked; active on 1 of 1 gateways");
    assert_eq!(rows(folder), id, "it was not taken for dead");
    gateway.still_healthy();
    let folder = gateway.stop();
    assert_eq!((rows(&folder).len(), locks(&folder).len()), (0, 0), "a clean stop leaves nothing");
}

#[test]
fn a_killed_gateway_is_not_counted_at_once_and_its_row_is_deleted() {
    let platform = Platform::echo();
    let gateway = gateway(&platform);
    are_counted(&gateway.folder, 1);
    let folder = gateway.kill();
    assert_eq!((rows(&folder).len(), locks(&folder).len()), (1, 1), "it could not sign off");
    let done = revoke_once(&folder, &["user", USER]);
    assert_eq!(
        counts(&done),
        (Some(0), "revoked; active on 0 of 0 gateways (no gateway is running)"),
        "{done:?}"
    );
    assert_eq!((rows(&folder).len(), locks(&folder).len()), (0, 0));

    // The next start clears away too what one that was killed has left.
    let first = folder.run(&[]);
    are_counted(&first.folder, 1);
    let left = locks(&first.folder);
    let second = first.kill().run(&[]);
    are_counted(&second.folder, 1);
    assert!(locks(&second.folder).len() == 1 && locks(&second.folder) != left);
    assert_eq!(locks(&second.folder), rows(&second.folder));
    second.still_healthy();
}

#[test]
fn a_gateway_without_a_lock_here_counts_by_its_heartbeats() {
    let platform = Platform::echo();
    let gateway = gateway(&platform);
    let folder = &gateway.folder;
    are_counted(folder, 1);
    let store = Connection::open(folder.state().join("gateway.db")).expect("a store");
    let add = "INSERT OR REPLACE INTO gateways (id, applied, seen_at) VALUES (?1, 0, unixepoch() - ?2)";
    for id in ["elsewhere", "../lock", "7-0a"] {
        store.execute(add, (id, 0)).expect("a row");
        let done = revoke_once(folder, &["user", USER]);
        assert_eq!(counts(&done), (Some(75), "revoked; active on 1 of 2 gateways"), "{id} {done:?}");
        assert!(done.stderr.contains(id), "{done:?}");
        store.execute(add, (id, 3_600)).expect("a row");
        let done = revoke_once(folder, &["user", USER]);
        assert_eq!(counts(&done), (Some(0), "revoked; active on 1 of 1 gateways"), "{id} {done:?}");
        assert!(rows(folder).contains(&id.to_owned()), "only its own machine knows whether it has ended");
        store.execute("DELETE FROM gateways WHERE id = ?1", [id]).expect("a row");
    }
    assert!(folder.state().join("lock").exists());
    gateway.still_healthy();
}
