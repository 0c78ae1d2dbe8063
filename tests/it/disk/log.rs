//! The files beside the store are removed, replaced or cut; the store itself is replaced by an older one.

use super::{Faulty, longer_than, none_waits, revoke, said};
use crate::command::{Folder, eventually, finish};
use crate::gateway::{Gateway, PASSWORD, USER};
use crate::revocation::number_of;
use std::fs::{self, File, OpenOptions};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

fn beside(folder: &Folder, suffix: &str) -> PathBuf {
    folder.state().join(format!("gateway.db{suffix}"))
}

/// Can what was committed still be read while the fault lasts? If not, admission ends after `max_staleness`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reads {
    Work,
    Fail,
}

/// Nothing is acknowledged, for as long as the fault lasts; everything is in force.
#[track_caller]
fn nothing_is_acknowledged(name: &str, gateway: &Gateway, tokens: &[String], other: &str, reads: Reads) {
    let is = |token: &str, expected: u16| {
        let status = gateway.status(token);
        let is_right = status == expected || (reads == Reads::Fail && status == 503);
        assert!(is_right, "{name}: {status} instead of {expected}");
    };
    // Longer than a heartbeat and a retry.
    let end = longer_than(3);
    while Instant::now() < end {
        for token in tokens {
            let answer = revoke(gateway, token);
            assert_eq!(answer.status, 503, "{name}: {answer:?}");
            is(token, 401);
        }
        let minted = gateway.log_in(USER, PASSWORD);
        assert!([429, 503].contains(&minted.status), "{name}: {minted:?}");
        thread::sleep(Duration::from_millis(100));
    }
    is(other, 200);
    assert_eq!(gateway.metric("ds_gateway_revocations_pending", &[]), tokens.len() as f64, "{name}");
    let (status, reasons) = said(gateway, "reasons");
    assert!(status == 503 && reasons.contains("-wal or -shm"), "{name}: {status} {reasons}");
}

#[test]
fn a_log_that_is_removed_or_replaced_is_noticed_and_what_was_acknowledged_survives_a_crash() {
    type Harm = fn(&Folder);
    let rows: [(&str, Harm); 3] = [
        ("-wal removed", |folder| fs::remove_file(beside(folder, "-wal")).expect("a log")),
        ("-wal replaced", |folder| {
            fs::remove_file(beside(folder, "-wal")).expect("a log");
            File::create(beside(folder, "-wal")).expect("a log");
        }),
        ("-shm removed", |folder| fs::remove_file(beside(folder, "-shm")).expect("an index")),
    ];
    for (name, harm) in rows {
        let Faulty { disk, forge, gateway, _platform } = Faulty::start();
        let acknowledged: Vec<String> = (0..20).map(|serial| forge.token(USER, serial)).collect();
        for token in &acknowledged {
            assert_eq!(revoke(&gateway, token).status, 204);
        }
        harm(&gateway.folder);
        let (late, other) = ([forge.token(USER, 100), forge.token(USER, 101)], forge.token(USER, 102));
        nothing_is_acknowledged(name, &gateway, &late, &other, Reads::Work);
        let gateway = disk.run(gateway.kill(), &[]);
        for token in &acknowledged {
            assert_eq!(gateway.status(token), 401, "{name}: acknowledged and lost");
        }
        assert_eq!(gateway.status(&other), 200, "{name}");
        gateway.still_healthy();
    }
}

#[test]
fn a_log_that_was_cut_is_noticed_and_the_next_start_says_that_something_is_forgotten() {
    for keep in [0, 40_000] {
        let Faulty { disk, forge, gateway, _platform } = Faulty::start();
        let acknowledged: Vec<String> = (0..20).map(|serial| forge.token(USER, serial)).collect();
        for token in &acknowledged {
            assert_eq!(revoke(&gateway, token).status, 204);
        }
        let minted = gateway.mint();
        let log = OpenOptions::new().write(true).open(beside(&gateway.folder, "-wal")).expect("a log");
        log.set_len(keep).expect("a shorter log");
        let late = [forge.token(USER, 100)];
        nothing_is_acknowledged("cut", &gateway, &late, &minted, Reads::Fail);
        is_restored(&disk, gateway.kill(), &minted, &acknowledged);
    }
}

