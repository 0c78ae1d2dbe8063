//! A process that is paused, by a signal or with its machine: what was revoked meanwhile is in force for the requests that waited.

use crate::audit::token_id;
use crate::client::request;
use crate::command::eventually;
use crate::options::Options;
use crate::platform::Platform;
use crate::revocation::revoke_once;
use std::fs;
use std::thread;
use std::time::Duration;

/// Whether every thread of a process is stopped: the signal takes its time.
fn is_stopped(process: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{process}/task")).expect("threads");
    threads.flatten().all(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // The state follows the name, which may hold blanks.
        stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with('T'))
    })
}

#[test]
fn requests_that_waited_out_a_pause_meet_what_was_revoked_in_it() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    for round in 0..2 {
        let (revoked, valid) = (gateway.mint(), gateway.mint());
        let request = |token: &str| request("GET", "/ds-api/paused", &[("user-token", token)]);
        let mut clients: Vec<_> = (0..40).map(|_| gateway.client()).collect();
        for client in &mut clients {
            assert_eq!(client.exchange(request(&valid)).status, 200);
        }
        gateway.signal("STOP");
        eventually("every thread to stop", || is_stopped(gateway.process()).then_some(()));
        for (number, client) in clients.iter_mut().enumerate() {
            client.send(request(if number % 8 == 0 { &valid } else { &revoked }));
        }
        let done = revoke_once(&gateway.folder, &["token", &token_id(&revoked)]);
        assert_eq!(done.code, Some(75), "nobody answers for the gateway: {done:?}");
        // Long enough to be a pause.
        thread::sleep(Duration::from_millis(1200));
        gateway.signal("CONT");
        for (number, client) in clients.iter_mut().enumerate() {
            let status = client.answer().expect("an answer").status;
            assert_eq!(status, if number % 8 == 0 { 200 } else { 401 }, "round {round}, client {number}");
        }
    }
    gateway.still_healthy();
}
