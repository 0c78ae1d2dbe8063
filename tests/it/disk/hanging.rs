//! A sync that does not return.

use super::{Faulty, fault_seconds, longer_than, none_waits, revoke, said};
use crate::command::{eventually, within};
use crate::gateway::{PASSWORD, USER};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn while_a_sync_hangs_changes_are_503_revocations_are_in_force_and_requests_go_on() {
    let Faulty { disk, forge, gateway, _platform } = Faulty::start();
    let [token, second, other] = [1, 2, 3].map(|serial| forge.token(USER, serial));
    disk.is("hang");
    // Longer than a caller waits, more than twice.
    let end = longer_than(12);
    thread::scope(|scope| {
        let revoked = scope.spawn(|| revoke(&gateway, &token).is_away());
        let minted = scope.spawn(|| gateway.log_in(USER, PASSWORD).is_away());
        eventually("it to be in force", || (gateway.status(&token) == 401).then_some(()));
        assert_eq!(gateway.status(&other), 200);
        revoked.join().expect("an answer");
        minted.join().expect("an answer");
    });
    revoke(&gateway, &second).is_away();
    while Instant::now() < end {
        assert_eq!([&token, &second, &other].map(|token| gateway.status(token)), [401, 401, 200]);
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(gateway.metric("ds_gateway_revocations_pending", &[]), 2.0);
    assert!(gateway.metric("ds_gateway_store_commit_age_seconds", &[]) > 5.0);
    assert!(gateway.metric("ds_gateway_store_queue_length", &[]) >= 1.0);
    let (status, reasons) = said(&gateway, "reasons");
    assert!(status == 503 && reasons.contains("revocations are waiting"), "{status} {reasons}");
    let (_, warnings) = said(&gateway, "warnings");
    assert!(warnings.contains("has been running for"), "{warnings}");
    assert_eq!(gateway.admin("/healthz").status, 200);

    disk.is("ok");
    none_waits(&gateway);
    for token in [&token, &second] {
        assert_eq!(revoke(&gateway, token).status, 204);
    }
    eventually("nothing to wait", || {
        let waiting = gateway.metric("ds_gateway_store_queue_length", &[]);
        (waiting == 0.0 && said(&gateway, "warnings").1 == "[]").then_some(())
    });
    gateway.still_healthy();
    let gateway = disk.run(gateway.kill(), &[]);
    assert_eq!([&token, &second, &other].map(|token| gateway.status(token)), [401, 401, 200]);
}

#[test]
fn a_command_waits_longer_for_a_sync_that_hangs_and_not_for_ever() {
    let Faulty { disk, forge, gateway, _platform } = Faulty::start();
    let token = forge.token(USER, 1);
    let hold = |seconds| {
        disk.is("hang");
        let mut command = disk.under(gateway.folder.command(&["revoke", "user", USER]));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a command");
        let ended = within(seconds, || child.try_wait().expect("a child"));
        disk.is("ok");
        (ended, child.wait_with_output().expect("an end"))
    };
    // Longer than a gateway's own callers wait.
    let (ended, output) = hold(8);
    assert_eq!(ended, None, "it waits: {output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("revoked; active on"), "{output:?}");
    eventually("the cutoff", || (gateway.status(&token) == 401).then_some(()));
    if fault_seconds() > 35 {
        let (ended, output) = hold(fault_seconds());
        assert_eq!(ended.and_then(|status| status.code()), Some(75), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("not revoked") && said.contains("in time"), "{said}");
    }
}
