//! What a gateway does by itself from time to time: it reads what others changed, writes failed logins down, deletes what
//! is old, and looks names up again. Each is watched with the shortest interval that can be set.

use crate::audit::{rows, token_id};
use crate::command::{Folder, NEVER, eventually, finish, started_by};
use crate::deployment::Deployment;
use crate::gateway::{EMAIL, Gateway, ORGANIZATION, PASSWORD, USER};
use crate::options::{Key, Options, User};
use crate::platform::{Behaviour, Platform};
use crate::revocation::{Forge, delete, deployment_with, is_204};
use rusqlite::Connection;
use serde_json::Value;
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

/// As often as a setting may say.
const SHORTEST: &str = "\"10ms\"";

fn store(folder: &Folder) -> Connection {
    Connection::open(folder.state().join("gateway.db")).expect("a store")
}

/// What the actions of the audit trail were done to, oldest first.
fn actions(folder: &Folder) -> Vec<(String, String)> {
    let text = |row: &Value, member: &str| row[member].as_str().expect("a text").to_owned();
    rows(folder, &[]).iter().map(|row| (text(row, "action"), text(row, "subject"))).collect()
}

#[test]
fn failed_logins_are_in_the_audit_trail_after_the_upkeep_interval() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).set("store", "upkeep_interval", SHORTEST).start();
    for _ in 0..3 {
        assert_eq!(gateway.login(USER, "wrong"), None);
    }
    // Those of one interval are one row.
    eventually("three failures", || {
        let rows = rows(&gateway.folder, &["--user", USER]);
        let failed = rows.iter().filter(|row| row["action"] == "login_failed");
        let sum: u64 = failed.map(|row| row["count"].as_u64().expect("a count")).sum();
        assert!(sum <= 3, "{rows:?}");
        (sum == 3).then_some(())
    });
    gateway.still_healthy();
}

#[test]
fn audit_rows_older_than_audit_keep_are_deleted() {
    let platform = Platform::echo();
    let options = Options::new(&platform).set("audit", "keep", "\"1h\"");
    let gateway = options.set("store", "upkeep_interval", SHORTEST).start();
    gateway.mint();
    let of_user = |action: &str| (action.to_owned(), USER.to_owned());
    assert!(actions(&gateway.folder).contains(&of_user("user_add")));
    // As if two hours had passed between that and all else.
    store(&gateway.folder)
        .execute_batch(
            "BEGIN IMMEDIATE;
             UPDATE clock SET lived = lived + 7200;
             UPDATE audit SET lived = lived + 7200 WHERE id > (SELECT id FROM audit WHERE action = 'user_add');
             COMMIT",
        )
        .expect("an older row");
    let left = eventually("the old row to go", || {
        Some(actions(&gateway.folder)).filter(|rows| !rows.contains(&of_user("user_add")))
    });
    assert!(left.contains(&of_user("mint")), "what is younger stays: {left:?}");
    gateway.still_healthy();
}

#[test]
fn the_oldest_audit_rows_of_who_has_the_most_are_deleted_beyond_audit_max_bytes() {
    const MAX_BYTES: usize = 1 << 20;
    let platform = Platform::echo();
    let options = Options::new(&platform).set("audit", "max_bytes", MAX_BYTES);
    let gateway = options.set("store", "upkeep_interval", SHORTEST).start();
    gateway.mint();
    let before = actions(&gateway.folder);
    // More than fit, however little a row takes.
    let subjects = 0..MAX_BYTES / 100;
    let last = subjects.end - 1;
    store(&gateway.folder)
        .execute(
            "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
             INSERT INTO audit (number, at, actor, action, subject, origin, count)
             SELECT 1, unixepoch(), 'test', 'test', 'row ' || i, 'test', 1 FROM n",
            [last],
        )
        .expect("many rows");
    // The list is read in pages, so rows may go between two of them: what is left at last are the newest, without a gap.
    let left = eventually("the oldest rows to go", || {
        let mut left = actions(&gateway.folder);
        let left = left.split_off(before.len());
        let newest = subjects.clone().skip((last + 1).saturating_sub(left.len()));
        let is_newest = left.len() < MAX_BYTES / 200
            && newest.zip(&left).all(|(number, (_, subject))| *subject == format!("row {number}"));
        is_newest.then_some(left.len())
    });
    assert!(left > 1_000, "most of the room is used: {left}");
    assert_eq!(actions(&gateway.folder)[..before.len()], before, "what others did is there");
    gateway.still_healthy();
}

