//! How a gateway stops: it says so first, finishes what is in flight, and is gone as soon as it may be.

use crate::client::{Client, request};
use crate::command::{NEVER, eventually};
use crate::curl::{Protocol, curl};
use crate::gateway::Gateway;
use crate::http2::{token_field, url};
use crate::options::Options;
use crate::platform::{Behaviour, Platform};
use crate::wire::Fault;
use std::io::Write as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// A platform that answers each request only when it is told to.
fn held() -> (Platform, Sender<()>) {
    let (go_on, told) = channel();
    let told = Mutex::new(told);
    let platform = Platform::start(Behaviour::Custom(Arc::new(move |_, stream| {
        told.lock().expect("a lock").recv().map_err(|_| std::io::ErrorKind::Other)?;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nheld")
    })));
    (platform, go_on)
}

/// A request that has reached the platform and is not answered.
fn in_flight(platform: &Platform, gateway: &Gateway, token: &str, target: &str) -> Client {
    let mut client = gateway.client();
    client.send(request("GET", target, &[("user-token", token)]));
    platform.waits_for(target);
    client
}

/// Waits until `/readyz` says that the gateway is stopping.
fn says_so(gateway: &Gateway) {
    let answer =
        eventually("/readyz to turn", || gateway.try_admin("/readyz").filter(|answer| answer.status != 200));
    assert_eq!(answer.status, 503);
    let json = answer.json();
    assert_eq!(json["ready"], false, "{json}");
    assert!(json["reasons"].to_string().contains("stopping"), "{json}");
}

#[test]
fn a_stop_is_announced_before_anything_is_refused() {
    let platform = Platform::echo();
    let mut gateway = Options::new(&platform).https().set("server", "drain_delay", NEVER).start();
    let token = gateway.mint();
    let get = |target: &str| request("GET", target, &[("user-token", &token)]);
    let mut kept = gateway.client();
    assert!(!kept.exchange(get("/before")).says_close());
    gateway.signal("TERM");
    says_so(&gateway);
    // All of this is in the delay: what is new, what is kept, and what the gateway answers itself.
    let answer = kept.exchange(get("/kept"));
    assert_eq!((answer.status, answer.says_close()), (200, true));
    kept.is_closed();
    let answer = gateway.exchange(get("/new"));
    assert_eq!((answer.status, answer.says_close()), (200, true));
    let answer = gateway.exchange(request("GET", "/refused", &[]));
    assert_eq!((answer.status, answer.says_close()), (401, true));
    let answer = curl(Protocol::Http2, &url(&gateway, "/http2"), &["-H", &token_field(&token)], "");
    answer.is(200);
    assert_eq!(gateway.admin("/healthz").status, 200, "it is alive all the while");
    gateway.signal("TERM");
    assert_eq!(gateway.ends(), Some(1), "a second signal cuts the delay short");
}

#[test]
fn a_stop_takes_no_less_than_its_drain_delay() {
    let platform = Platform::echo();
    let mut gateway = Options::new(&platform).set("server", "drain_delay", "\"2s\"").start();
    let began = Instant::now();
    gateway.signal("TERM");
    says_so(&gateway);
    assert_eq!(gateway.ends(), Some(0));
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
}

#[test]
fn what_is_in_flight_is_finished_and_then_the_process_ends_at_once() {
    let (platform, go_on) = held();
    // That it ends although the grace is not over shows that nothing waits for the grace.
    let mut gateway = Options::new(&platform).https().set("server", "grace", NEVER).start();
    let token = gateway.mint();
    let mut slow = in_flight(&platform, &gateway, &token, "/slow");
    let field = token_field(&token);
    let address = url(&gateway, "/streamed");
    let streamed = thread::spawn(move || curl(Protocol::Http2, &address, &["-H", &field], ""));
    platform.waits_for("/streamed");
    gateway.signal("TERM");
    eventually("a line that says so", || {
        gateway.log.lines().iter().any(|line| line.contains("stopping")).then_some(())
    });
    go_on.send(()).expect("a platform");
    go_on.send(()).expect("a platform");
    let answer = slow.answer().expect("an answer");
    assert_eq!((answer.status, answer.text().as_str(), answer.says_close()), (200, "held", true));
    slow.is_closed();
    assert_eq!(streamed.join().expect("a client").is(200).text(), "held");
    assert_eq!(gateway.ends(), Some(0));
    let is_said = |word: &str| gateway.log.lines().iter().any(|line| line.contains(word));
    eventually("its last line", || is_said("\"stopped\"").then_some(()));
}

