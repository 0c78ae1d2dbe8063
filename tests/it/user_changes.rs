//! Changes of users that the platform is asked for through the gateway, and the tokens that they end.

use crate::client::{Answer, request, request_with};
use crate::command::{eventually, told_of_full_disks};
use crate::curl::{BOTH, curl};
use crate::gateway::{EMAIL, Gateway, PASSWORD, USER};
use crate::options::{Options, User};
use crate::platform::{Behaviour, Platform, Seen};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

const CHANGES: &str = r#"[
    { methods = ["PUT", "DELETE"], path = "/ds-api/users/{email}", ends = "{email}" },
    { methods = ["POST"], path = "/ds-api/names/{user}/disable", ends = "{user}" },
    { methods = ["PUT"], path = "/ds-api/me/password", ends = "self" },
    { methods = ["POST"], path = "/ds-api/organization/*", ends = "organization" },
    { path = "/ds-api/import", ends = "everybody" },
]"#;

fn options(platform: &Platform) -> Options {
    let other = User::new("other", PASSWORD, "other@example.com", "Other Org.");
    let changes = CHANGES.replace('\n', " ");
    Options::new(platform).user(other).set("platform", "user_changes", changes)
}

/// A platform that answers every request with that status.
fn answering(status: u16) -> Behaviour {
    Behaviour::Raw(format!("HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\n{{}}").into_bytes())
}

fn change(gateway: &Gateway, token: &str, method: &str, target: &str) -> Answer {
    gateway.exchange(request_with(method, target, &[("user-token", token)], b"{}"))
}

fn tokens(gateway: &Gateway) -> [String; 2] {
    [USER, "other"].map(|name| gateway.login(name, PASSWORD).expect("a token"))
}

#[test]
fn change_that_the_platform_made_ends_the_tokens_before_its_answer_is_there() {
    let platform = Platform::start(answering(200));
    let gateway = options(&platform).start();
    let address = EMAIL.to_uppercase().replace('@', "%40");
    for (method, target, ended) in [
        ("PUT", format!("/ds-api/users/{EMAIL}"), [true, false]),
        ("DELETE", format!("/DS-API/Users/{address}/"), [true, false]),
        ("DELETE", "/ds-api/users/other@example.com".to_owned(), [false, true]),
        ("DELETE", "/ds-api/users/nobody@example.com".to_owned(), [false, false]),
        ("POST", format!("/ds-api/names/{USER}/disable"), [true, false]),
        // The platform may fold names.
        ("POST", "/ds-api/names/OTHER/disable".to_owned(), [false, true]),
        ("PUT", "/ds-api/me/password".to_owned(), [true, false]),
        ("POST", "/ds-api/organization/rename".to_owned(), [true, false]),
        ("PATCH", "/ds-api/import".to_owned(), [true, true]),
        // What changes nothing.
        ("GET", format!("/ds-api/users/{EMAIL}"), [false, false]),
        ("PUT", "/ds-api/users".to_owned(), [false, false]),
        ("POST", "/ds-api/me/password".to_owned(), [false, false]),
    ] {
        let tokens = tokens(&gateway);
        assert_eq!(change(&gateway, &tokens[0], method, &target).status, 200, "{method} {target}");
        let statuses = tokens.each_ref().map(|token| gateway.status(token));
        assert_eq!(statuses, ended.map(|ended| if ended { 401 } else { 200 }), "{method} {target}");
        assert_eq!(
            self::tokens(&gateway).map(|token| gateway.status(&token)),
            [200, 200],
            "{method} {target}"
        );
    }
    let trail = gateway.folder.cli(&["audit", "list"], "").ok();
    assert!(trail.contains("platform_change"), "{trail}");
}

#[test]
fn only_a_clear_refusal_of_the_platform_spares_the_tokens() {
    let platform = Platform::start(answering(200));
    let gateway = options(&platform).set("platform", "read_timeout", "\"1s\"").start();
    let target = format!("/ds-api/users/{EMAIL}");
    for (behaviour, status, ended) in [
        (answering(400), 400, false),
        (answering(401), 401, false),
        (answering(403), 403, false),
        (answering(404), 404, false),
        (answering(409), 409, false),
        (answering(408), 408, true),
        (answering(204), 204, true),
        (answering(302), 302, true),
        (answering(500), 500, true),
        (answering(503), 503, true),
        (Behaviour::Close, 502, true),
        (Behaviour::Reset, 502, true),
        (Behaviour::Never, 504, true),
        (Behaviour::Raw(b"nonsense\r\n\r\n".to_vec()), 502, true),
    ] {
        platform.behave(answering(200));
        let [token, _] = tokens(&gateway);
        platform.behave(behaviour);
        let answer = change(&gateway, &token, "PUT", &target);
        assert_eq!(answer.status, status);
        // Those of the platform that acknowledge a cutoff; the gateway's own say nothing of it.
        let is_told = ended && !matches!(status, 502 | 504);
        assert_eq!(answer.values("x-ds-sequence").len(), usize::from(is_told), "{answer:?}");
        platform.behave(answering(200));
        assert_eq!(gateway.status(&token), if ended { 401 } else { 200 }, "{status}");
    }
}