#[test]
fn revocations_of_tokens_that_have_expired_are_deleted() {
    let deployment = deployment_with(|options| options.set("store", "upkeep_interval", SHORTEST));
    let forge = Forge::of(&deployment);
    let [old, young] = [1, 2].map(|serial| forge.token(USER, serial));
    is_204(&deployment.gateway.exchange(delete(&old)));
    let folder = deployment.gateway.stop();
    // As if the gateway had run for four days, by when the token has expired by every clock.
    store(&folder)
        .execute_batch(
            "INSERT INTO hours (lived, number) VALUES (3600, 0); UPDATE clock SET lived = lived + 4 * 86400;",
        )
        .expect("an older store");
    let gateway = folder.run(&[]);
    let kept = || gateway.metric("ds_gateway_revocations", &["kind=\"token\""]);
    // Both expire in one hour, and the memory keeps those of an hour as long as the last of them.
    eventually("the gateway to forget the old one", || (kept() == 0.0).then_some(()));
    is_204(&gateway.exchange(delete(&young)));
    assert_eq!(kept(), 1.0);
    let listed = eventually("the store to forget it", || {
        let listed = gateway.folder.cli(&["revoke", "list", "--json"], "").ok();
        (listed.lines().filter(|line| line.contains("\"token\"")).count() == 1).then_some(listed)
    });
    assert!(listed.contains(&token_id(&young)), "{listed}");
    assert_eq!(gateway.status(&young), 401, "what can still be used stays revoked");
    gateway.still_healthy();
}

/// Another gateway on the state of a deployment, that looks for changes so often.
fn neighbour(deployment: &Deployment, poll_interval: &str) -> Gateway {
    let state = format!("{:?}", deployment.gateway.folder.state());
    Options::new(&deployment.platform)
        .key(Key::ours("k1"))
        .set("server", "state_dir", state)
        .set("store", "poll_interval", poll_interval)
        .set("store", "heartbeat_interval", if poll_interval == NEVER { NEVER } else { "\"100ms\"" })
        .set("store", "max_staleness", "\"1h\"")
        .folder()
        .run(&[])
}

#[test]
fn a_gateway_knows_what_its_neighbour_revoked_after_the_poll_interval_and_not_before() {
    let deployment = Deployment::open();
    let (soon, late) = (neighbour(&deployment, SHORTEST), neighbour(&deployment, NEVER));
    let forge = Forge::of(&deployment);
    let tokens: Vec<String> = (0..5).map(|serial| forge.token(USER, serial)).collect();
    for token in &tokens {
        assert_eq!([&deployment.gateway, &soon, &late].map(|gateway| gateway.status(token)), [200; 3]);
        is_204(&deployment.gateway.exchange(delete(token)));
        assert_eq!(deployment.gateway.status(token), 401);
        eventually("the one that looks often to know", || (soon.status(token) == 401).then_some(()));
        assert_eq!(late.status(token), 200, "it has not looked yet");
    }
    soon.still_healthy();
    let late = late.stop().run(&[]);
    assert_eq!(late.status(&tokens[0]), 401, "it reads all when it starts");
}

/// The start of a command line whose program sees files of this folder in the place of the system's tables of names; the
/// test decides what a name means, and no server is asked.
fn with_names(names: &Path) -> [&str; 7] {
    let script =
        "for file in hosts nsswitch.conf; do mount --bind \"$0/$file\" /etc/$file || exit; done; exec \"$@\"";
    ["unshare", "--map-root-user", "--mount", "bash", "-c", script, names.to_str().expect("a path")]
}

#[test]
fn a_name_that_moves_is_followed_and_one_that_is_lost_stays_where_it_was() {
    let names = tempfile::TempDir::new().expect("a temporary folder");
    let write = |file: &str, text: &str| fs::write(names.path().join(file), text).expect("a table");
    write("nsswitch.conf", "hosts: files\n");
    let is_at = |address: SocketAddr| write("hosts", &format!("{} platform.test\n", address.ip()));
    let first = Platform::echo();
    // The same port of another loopback address.
    let second = Platform::at(SocketAddr::from(([127, 0, 0, 2], first.address.port())), Behaviour::Echo);
    is_at(first.address);
    let probe = finish(started_by(&with_names(names.path()), &Command::new("true")), "");
    if probe.code != Some(0) {
        // Past the harness, which would keep it to itself.
        drop(writeln!(
            std::io::stderr(),
            "skipped: no mount namespace for a name that moves: {}",
            probe.stderr
        ));
        return;
    }
    let options = Options::servers(&[&format!("http://platform.test:{}", first.address.port())]);
    let folder = options.set("platform", "resolve_interval", SHORTEST).folder();
    folder.add(&User::new(USER, PASSWORD, EMAIL, ORGANIZATION));
    let command = started_by(&with_names(names.path()), &folder.command(&["run"]));
    let gateway = Gateway::start(folder, command);
    let token = gateway.mint();
    assert_eq!(gateway.status(&token), 200);
    assert_eq!((first.requests().len(), second.requests().len()), (1, 0));

    is_at(second.address);
    eventually("a request at the second address", || {
        assert_eq!(gateway.status(&token), 200);
        (!second.requests().is_empty()).then_some(())
    });
    let failures = || {
        let is_one = |line: &&String| line.contains("platform.test") && line.contains("last known addresses");
        gateway.log.lines().iter().filter(is_one).count()
    };
    let (before, at_second) = (failures(), second.requests().len());
    write("hosts", "127.0.0.1 localhost\n");
    eventually("a line that says so", || (failures() > before).then_some(()));
    assert_eq!(gateway.status(&token), 200);
    assert_eq!(second.requests().len(), at_second + 1);

    let at_first = first.requests().len();
    is_at(first.address);
    eventually("a request at the first address again", || {
        assert_eq!(gateway.status(&token), 200);
        (first.requests().len() > at_first).then_some(())
    });
    gateway.still_healthy();
}
