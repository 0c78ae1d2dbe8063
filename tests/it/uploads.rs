//! Clients that send more, or otherwise, than a simple one would: they get their answer all the same.

use crate::client::{basic, request, request_with};
use crate::command::eventually;
use crate::contract::ENDPOINT;
use crate::curl::{BOTH, Fetched, Protocol, curl};
use crate::gateway::{Gateway, PASSWORD, USER};
use crate::http2::{tls_deployment, token_field, url};
use crate::options::Options;
use crate::platform::{Behaviour, Platform};
use std::fs;
use std::io::Write as _;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// Sizes around the window of HTTP/2 and the bound of what is read away.
const SIZES: [usize; 5] = [10, 65_535, 65_537, 1_000_000, 50_000_000];

#[test]
fn a_refused_upload_of_any_size_gets_its_401_over_both_protocols() {
    let (platform, gateway, _) = tls_deployment();
    let dir = TempDir::new().expect("a temporary folder");
    let file = dir.path().join("body");
    let path = file.to_str().expect("a path");
    for size in SIZES {
        let body = "b".repeat(size);
        fs::write(&file, &body).expect("a file");
        for protocol in BOTH {
            for target in ["/upload", "/public/upload", ENDPOINT] {
                let method = if target == "/upload" { "PUT" } else { "POST" };
                let refused = |arguments: &[&str], input: &str| {
                    let arguments = [&["-X", method, "-H", "Expect:"], arguments].concat();
                    let answer = curl(protocol, &url(&gateway, target), &arguments, input);
                    let heard = answer.exit == Some(92) && answer.stderr.contains("PROTOCOL_ERROR");
                    // curl 7 stops sending at the answer, short of the length that it announced. That is an
                    // error of its own stream, and now and then it hears so before the body of the answer.
                    if heard && answer.status == 401 {
                        return;
                    }
                    assert_eq!(answer.exit, Some(0), "{protocol:?} {target} {size} {answer:?}");
                    answer.is_error(401);
                };
                refused(&["-T", path], "");
                refused(&["-T", "-"], &body);
            }
        }
    }
    assert_eq!(platform.bytes(), 0, "{:?}", platform.requests());
    gateway.still_healthy();
}