#[test]
fn an_idle_gateway_ends_at_once_even_with_clients_connected() {
    let platform = Platform::echo();
    // No limit of theirs ends the connections before the stop does.
    let mut gateway = Options::new(&platform)
        .set("server", "grace", NEVER)
        .set("limits", "header_timeout", NEVER)
        .set("limits", "keepalive_timeout", NEVER)
        .start();
    let token = gateway.mint();
    let mut idle = gateway.client();
    assert_eq!(idle.exchange(request("GET", "/x", &[("user-token", &token)])).status, 200);
    let mut silent = gateway.client();
    let mut half = gateway.client();
    half.send("GET /half HTTP/1.1\r\nHost:");
    gateway.signal("TERM");
    assert_eq!(gateway.ends(), Some(0));
    idle.is_closed();
    silent.is_closed();
    platform.never_saw("/half");
}

#[test]
fn what_does_not_end_within_the_grace_is_cut() {
    let (platform, _go_on) = held();
    let mut gateway = Options::new(&platform)
        .set("server", "grace", "\"1s\"")
        .set("platform", "read_timeout", NEVER)
        .start();
    let token = gateway.mint();
    let mut slow = in_flight(&platform, &gateway, &token, "/slow");
    let began = Instant::now();
    gateway.signal("TERM");
    assert_eq!(gateway.ends(), Some(0));
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(slow.answer().map(|answer| answer.status), Err(Fault::Closed));
    let is_told = |line: &String| line.contains("grace") && line.contains("warn");
    eventually("a warning", || gateway.log.lines().iter().any(is_told).then_some(()));
}

#[test]
fn a_second_signal_or_an_interrupt_ends_it_at_once() {
    for (delay, signals, code) in [
        ("\"0s\"", &["TERM", "TERM"][..], 1),
        ("\"0s\"", &["TERM", "INT"], 1),
        (NEVER, &["TERM", "TERM"], 1),
        (NEVER, &["INT"], 0),
    ] {
        let (platform, _go_on) = held();
        let options = Options::new(&platform).set("server", "drain_delay", delay);
        let mut gateway =
            options.set("server", "grace", NEVER).set("platform", "read_timeout", NEVER).start();
        let token = gateway.mint();
        let mut slow = in_flight(&platform, &gateway, &token, "/slow");
        for (number, signal) in signals.iter().enumerate() {
            if number > 0 {
                eventually("the first signal to be heard", || {
                    gateway.log.lines().iter().any(|line| line.contains("stopping")).then_some(())
                });
            }
            gateway.signal(signal);
        }
        assert_eq!(gateway.ends(), Some(code), "{signals:?}");
        assert_eq!(slow.answer().map(|answer| answer.status), Err(Fault::Closed), "{signals:?}");
    }
}

