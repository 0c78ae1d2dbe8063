//! What comes behind a request while it is being answered (RFC 9112 §9.3.2).

use std::io::Write as _;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::client::{request, request_with};
use crate::gateway::Gateway;
use crate::options::Options;
use crate::platform::{Behaviour, Platform};

/// A platform that works for a while, longer than the engine waits before it looks at what the client says next.
fn slow() -> (Platform, Gateway, String) {
    let platform = Platform::start(Behaviour::Custom(Arc::new(|seen, stream| {
        thread::sleep(Duration::from_millis(200));
        let body = format!("{} {}", seen.method, seen.target);
        stream.write_all(
            format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
                .as_bytes(),
        )
    })));
    let gateway = Options::new(&platform).start();
    let token = gateway.mint();
    (platform, gateway, token)
}

/// When the bytes behind the first request are sent, in milliseconds after it.
const LATER: [Option<u64>; 3] = [None, Some(0), Some(100)];

/// Sends both and returns a client that has sent them.
fn sent(gateway: &Gateway, first: &[u8], second: &[u8], later: Option<u64>) -> crate::client::Client {
    let mut client = gateway.client();
    match later {
        None => client.send([first, second].concat()),
        Some(pause) => {
            client.send(first);
            thread::sleep(Duration::from_millis(pause));
            client.send(second);
        }
    }
    client
}

#[test]
fn a_line_end_behind_a_request_costs_nothing() {
    let (platform, gateway, token) = slow();
    let fields = [("user-token", token.as_str())];
    for first in [request("GET", "/one", &fields), request_with("POST", "/one", &fields, b"body")] {
        for behind in ["\r\n", "\n", "\r\n\r\n"] {
            for later in LATER {
                let mut client = sent(&gateway, &first, behind.as_bytes(), later);
                let answer =
                    client.answer().unwrap_or_else(|fault| panic!("{fault:?}: {behind:?} {later:?}"));
                assert_eq!(answer.status, 200, "{behind:?} {later:?}");
                if !answer.says_close() {
                    assert_eq!(client.exchange(request("GET", "/next", &fields)).text(), "GET /next");
                }
            }
        }
    }
    platform.behave(Behaviour::Echo);
    gateway.still_healthy();
}

#[test]
fn requests_that_come_together_are_answered_one_after_the_other() {
    let (platform, gateway, token) = slow();
    let fields = [("user-token", token.as_str())];
    let firsts = [
        (request("GET", "/one", &fields), 200),
        (request_with("POST", "/one", &fields, b"body"), 200),
        (request("GET", "/one", &[]), 401),
        (request_with("POST", "/one", &[], b"body"), 401),
    ];
    for (first, status) in &firsts {
        for later in LATER {
            let second = request("GET", "/two", &fields);
            let mut client = sent(&gateway, first, &second, later);
            let answers = [client.answer(), client.answer(), {
                client.send(request("GET", "/three", &fields));
                client.answer()
            }];
            let [one, two, three] =
                answers.map(|answer| answer.unwrap_or_else(|fault| panic!("{fault:?} {later:?}")));
            assert_eq!(
                (one.status, two.text().as_str(), three.text().as_str()),
                (*status, "GET /two", "GET /three")
            );
        }
    }
    // A header that begins behind one request and ends much later, wherever it is cut.
    let second = request("GET", "/two", &[fields[0], ("User-Agent", "a b c d e f g")]);
    for cut in [1, 10, second.len() - 12, second.len() - 2] {
        let mut client = gateway.client();
        client.send([&firsts[0].0, &second[..cut]].concat());
        thread::sleep(Duration::from_millis(100));
        client.send(&second[cut..]);
        let answers = [client.answer(), client.answer()].map(|answer| answer.map(|answer| answer.status));
        assert_eq!(answers, [Ok(200), Ok(200)], "{cut}");
    }
    // Each needs a token of its own, whatever came before it on the connection.
    let before = platform.requests().len();
    for later in LATER {
        let mut client = sent(&gateway, &firsts[0].0, &request("GET", "/canary", &[]), later);
        assert_eq!(client.answer().map(|answer| answer.status), Ok(200));
        client.answer().expect("an answer").is_error(401);
    }
    assert_eq!(platform.requests().len(), before + LATER.len());
    platform.never_saw("canary");
    platform.behave(Behaviour::Echo);
    gateway.still_healthy();
}

#[test]
fn garbage_behind_a_request_is_refused_after_its_answer() {
    let (platform, gateway, token) = slow();
    let first = request("GET", "/one", &[("user-token", &token)]);
    let garbage = [
        &b"GARBAGE canary\r\n\r\n"[..],
        b"GET /canary HTTP/1.1\r\nHost : x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\r\n\r\n",
    ];
    for second in garbage {
        for later in LATER {
            let mut client = sent(&gateway, &first, second, later);
            assert_eq!(client.answer().map(|answer| answer.status), Ok(200), "{second:?} {later:?}");
            client.answer().unwrap_or_else(|fault| panic!("{fault:?}: {second:?} {later:?}")).is_error(400);
            client.is_closed();
        }
    }
    platform.never_saw("canary");
    platform.behave(Behaviour::Echo);
    gateway.still_healthy();
}