#[test]
fn a_refused_upload_gets_its_401_however_slowly_it_comes() {
    let (platform, gateway, _) = tls_deployment();
    let dir = TempDir::new().expect("a temporary folder");
    let file = dir.path().join("body");
    let body = "b".repeat(300_000);
    fs::write(&file, &body).expect("a file");
    let path = file.to_str().expect("a path");
    let clients = BOTH.map(|protocol| [(protocol, path, ""), (protocol, "-", body.as_str())]);
    let target = url(&gateway, "/slow");
    let wrong: Vec<String> = thread::scope(|scope| {
        let clients = clients.as_flattened().iter().map(|&(protocol, how, input)| {
            // Three seconds for all of it: longer than the gateway reads what it has refused.
            let arguments = ["-H", "Expect:", "--limit-rate", "100k", "-T", how];
            let target = &target;
            let client = scope.spawn(move || curl(protocol, target, &arguments, input));
            (format!("{protocol:?} {how}"), client)
        });
        let clients: Vec<_> = clients.collect();
        let answers = clients.into_iter().map(|(name, client)| (name, client.join().expect("curl")));
        let is_wrong = |(_, answer): &(_, Fetched)| (answer.exit, answer.status) != (Some(0), 401);
        answers.filter(is_wrong).map(|(name, answer)| format!("{name}: {answer:?}")).collect()
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(platform.bytes(), 0);
    gateway.still_healthy();
}

#[test]
fn a_body_over_the_limit_is_413_over_both_protocols() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).https().set("limits", "body_bytes", "100000").start();
    let field = token_field(&gateway.mint());
    let dir = TempDir::new().expect("a temporary folder");
    let file = dir.path().join("body");
    let path = file.to_str().expect("a path");
    let mut wrong = Vec::new();
    for size in [100_001, 1_000_000] {
        let body = "b".repeat(size);
        fs::write(&file, &body).expect("a file");
        for protocol in BOTH {
            for (how, input) in [(path, ""), ("-", body.as_str())] {
                let arguments = ["-H", "Expect:", "-H", &field, "-T", how];
                let answer = curl(protocol, &url(&gateway, "/large"), &arguments, input);
                let ended_short = answer.exit == Some(92) && answer.stderr.contains("PROTOCOL_ERROR");
                if answer.status != 413 || !(answer.exit == Some(0) || ended_short) {
                    wrong.push(format!("{protocol:?} {how} {size}: {answer:?}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(platform.requests().iter().all(|seen| !seen.complete), "no end of a body that was cut");
    let answer = curl(BOTH[1], &url(&gateway, "/just"), &["-H", &field, "-T", "-"], &"j".repeat(100_000));
    assert_eq!((answer.status, platform.request("/just").body.len()), (200, 100_000));
    gateway.still_healthy();
}

#[test]
fn a_body_that_no_field_announces_makes_a_public_get_protected() {
    let (platform, gateway, token) = tls_deployment();
    for protocol in BOTH {
        let get = |arguments: &[&str], input: &str| {
            let arguments = [&["-X", "GET"], arguments].concat();
            curl(protocol, &url(&gateway, &format!("/public/{protocol:?}")), &arguments, input)
        };
        for arguments in [&["-T", "-"][..], &["--data-binary", "@-"], &["-T", "-", "-H", "user-token: x"]] {
            get(arguments, "canary").is_error(401);
        }
        platform.never_saw("canary");
        assert!(platform.requests().iter().all(|seen| !seen.target.ends_with(&format!("{protocol:?}"))));
        get(&["-T", "-", "-H", &token_field(&token)], "admitted").is(200);
        let seen = platform.request(&format!("/public/{protocol:?}"));
        assert_eq!((seen.body.as_slice(), seen.values("x-ds-user")), (&b"admitted"[..], vec![USER]));
    }
    gateway.still_healthy();
}

#[test]
fn a_streamed_upload_ends_once_and_what_follows_it_is_the_next_request() {
    let (platform, gateway, token) = tls_deployment();
    let field = token_field(&token);
    let mut targets = Vec::new();
    for protocol in BOTH {
        for (number, body) in ["", "hello", &"b".repeat(100_000)].iter().enumerate() {
            let target = format!("/streamed/{protocol:?}/{number}");
            let arguments = ["-H", "Expect:", "-H", &field, "-T", "-"];
            curl(protocol, &url(&gateway, &target), &arguments, body).is(200);
            assert_eq!(platform.request(&target).body.len(), body.len());
            let next = format!("{target}/next");
            let answer = gateway.exchange(request("GET", &next, &[("user-token", &token)]));
            assert_eq!((answer.status, &answer.json()["target"]), (200, &next.as_str().into()));
            targets.extend([target, next]);
        }
    }
    // The end of a chunked body is its end: after it the platform would read one more as a request.
    platform.never_saw("\r\n0\r\n\r\n0\r\n\r\n");
    let seen: Vec<String> = platform.requests().into_iter().map(|seen| seen.target).collect();
    assert_eq!(seen, targets);
    gateway.still_healthy();
}

#[test]
fn a_head_is_answered_without_a_body_over_both_protocols() {
    let (platform, gateway, token) = tls_deployment();
    platform.behave(Behaviour::Raw(
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\nETag: \"a\"\r\n\r\n".to_vec(),
    ));
    for protocol in BOTH {
        for (target, field) in [("/head", token_field(&token)), ("/public/head", "x: y".to_owned())] {
            let answer = curl(protocol, &url(&gateway, target), &["-I", "-H", &field], "");
            assert_eq!(answer.is(200).values("content-length"), ["1000000"], "{protocol:?} {target}");
            assert_eq!(answer.values("etag"), ["\"a\""]);
        }
        let refused = curl(protocol, &url(&gateway, "/head"), &["-I"], "");
        assert_eq!(refused.is(401).values("content-type"), ["application/json"]);
        assert_ne!(refused.values("content-length"), ["0"], "the length that GET would have");
    }
    platform.behave(Behaviour::Echo);
    gateway.still_healthy();
}

#[test]
fn a_client_that_expects_100_continue_is_served_over_both_protocols() {
    let (platform, gateway, token) = tls_deployment();
    let body = "e".repeat(1_000_000);
    for protocol in BOTH {
        let send = |field: &str, target: &str| {
            // curl would wait for ten seconds before it sends the body unasked.
            let expect = ["-H", "Expect: 100-continue", "--expect100-timeout", "10", "-T", "-", "-H", field];
            curl(protocol, &url(&gateway, target), &expect, &body)
        };
        let target = format!("/expected/{protocol:?}");
        send(&token_field(&token), &target).is(200);
        assert_eq!(platform.request(&target).body.len(), body.len());
        send("user-token: x", "/refused").is_error(401);
    }
    assert!(platform.requests().iter().all(|seen| seen.target.starts_with("/expected/")));
    gateway.still_healthy();
}

/// Keeps other connections busy until the gateway has surely looked at a socket that it waits on.
fn meanwhile(gateway: &Gateway) {
    for _ in 0..30 {
        gateway.exchange(request("GET", "/meanwhile", &[]));
    }
}

#[test]
fn a_client_that_half_closes_still_gets_its_answer() {
    let (go_on, told) = mpsc::channel();
    let told = Mutex::new(told);
    let platform = Platform::start(Behaviour::Custom(Arc::new(move |seen, stream| {
        told.lock().expect("a lock").recv().expect("a word from the test");
        // It closes after each answer, so it says so: else the next request may meet a connection that just ended.
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            seen.body.len()
        )?;
        stream.write_all(&seen.body)
    })));
    let gateway = Options::new(&platform).set("server", "half_close", "true").start();
    let token = gateway.mint();
    let mut wrong = Vec::new();
    let large = "w".repeat(1_000_000);
    for (name, body) in [("GET", ""), ("DELETE", ""), ("POST", "hello"), ("PUT", "world"), ("PUT", &large)] {
        for round in 0..10 {
            let target = format!("/half/{name}/{}/{round}", body.len());
            let mut client = gateway.client();
            client.send(request_with(name, &target, &[("user-token", &token)], body.as_bytes()));
            client.finish();
            platform.waits_for(&target);
            meanwhile(&gateway);
            go_on.send(()).expect("the platform waits");
            match client.answer() {
                Ok(answer) if (answer.status, answer.body.as_slice()) == (200, body.as_bytes()) => {}
                other => wrong.push(format!("a forwarded {target}: {other:?}")),
            }
        }
    }
    for (status, bytes) in [
        (201, request("POST", ENDPOINT, &[("Authorization", &basic(USER, PASSWORD))])),
        (401, request("POST", ENDPOINT, &[("Authorization", &basic(USER, "wrong"))])),
        (401, request("GET", "/refused", &[])),
        (404, request("GET", &format!("{ENDPOINT}/"), &[])),
    ] {
        let mut client = gateway.client();
        client.send(&bytes);
        client.finish();
        match client.answer() {
            Ok(answer) if answer.status == status => {}
            other => wrong.push(format!("{status}: {other:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    platform.behave(Behaviour::Echo);
    gateway.still_healthy();
}

/// A platform that says nothing, and that notes which connections were closed meanwhile.
fn listening() -> (Platform, mpsc::Receiver<String>) {
    let (closed, gone) = mpsc::channel();
    let closed = Mutex::new(closed);
    let platform = Platform::start(Behaviour::Custom(Arc::new(move |seen, stream| {
        // The end, or a reset.
        let _ = std::io::Read::read(stream, &mut [0; 1]);
        closed.lock().expect("a lock").send(seen.target.clone()).expect("the test waits");
        Ok(())
    })));
    (platform, gone)
}

#[test]
fn a_client_that_goes_away_ends_its_request_at_the_platform() {
    let (platform, gone) = listening();
    let gateway = Options::new(&platform).https().start();
    let token = gateway.mint();
    let idle = || {
        eventually("no request in flight", || {
            (gateway.metric("ds_gateway_in_flight_requests", &[]) == 0.0).then_some(())
        });
    };
    for (protocol, target) in [(Protocol::Http2, "/gone/h2"), (Protocol::Http1, "/gone/h1")] {
        let arguments = ["-H", &token_field(&token), "--max-time", "1"];
        let fetched = curl(protocol, &url(&gateway, target), &arguments, "");
        assert_eq!(fetched.exit, Some(28), "{fetched:?}");
        assert_eq!(gone.recv_timeout(Duration::from_secs(20)).as_deref(), Ok(target));
        idle();
    }
    for (target, body) in [("/gone/plain", &b""[..]), ("/gone/body", b"a body")] {
        let mut client = gateway.client();
        client.send(request_with("POST", target, &[("user-token", &token)], body));
        platform.waits_for(target);
        drop(client);
        assert_eq!(gone.recv_timeout(Duration::from_secs(20)).as_deref(), Ok(target));
        idle();
        let log = || gateway.log.lines().into_iter().find(|line| line.contains(target));
        let line = eventually("a line", log);
        assert!(line.contains("\"status\":499"), "{line}");
    }
    platform.behave(Behaviour::Echo);
    gateway.still_healthy();
}

/// A token is minted, and one is revoked, whatever becomes of the client that asked.
#[test]
fn a_client_that_goes_away_ends_no_request_of_the_endpoint() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    let token = gateway.mint();
    let count = |action| gateway.metric("ds_gateway_token_requests_total", &[action, "outcome=\"ok\""]);
    let (minted, revoked) = (count("action=\"mint\""), count("action=\"revoke\""));
    for bytes in [
        request("POST", ENDPOINT, &[("Authorization", &basic(USER, PASSWORD))]),
        request("DELETE", ENDPOINT, &[("user-token", &token)]),
    ] {
        let mut client = gateway.client();
        client.send(bytes);
        client.finish();
        drop(client);
    }
    eventually("both to be done", || {
        let done = (count("action=\"mint\""), count("action=\"revoke\""));
        (done == (minted + 1.0, revoked + 1.0)).then_some(())
    });
    assert_eq!(gateway.status(&token), 401);
}

#[test]
fn with_half_close_the_platforms_own_limit_ends_a_request_whose_client_is_gone() {
    let platform = Platform::start(Behaviour::Never);
    let gateway = Options::new(&platform)
        .set("server", "half_close", "true")
        .set("platform", "read_timeout", "\"2s\"")
        .start();
    let token = gateway.mint();
    let mut client = gateway.client();
    client.send(request("GET", "/gone", &[("user-token", &token)]));
    platform.waits_for("/gone");
    drop(client);
    eventually("no request in flight", || {
        (gateway.metric("ds_gateway_in_flight_requests", &[]) == 0.0).then_some(())
    });
    platform.behave(Behaviour::Echo);
    gateway.still_healthy();
}