#[test]
fn a_client_that_heeds_readyz_sees_no_failure() {
    let platform = Platform::echo();
    // However slowly the clients run, they have asked before it is over.
    let mut gateway = Options::new(&platform).set("server", "drain_delay", NEVER).start();
    let token = gateway.mint();
    let requests = AtomicU32::new(0);
    let failures = Mutex::new(Vec::new());
    let ready = |gateway: &Gateway| gateway.try_admin("/readyz").is_some_and(|answer| answer.status == 200);
    thread::scope(|scope| {
        for kept in [true, false, true, false] {
            let (gateway, requests, failures, token) = (&gateway, &requests, &failures, token.as_str());
            scope.spawn(move || {
                let mut client: Option<Client> = None;
                // As a balancer does: it asks, and sends a few requests before it asks again.
                while ready(gateway) {
                    for _ in 0..5 {
                        let connection = client.get_or_insert_with(|| gateway.client());
                        connection.send(request("GET", "/loop", &[("user-token", token)]));
                        match connection.answer() {
                            Ok(answer) if answer.status == 200 => {
                                requests.fetch_add(1, Ordering::Relaxed);
                                if !kept || answer.says_close() {
                                    client = None;
                                }
                            }
                            other => failures.lock().expect("a lock").push(format!("{other:?}")),
                        }
                    }
                }
            });
        }
        eventually("a busy gateway", || (requests.load(Ordering::Relaxed) > 200).then_some(()));
        gateway.signal("TERM");
    });
    let failures = failures.into_inner().expect("a lock");
    assert!(failures.is_empty(), "{} of {requests:?}: {failures:?}", failures.len());
    gateway.signal("TERM");
    assert_eq!(gateway.ends(), Some(1), "a second signal cuts the delay short");
    let seen = platform.requests().len();
    assert_eq!(seen, requests.load(Ordering::Relaxed) as usize, "each once");
}

#[test]
fn an_upload_that_is_on_its_way_is_finished_too() {
    let platform = Platform::echo();
    let mut gateway = Options::new(&platform).start();
    let token = gateway.mint();
    let begin = |framing, target, first: &str| {
        let mut client = gateway.client();
        let head = request("PUT", target, &[("user-token", &token), framing]);
        client.send([head, first.as_bytes().to_vec()].concat());
        client
    };
    // The lane reads a short body before it asks the platform; the engine sends on what comes.
    let mut sized = begin(("Content-Length", "12"), "/sized", "first-");
    let mut client = begin(("Transfer-Encoding", "chunked"), "/upload", "6\r\nfirst-\r\n");
    platform.waits_for("first-");
    gateway.signal("TERM");
    eventually("a line that says so", || {
        gateway.log.lines().iter().any(|line| line.contains("stopping")).then_some(())
    });
    client.send("6\r\nsecond\r\n0\r\n\r\n");
    sized.send("second");
    for (mut client, target) in [(client, "/upload"), (sized, "/sized")] {
        let answer = client.answer().expect("an answer");
        assert_eq!((answer.status, answer.says_close()), (200, true), "{target}");
        assert_eq!(platform.request(target).body, b"first-second", "{target}");
    }
    assert_eq!(gateway.ends(), Some(0));
}

#[test]
fn the_admin_listener_answers_until_the_end() {
    let (platform, go_on) = held();
    let mut gateway = Options::new(&platform).start();
    let token = gateway.mint();
    let mut slow = in_flight(&platform, &gateway, &token, "/slow");
    gateway.signal("TERM");
    says_so(&gateway);
    eventually("no more connections", || Client::try_connect(gateway.http()).is_err().then_some(()));
    says_so(&gateway);
    assert_eq!(gateway.metric("ds_gateway_in_flight_requests", &[]), 1.0);
    go_on.send(()).expect("a platform");
    assert_eq!(slow.answer().map(|answer| answer.status), Ok(200));
    assert_eq!(gateway.ends(), Some(0));
}

#[test]
fn a_hangup_without_a_terminal_ends_nothing() {
    let (platform, go_on) = held();
    let mut gateway = Options::new(&platform).start();
    let token = gateway.mint();
    let mut slow = in_flight(&platform, &gateway, &token, "/slow");
    gateway.signal("HUP");
    eventually("a line that says so", || {
        gateway.log.lines().iter().any(|line| line.contains("the configuration was read again")).then_some(())
    });
    go_on.send(()).expect("a platform");
    let answer = slow.answer().expect("an answer");
    assert_eq!((answer.status, answer.says_close()), (200, false));
    platform.behave(Behaviour::Echo);
    gateway.still_healthy();
    gateway.signal("TERM");
    assert_eq!(gateway.ends(), Some(0));
}
