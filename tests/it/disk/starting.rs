//! Starts beside a command that is stopped, on a disk that is full, and stores that could not be opened again.

use super::{Faulty, longer_than, revoke, said};
use crate::command::{eventually, held_to_modes, within};
use crate::gateway::{Gateway, PASSWORD, USER};
use std::fs::{self, File, Permissions};
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::time::Instant;

/// Starts a command while the state folder is locked; gives its first line and what follows the release, if it is released.
fn beside_a_lock(lock: &File, mut command: Command, release: bool) -> (String, Option<i32>, String) {
    lock.lock().expect("the lock");
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("a command");
    let mut stderr = BufReader::new(child.stderr.take().expect("stderr"));
    let mut first = String::new();
    // It says so before anything ends the wait; `run` has said other things before.
    while !first.contains("lock") {
        first.clear();
        assert!(stderr.read_line(&mut first).expect("a line") > 0, "it says nothing of the lock");
    }
    if release {
        lock.unlock().expect("a lock");
    }
    let mut rest = String::new();
    // What revokes is patient for half a minute.
    let code = within(60, || child.try_wait().expect("a child")).expect("an end").code();
    stderr.read_to_string(&mut rest).expect("text");
    lock.unlock().expect("a lock");
    (first, code, rest)
}

#[test]
fn a_state_folder_that_is_locked_is_told_of_at_once_and_waited_for_ten_seconds() {
    let Faulty { disk: _disk, gateway, _platform, .. } = Faulty::start();
    let folder = gateway.stop();
    let lock = File::open(folder.state().join("lock")).expect("a lock");
    let holder = std::process::id().to_string();
    let says_why = |text: &str| text.contains("state/lock is locked by") && text.contains(&holder);

    let (first, code, rest) = beside_a_lock(&lock, folder.command(&["user", "list"]), true);
    assert!(first.contains("waiting") && says_why(&first), "{first}");
    assert_eq!(code, Some(0), "{rest}");
    for arguments in [&["user", "list"][..], &["revoke", "all"], &["run"]] {
        let (first, code, rest) = beside_a_lock(&lock, folder.command(arguments), false);
        assert!(first.contains("waiting") && says_why(&first), "{arguments:?}: {first}");
        assert_eq!(code, Some(75), "{arguments:?}: {rest}");
        assert!(says_why(&rest) && rest.contains("try again"), "{arguments:?}: {rest}");
    }
    folder.run(&[]).still_healthy();
}

/// Serving needs only reads.
#[test]
fn a_start_on_a_full_disk_serves_and_revokes_in_memory_until_there_is_room() {
    for crashed in [false, true] {
        let Faulty { disk, forge, gateway, _platform } = Faulty::start();
        let [gone, token, other] = [1, 2, 3].map(|serial| forge.token(USER, serial));
        assert_eq!(revoke(&gateway, &gone).status, 204);
        let folder = if crashed { gateway.kill() } else { gateway.stop() };
        disk.is("full");
        let gateway = disk.run(folder, &[]);
        let end = longer_than(3);
        while Instant::now() < end {
            revoke(&gateway, &token).is_away();
            assert_eq!([&gone, &token, &other].map(|token| gateway.status(token)), [401, 401, 200]);
        }
        gateway.log_in(USER, PASSWORD).is_away();
        assert!(said(&gateway, "warnings").1.contains("full"), "{:?}", said(&gateway, "warnings"));
        disk.is("ok");
        eventually("an acknowledgement", || (revoke(&gateway, &token).status == 204).then_some(()));
        eventually("/readyz", || (said(&gateway, "reasons").0 == 200).then_some(()));
        gateway.still_healthy();
    }
}

#[test]
fn a_store_that_could_not_be_opened_again_shows_in_readyz_while_it_serves() {
    let Faulty { disk: _disk, forge, gateway, _platform } = Faulty::start();
    let folder = gateway.stop();
    let command = held_to_modes(folder.command(&["run"]));
    let gateway = Gateway::start(folder, command);
    for suffix in ["", "-wal", "-shm"] {
        let path = gateway.folder.state().join(format!("gateway.db{suffix}"));
        let mode = |mode| fs::set_permissions(&path, Permissions::from_mode(mode)).expect("a mode");
        mode(0o000);
        eventually("a warning", || {
            let (status, warnings) = said(&gateway, "warnings");
            let name = format!("gateway.db{suffix} cannot be opened again");
            (status == 200 && warnings.contains(&name)).then_some(())
        });
        let token = forge.token(USER, suffix.len() as u64);
        assert_eq!(revoke(&gateway, &token).status, 204, "{suffix}: what is open stays so");
        mode(0o600);
        eventually("no warning", || (said(&gateway, "warnings").1 == "[]").then_some(()));
    }
    gateway.still_healthy();
}

/// The disk of this module is one: what it loses is lost, what it has is kept.
#[test]
fn the_disk_of_these_tests_loses_what_was_not_synced() {
    let Faulty { disk, forge, gateway, _platform } = Faulty::start();
    let [kept, lost] = [1, 2].map(|serial| forge.token(USER, serial));
    assert_eq!(revoke(&gateway, &kept).status, 204);
    disk.is("fail");
    revoke(&gateway, &lost).is_away();
    let folder = gateway.kill();
    disk.is("ok");
    disk.loses_its_power(&folder);
    let gateway = disk.run(folder, &[]);
    assert_eq!([&kept, &lost].map(|token| gateway.status(token)), [401, 200]);
}