/// The first time may have made the change, and then there is nothing left to be changed.
#[test]
fn refusal_of_a_change_that_was_sent_twice_ends_the_tokens() {
    let platform = Platform::start(Behaviour::Custom(Arc::new(|seen: &Seen, stream: &mut TcpStream| {
        if seen.method == "DELETE" {
            return stream.write_all(b"HTTP/1.1 404 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
        // The next request of the connection is read, and has no answer.
        stream.read(&mut [0; 4096]).map(drop)
    })));
    // The lane has connections of its own.
    let options = options(&platform).set("server", "threads", "1").set("server", "fast_lane", "false");
    let gateway = options.start();
    let [token, other] = tokens(&gateway);
    assert_eq!(gateway.status(&other), 200);
    assert_eq!(change(&gateway, &token, "DELETE", &format!("/ds-api/users/{EMAIL}")).status, 404);
    assert_eq!(gateway.metric("ds_gateway_platform_retries_total", &["outcome=\"sent\""]), 1.0);
    assert_eq!(gateway.status(&token), 401);
}

#[test]
fn client_that_leaves_does_not_keep_its_change_from_ending_tokens() {
    let may_answer = Arc::new(AtomicBool::new(false));
    let waits = Arc::clone(&may_answer);
    let platform =
        Platform::start(Behaviour::Custom(Arc::new(move |seen: &Seen, stream: &mut TcpStream| {
            while seen.method == "PUT" && !waits.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(10));
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        })));
    let gateway = options(&platform).start();
    let [token, other] = tokens(&gateway);
    let target = format!("/ds-api/users/{EMAIL}");
    let mut client = gateway.client();
    client.send(request_with("PUT", &target, &[("user-token", &token)], b"{}"));
    eventually("the change at the platform", || (!platform.requests().is_empty()).then_some(()));
    drop(client);
    thread::sleep(Duration::from_millis(300));
    // The platform is still at it: an old password could become a token now, which must end with the change.
    let between = gateway.mint();
    may_answer.store(true, Ordering::Relaxed);
    eventually("the tokens to end", || {
        ([&token, &between].map(|token| gateway.status(token)) == [401, 401]).then_some(())
    });
    assert_eq!(gateway.status(&other), 200);
    assert_eq!(gateway.status(&gateway.mint()), 200);
}

#[test]
fn change_that_is_cut_ends_the_tokens() {
    let platform = Platform::start(Behaviour::Custom(Arc::new(|seen: &Seen, stream: &mut TcpStream| {
        if seen.method == "PUT" {
            return stream.read(&mut [0; 1]).map(drop);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    })));
    let gateway = options(&platform).set("limits", "request_duration", "\"1s\"").https().start();
    let url = format!("https://{}/ds-api/users/{EMAIL}", gateway.https());
    for protocol in BOTH {
        let token = gateway.mint();
        let field = format!("user-token: {token}");
        let fetched = curl(protocol, &url, &["-X", "PUT", "-H", &field, "-d", "{}"], "");
        assert_eq!(fetched.status, 0, "{fetched:?}");
        eventually("the token to end", || (gateway.status(&token) == 401).then_some(()));
        assert_eq!(gateway.status(&gateway.mint()), 200);
    }
}

#[test]
fn change_whose_gateway_died_ends_the_tokens_at_the_next_start() {
    let platform = Platform::start(answering(200));
    let gateway = options(&platform).start();
    let [token, other] = tokens(&gateway);
    platform.behave(Behaviour::Never);
    let mut client = gateway.client();
    client.send(request("DELETE", &format!("/ds-api/users/{EMAIL}"), &[("user-token", &token)]));
    eventually("the change at the platform", || {
        platform.requests().iter().any(|seen| seen.method == "DELETE").then_some(())
    });
    platform.behave(answering(200));
    assert_eq!(gateway.status(&token), 200);
    let gateway = gateway.kill().run(&[]);
    assert_eq!([&token, &other].map(|token| gateway.status(token)), [401, 200]);
    assert_eq!(gateway.status(&gateway.mint()), 200);
    // The platform may still be at it: tokens that come before it is done end later.
    let store = rusqlite::Connection::open(gateway.folder.state().join("gateway.db")).expect("a store");
    let noted: u64 =
        store.query_row("SELECT count(*) FROM user_changes", [], |row| row.get(0)).expect("a count");
    assert_eq!(noted, 1);
}

/// A gateway whose disk can be filled.
fn with_a_disk(platform: &Platform) -> Gateway {
    let folder = options(platform).folder();
    for (name, email) in [(USER, EMAIL), ("other", "other@example.com")] {
        folder.add(&User::new(name, PASSWORD, email, "Main Org."));
    }
    let command = told_of_full_disks(&folder.command(&["run"]));
    Gateway::start(folder, command)
}

#[test]
fn change_that_cannot_be_noted_is_not_sent() {
    let platform = Platform::start(answering(404));
    let gateway = with_a_disk(&platform);
    let token = gateway.mint();
    gateway.disk("4096");
    // Pages that the store has already may still be written over.
    let refused = eventually("a change that is refused", || {
        let before = platform.requests().len();
        let answer = change(&gateway, &token, "PUT", &format!("/ds-api/users/{EMAIL}"));
        let is_sent = platform.requests().len() > before;
        assert_eq!(answer.status == 503, !is_sent, "{answer:?}");
        (answer.status == 503).then_some(answer)
    });
    refused.is_away();
    assert_eq!(change(&gateway, &token, "GET", &format!("/ds-api/users/{EMAIL}")).status, 404);
    gateway.disk("unlimited");
    assert_eq!(gateway.status(&token), 404);
}

#[test]
fn change_that_is_made_and_cannot_be_written_is_in_force_and_survives() {
    let (reached, may_answer) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(true)));
    let (tells, waits) = (Arc::clone(&reached), Arc::clone(&may_answer));
    let platform =
        Platform::start(Behaviour::Custom(Arc::new(move |seen: &Seen, stream: &mut TcpStream| {
            if seen.method == "PUT" {
                tells.store(true, Ordering::Relaxed);
                while !waits.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(5));
                }
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        })));
    let gateway = with_a_disk(&platform);
    let target = format!("/ds-api/users/{EMAIL}");
    let token = eventually("a change that is not durable", || {
        gateway.disk("unlimited");
        let token = gateway.mint();
        reached.store(false, Ordering::Relaxed);
        may_answer.store(false, Ordering::Relaxed);
        let mut client = gateway.client();
        client.send(request_with("PUT", &target, &[("user-token", &token)], b"{}"));
        eventually("the change at the platform", || reached.load(Ordering::Relaxed).then_some(()));
        gateway.disk("4096");
        may_answer.store(true, Ordering::Relaxed);
        let answer = client.answer().expect("an answer");
        // In force before the answer is there, whatever the disk says.
        assert_eq!((answer.status, gateway.status(&token)), (200, 401));
        let is_pending = !answer.values("x-ds-gateway-warning").is_empty();
        // What is not durable has no sequence.
        assert_eq!(answer.values("x-ds-sequence").is_empty(), is_pending, "{answer:?}");
        is_pending.then_some(token)
    });
    // Nothing but the note of it is on the disk.
    let gateway = gateway.kill().run(&[]);
    assert_eq!(gateway.status(&token), 401);
    assert_eq!(gateway.status(&gateway.mint()), 200);
}

#[test]
fn change_over_http2_and_in_chunks_ends_tokens_too() {
    let platform = Platform::start(answering(200));
    let gateway = options(&platform).https().start();
    let target = format!("/ds-api/users/{EMAIL}");
    let url = format!("https://{}{target}", gateway.https());
    for protocol in BOTH {
        let token = gateway.mint();
        let field = format!("user-token: {token}");
        let answer = curl(protocol, &url, &["-X", "PUT", "-H", &field, "-d", "{}"], "");
        assert_eq!(answer.status, 200, "{protocol:?}");
        assert_eq!(gateway.status(&token), 401, "{protocol:?}");
    }
    let token = gateway.mint();
    let chunked = format!(
        "PUT {target} HTTP/1.1\r\nHost: x\r\nuser-token: {token}\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n"
    );
    assert_eq!(gateway.exchange(chunked).status, 200);
    assert_eq!(gateway.status(&token), 401);
}
