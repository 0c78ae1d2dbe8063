//! Clients of HTTP/1.0: no chunks, no interim answers, a connection that is kept only where they ask for it, and no `Host`.

use crate::client::{Client, basic};
use crate::contract::ENDPOINT;
use crate::gateway::{Gateway, PASSWORD, USER};
use crate::options::Options;
use crate::platform::{Behaviour, Platform};
use std::io::Write;
use std::sync::Arc;

fn old(method: &str, target: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("{method} {target} HTTP/1.0\r\n{fields}\r\n").into_bytes()
}

/// Everything that the platform may answer: a name, the method that asks, the answer and its body.
const ANSWERS: [(&str, &str, &str, &str); 9] = [
    (
        "chunked",
        "GET",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n there\r\n0\r\n\r\n",
        "hello there",
    ),
    ("delimited by the end", "GET", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello", "hello"),
    ("of HTTP/1.0", "GET", "HTTP/1.0 200 OK\r\n\r\nhello", "hello"),
    ("sized", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello"),
    ("empty", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ""),
    ("HEAD", "HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", ""),
    ("204", "GET", "HTTP/1.1 204 No Content\r\n\r\n", ""),
    (
        "after 100",
        "GET",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        "hello",
    ),
    (
        "after 103",
        "GET",
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        "hello",
    ),
];

#[test]
fn answer_is_one_that_http_1_0_can_read() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    let token = gateway.mint();
    for (name, method, answer, body) in ANSWERS {
        let bytes = answer.as_bytes();
        platform.behave(Behaviour::Custom(Arc::new(move |_, stream| stream.write_all(bytes))));
        for keep in [false, true] {
            let name = format!("{name}, {}", if keep { "kept" } else { "not kept" });
            let mut fields = vec![("user-token", token.as_str()), ("Expect", "100-continue")];
            fields.extend(keep.then_some(("Connection", "keep-alive")));
            let mut client = gateway.client();
            client.send(old(method, "/old", &fields));
            let (status, head) = client.head().unwrap_or_else(|fault| panic!("{name}: {fault:?}"));
            assert_eq!(status, if answer.contains(" 204 ") { 204 } else { 200 }, "{name}: {head:?}");
            assert!(head.start.starts_with("HTTP/1.1 "), "{name}: {head:?}");
            assert!(!head.is_chunked(), "{name}: {head:?}");
            let is_bare = method == "HEAD" || status == 204;
            let is_kept = head.values("connection") == ["keep-alive"];
            let has_end = is_bare || head.length().is_some();
            assert_eq!(is_kept, keep && has_end, "{name}: {head:?}");
            match (is_kept, is_bare) {
                (false, _) => {
                    assert_eq!(client.wire().rest().expect("an end"), body.as_bytes(), "{name}");
                }
                (true, true) => {}
                (true, false) => {
                    assert_eq!(client.wire().sized(body.len()).expect("a body"), body.as_bytes(), "{name}");
                }
            }
            if is_kept {
                client.send(old("GET", "/again", &[]));
                client.answer().expect("an answer").is_error(401);
            }
        }
    }
    platform.behave(Behaviour::Echo);
    gateway.still_healthy();
}

#[test]
fn a_request_without_host_gets_the_platforms_name() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    let token = gateway.mint();
    assert_eq!(gateway.exchange(old("GET", "/none", &[("user-token", &token)])).status, 200);
    assert_eq!(platform.request("/none").values("host"), [platform.address.to_string()]);
    assert_eq!(
        gateway.exchange(old("GET", "/one", &[("user-token", &token), ("Host", "a.test")])).status,
        200
    );
    assert_eq!(platform.request("/one").values("host"), ["a.test"]);
    for fields in [&[("Host", "a"), ("Host", "a")][..], &[("Host", "a b")], &[("Host", "")]] {
        gateway.exchange(old("GET", "/refused", fields)).is_error(400);
    }
    // The token endpoint as well.
    let minted = gateway.exchange(old("POST", ENDPOINT, &[("Authorization", &basic(USER, PASSWORD))]));
    assert_eq!(minted.status, 201, "{minted:?}");
    gateway.exchange(old("POST", ENDPOINT, &[])).is_error(401);
    gateway.exchange(old("GET", "/refused", &[])).is_error(401);
    platform.never_saw("/refused");
}

/// HAProxy asks like this unless it is told otherwise.
#[test]
fn the_admin_listener_keeps_a_connection_only_where_it_is_asked_to() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).start();
    let admin = |gateway: &Gateway| Client::connect(gateway.admin_address());
    for (bytes, is_kept) in [
        ("GET /readyz HTTP/1.0\r\n\r\n", false),
        ("OPTIONS / HTTP/1.0\r\n\r\n", false),
        ("GET /readyz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true),
        ("GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", true),
        ("GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n", false),
    ] {
        let mut client = admin(&gateway);
        let answer = client.exchange(bytes);
        assert_eq!(answer.status, if bytes.starts_with("GET") { 200 } else { answer.status }, "{bytes}");
        assert_eq!(answer.says_close(), !is_kept, "{bytes}: {answer:?}");
        if is_kept {
            client.exchange("GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
        } else {
            client.is_closed();
        }
    }
}
