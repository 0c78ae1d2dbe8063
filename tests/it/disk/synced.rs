//! An acknowledgement is worth what a sync that succeeded is worth.

use super::{Disk, Faulty, longer_than, revoke};
use crate::command::{Folder, eventually};
use crate::gateway::USER;
use crate::platform::Platform;
use std::thread;
use std::time::{Duration, Instant};

/// The power goes; every token whose revocation was acknowledged must be refused after it is back.
#[track_caller]
fn holds_without_power(disk: &Disk, folder: Folder, acknowledged: &[String], valid: &[String]) {
    disk.is("ok");
    disk.loses_its_power(&folder);
    let gateway = disk.run(folder, &[]);
    let lost: Vec<&String> = acknowledged.iter().filter(|token| gateway.status(token) != 401).collect();
    assert!(lost.is_empty(), "{} of {} acknowledged revocations are lost", lost.len(), acknowledged.len());
    for token in valid {
        assert_eq!(gateway.status(token), 200, "and nothing else is refused");
    }
    gateway.still_healthy();
}

#[test]
fn nothing_is_acknowledged_while_no_sync_succeeds_and_all_of_it_holds_after_a_power_cut() {
    let Faulty { disk, forge, gateway, _platform } = Faulty::start();
    let mut acknowledged = Vec::new();
    let mut serial = 0;
    let neighbour = forge.token(USER, 1_000_000);
    for _ in 0..3 {
        let before = forge.token(USER, serial);
        assert_eq!(revoke(&gateway, &before).status, 204);
        acknowledged.push(before);
        let refused: Vec<String> = (1..=3).map(|next| forge.token(USER, serial + next)).collect();
        serial += 4;
        disk.is("fail");
        // Longer than a heartbeat, a retry and the wait for a commit.
        let end = longer_than(3);
        while Instant::now() < end {
            for token in &refused {
                revoke(&gateway, token).is_away();
                assert_eq!(gateway.status(token), 401, "in force all the same");
            }
            thread::sleep(Duration::from_millis(50));
        }
        disk.is("ok");
        for token in refused {
            eventually("an acknowledgement", || (revoke(&gateway, &token).status == 204).then_some(()));
            acknowledged.push(token);
        }
    }
    holds_without_power(&disk, gateway.kill(), &acknowledged, &[neighbour]);
}

/// A store whose log has a second revocation, which no disk has; the three tokens are the revoked ones and a neighbour.
fn killed_before_the_sync() -> Option<(Disk, Platform, Folder, [String; 3])> {
    let Faulty { disk, forge, gateway, _platform } = Faulty::silent();
    let tokens = [1, 2, 3].map(|serial| forge.token(USER, serial));
    assert_eq!(revoke(&gateway, &tokens[0]).status, 204);
    disk.is("fail");
    revoke(&gateway, &tokens[1]).is_away();
    let folder = gateway.kill();
    // Somebody who has the store open keeps the log from being emptied, which would sync it by the way.
    let reader = rusqlite::Connection::open(folder.state().join("gateway.db")).expect("a store");
    let found: u64 =
        reader.query_row("SELECT count(*) FROM revoked_tokens", [], |row| row.get(0)).expect("a number");
    // Never closed: the last one to close it would sync it.
    std::mem::forget(reader);
    (found == 2).then_some((disk, _platform, folder, tokens))
}

/// What was written and never synced is found by the next process; it must not be believed there either.
#[test]
fn a_revocation_found_after_a_restart_is_synced_before_it_is_acknowledged() {
    for by_command in [false, true] {
        // The kill may hit the gateway while it writes the log again, with the one that was acknowledged alone in it.
        let found = (0..10).find_map(|_| killed_before_the_sync());
        let (disk, _platform, folder, [first, token, neighbour]) =
            found.expect("a log with what was never synced");
        disk.is("ok");
        let folder = if by_command {
            let done = disk.cli(&folder, &["revoke", "token", "--token-file", "-"], &token);
            assert!(done.stdout.starts_with("revoked; active on"), "{done:?}");
            folder
        } else {
            let gateway = disk.run(folder, &[]);
            assert_eq!(revoke(&gateway, &token).status, 204);
            gateway.kill()
        };
        holds_without_power(&disk, folder, &[first, token], &[neighbour]);
    }
}