/// The store has forgotten what was acknowledged: no start but one that says so.
#[track_caller]
fn is_restored(disk: &super::Disk, folder: Folder, minted: &str, acknowledged: &[String]) {
    for arguments in [&["run"][..], &["user", "list"], &["revoke", "user", USER]] {
        let done = disk.cli(&folder, arguments, "");
        assert_eq!(done.code, Some(1), "{arguments:?}: {done:?}");
        assert!(done.stderr.contains("--restored"), "{arguments:?}: {done:?}");
    }
    let gateway = disk.run(folder, &["--restored"]);
    for token in acknowledged.iter().map(String::as_str).chain([minted]) {
        assert_eq!(gateway.status(token), 401, "everything issued so far is revoked");
    }
    let new = gateway.mint();
    assert!(number_of(&new) > number_of(minted) + 900_000, "{}", number_of(&new));
    assert_eq!(gateway.status(&new), 200);
    assert_eq!(revoke(&gateway, &gateway.mint()).status, 204);
    // And from then on it is a store like any other.
    let gateway = disk.run(gateway.kill(), &[]);
    assert_eq!(gateway.status(&new), 200);
    gateway.still_healthy();
}

#[test]
fn an_older_store_is_refused_until_it_is_said_to_be_restored() {
    let Faulty { disk, forge, gateway, _platform } = Faulty::start();
    let folder = gateway.stop();
    let backup = folder.dir.path().join("backup.db");
    fs::copy(beside(&folder, ""), &backup).expect("a copy");
    let gateway = disk.run(folder, &[]);
    let minted = gateway.mint();
    let token = forge.token(USER, 1);
    assert_eq!(revoke(&gateway, &token).status, 204);
    let folder = gateway.stop();
    fs::copy(&backup, beside(&folder, "")).expect("a copy");
    for suffix in ["-wal", "-shm"] {
        drop(fs::remove_file(beside(&folder, suffix)));
    }
    is_restored(&disk, folder, &minted, &[token]);
}

#[test]
fn a_new_store_goes_on_behind_the_one_that_is_lost() {
    let Faulty { disk, gateway, _platform, .. } = Faulty::start();
    let minted = gateway.mint();
    let folder = gateway.stop();
    for suffix in ["", "-wal", "-shm"] {
        drop(fs::remove_file(beside(&folder, suffix)));
    }
    let gateway = disk.run(folder, &["--init"]);
    let user = ["user", "add", "anna", "--email", "a@example.com", "--organization", "O", "--password-stdin"];
    disk.cli(&gateway.folder, &user, PASSWORD).ok();
    let new = eventually("a log in", || gateway.login("anna", PASSWORD));
    assert!(number_of(&new) > number_of(&minted) + 900_000, "{}", number_of(&new));
}

#[test]
fn a_log_that_is_put_back_or_emptied_by_a_checkpoint_is_not_a_fault() {
    let Faulty { disk: _disk, forge, gateway, _platform } = Faulty::start();
    assert_eq!(revoke(&gateway, &forge.token(USER, 1)).status, 204);
    let (log, away) = (beside(&gateway.folder, "-wal"), gateway.folder.dir.path().join("away"));
    fs::rename(&log, &away).expect("a log");
    let token = forge.token(USER, 2);
    revoke(&gateway, &token).is_away();
    fs::rename(&away, &log).expect("a log");
    none_waits(&gateway);
    assert_eq!(revoke(&gateway, &token).status, 204);
    eventually("/readyz", || (said(&gateway, "reasons").0 == 200).then_some(()));

    let other = rusqlite::Connection::open(beside(&gateway.folder, "")).expect("a store");
    eventually("a checkpoint that empties the log", || {
        let busy = other.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
        (busy == Ok(0)).then_some(())
    });
    for serial in 3..10 {
        assert_eq!(revoke(&gateway, &forge.token(USER, serial)).status, 204);
    }
    gateway.still_healthy();
}

#[test]
fn a_removed_log_is_told_of_and_a_command_beside_it_harms_nothing() {
    let Faulty { disk, forge, gateway, _platform } = Faulty::start();
    let acknowledged = forge.token(USER, 1);
    assert_eq!(revoke(&gateway, &acknowledged).status, 204);
    fs::remove_file(beside(&gateway.folder, "-wal")).expect("a log");
    // What it says is its own affair; what was acknowledged is not.
    finish(disk.under(gateway.folder.command(&["revoke", "user", "nobody"])), "");
    eventually("a line that says so", || {
        let lines = gateway.log.lines();
        lines.iter().any(|line| line.contains("the store's -wal file was removed")).then_some(())
    });
    let folder = gateway.kill();
    let refused = disk.cli(&folder, &["user", "list"], "");
    let arguments: &[&str] = if refused.code == Some(0) { &[] } else { &["--restored"] };
    let gateway = disk.run(folder, arguments);
    assert_eq!(gateway.status(&acknowledged), 401);
    gateway.still_healthy();
}
