use super::*;
use crate::edge::raw_head::RawHead;
use proptest::prelude::any;
use proptest::sample::select;
use proptest::{prop_assert_eq, proptest};

fn shape(text: &str) -> Option<Shape<'_>> {
    let mut fields = no_fields();
    match Head::read(text.as_bytes(), &mut fields) {
        Read::Whole(head) => Some(head.shape()),
        Read::Part | Read::Unreadable => None,
    }
}

#[test]
fn only_what_every_reader_reads_alike_is_taken() {
    let (post, get) = ("POST /a HTTP/1.1\r\nHost: x\r\n", "GET /a HTTP/1.1\r\nHost: x\r\n");
    for (head, more, length, declined) in [
        (get, "", Some(0), None),
        (get, "Connection: close\r\n", Some(0), None),
        (get, "Connection: Keep-Alive\r\n", Some(0), None),
        (get, "Cookie: a=b\r\n", Some(0), None),
        (post, "Content-Length: 5\r\n", Some(5), None),
        (post, "content-length: 0\r\n", Some(0), None),
        (post, "Content-Length: +5\r\n", None, Some(Declined::Body)),
        (post, "Content-Length: 5, 5\r\n", None, Some(Declined::Body)),
        (post, "Content-Length: 5\r\nContent-Length: 5\r\n", None, Some(Declined::Body)),
        (post, "Content-Length:\r\n", None, Some(Declined::Body)),
        (post, "Content-Length: 9999999999999999999\r\n", None, Some(Declined::Body)),
        (post, "Transfer-Encoding: chunked\r\n", None, Some(Declined::Body)),
        (post, "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", None, Some(Declined::Body)),
        (post, "Content-Length: 5\r\nTransfer-Encoding: x\r\n", None, Some(Declined::Body)),
        (post, "Content-Length: 5\r\nExpect: 100-continue\r\n", Some(5), Some(Declined::Field)),
        (get, "TE: trailers\r\n", Some(0), Some(Declined::Field)),
        (get, "Trailer: x\r\n", Some(0), Some(Declined::Field)),
        (get, "Upgrade: websocket\r\n", None, Some(Declined::Field)),
        (get, "Connection: Upgrade\r\nUpgrade: h2c, websocket\r\n", None, Some(Declined::Field)),
        (get, "Connection: Upgrade\r\nUpgrade: TLS/1.2\r\n", Some(0), None),
        (get, "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n", Some(0), None),
        (get, "Keep-Alive: timeout=5\r\n", Some(0), Some(Declined::Field)),
        (get, "Proxy-Connection: x\r\n", Some(0), Some(Declined::Field)),
        (get, "proxy-authorization: x\r\n", Some(0), Some(Declined::Field)),
        (get, "Connection: upgrade\r\n", Some(0), None),
        (get, "Connection: x-mine\r\n", Some(0), Some(Declined::Connection)),
        (get, "Connection: close, x\r\n", Some(0), Some(Declined::Connection)),
        (get, "Connection:\r\n", Some(0), Some(Declined::Connection)),
        (get, "Connection: close\r\nConnection: close\r\n", Some(0), Some(Declined::Field)),
        (get, "Cookie: a\r\nCookie: b\r\n", Some(0), None),
        (get, "Host: y\r\n", Some(0), Some(Declined::Field)),
        (get, "A: b\n", None, Some(Declined::Syntax)),
        ("GET /a HTTP/1.1\r\n", "", Some(0), Some(Declined::Field)),
        ("GET /a HTTP/1.0\r\nHost: x\r\n", "", Some(0), Some(Declined::Version)),
        ("get /a HTTP/1.1\r\nHost: x\r\n", "", Some(0), Some(Declined::Method)),
        ("TRACE /a HTTP/1.1\r\nHost: x\r\n", "", Some(0), Some(Declined::Method)),
        ("CONNECT a:1 HTTP/1.1\r\nHost: x\r\n", "", Some(0), Some(Declined::Method)),
        ("GET http://x/a HTTP/1.1\r\nHost: x\r\n", "", Some(0), Some(Declined::Target)),
        ("OPTIONS * HTTP/1.1\r\nHost: x\r\n", "", Some(0), Some(Declined::Target)),
        ("GET /a#b HTTP/1.1\r\nHost: x\r\n", "", Some(0), Some(Declined::Target)),
        ("GET /a?b={c} HTTP/1.1\r\nHost: x\r\n", "", Some(0), Some(Declined::Target)),
        ("GET /a?b=c%20d&e=[f] HTTP/1.1\r\nHost: x\r\n", "", Some(0), Some(Declined::Target)),
    ] {
        let text = format!("{head}{more}\r\n");
        let found = shape(&text).map(|shape| (shape.length, shape.declined));
        assert_eq!(found, Some((length, declined)), "{text:?}");
    }
    for text in [
        "\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        "GET / HTTP/2.0\r\n\r\n",
    ] {
        assert_eq!(shape(text), None, "{text:?}");
    }
}

#[test]
fn only_a_request_that_is_plain_otherwise_asks_for_a_protocol() {
    let get = "GET /a HTTP/1.1\r\nHost: x\r\n";
    let both = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    for (head, more, expected) in [
        (get, both, Some("websocket")),
        (get, "Connection: keep-alive, Upgrade\r\nUpgrade: foo/1\r\n", Some("foo/1")),
        // No name of one protocol, so that no route lists it.
        (get, "Connection: upgrade\r\nUpgrade: h2c, websocket\r\n", Some("h2c, websocket")),
        (get, "Connection: Upgrade\r\nUpgrade: h2c\r\n", None),
        (get, "Connection: Upgrade\r\nUpgrade: TLS/1.2\r\n", None),
        (get, "Upgrade: websocket\r\n", None),
        (get, "Connection: keep-alive\r\nUpgrade: websocket\r\n", None),
        (get, "Connection: Upgrade, close\r\nUpgrade: websocket\r\n", None),
        (get, "Connection: Upgrade, x\r\nUpgrade: websocket\r\n", None),
        (get, &format!("{both}Connection: Upgrade\r\n"), None),
        (get, &format!("{both}Upgrade: websocket\r\n"), None),
        (get, &format!("{both}Upgrade: h2c\r\n"), None),
        (get, &format!("{both}Content-Length: 0\r\n"), None),
        (get, &format!("{both}Content-Length: 5\r\n"), None),
        (get, &format!("{both}Transfer-Encoding: chunked\r\n"), None),
        (get, &format!("{both}Expect: 100-continue\r\n"), None),
        (get, &format!("{both}Host: y\r\n"), None),
        (get, &format!("{both}TE: trailers\r\n"), None),
        (get, &format!("{both}Proxy-Connection: x\r\n"), None),
        ("POST /a HTTP/1.1\r\nHost: x\r\n", both, None),
        ("HEAD /a HTTP/1.1\r\nHost: x\r\n", both, None),
        ("GET /a HTTP/1.0\r\nHost: x\r\n", both, None),
        ("GET http://x/a HTTP/1.1\r\nHost: x\r\n", both, None),
        ("GET /a HTTP/1.1\r\n", both, None),
    ] {
        let text = format!("{head}{more}\r\n");
        let found = shape(&text).and_then(|shape| shape.asks);
        assert_eq!(found, expected.map(str::as_bytes), "{text:?}");
    }
}

/// Bytes out of which a request line, fields and everything that servers differ about can come.
const BYTES: &[u8] = b"GEPOST /a?HTTP/1.1\r\n\r\n:; \t\x0b\x00\x7f\xe9Host: x\r\nContent-Length: 5";

proptest! {
    /// What the lane takes is read the same by the strict reader.
    #[test]
    fn two_readers_agree(
        start in select(vec!["GET /a HTTP/1.1\r\n", "POST /b?c HTTP/1.1\r\n", "GET / HTTP/1.1\n", "GET  / HTTP/1.1\r\n"]),
        middle in proptest::collection::vec(select(BYTES.to_vec()), 0..30),
        host in any::<bool>(),
    ) {
        let mut text = start.as_bytes().to_vec();
        if host { text.extend(b"Host: x\r\n"); }
        text.extend(&middle);
        text.extend(b"\r\n\r\n");
        let mut fields = no_fields();
        if let Read::Whole(head) = Head::read(&text, &mut fields) && head.shape().declined.is_none() {
            let strict = RawHead::parse(&text[..head.len()]);
            prop_assert_eq!(strict.is_ok(), true, "{:?}", String::from_utf8_lossy(&text));
            let strict = strict.unwrap();
            prop_assert_eq!((strict.method(), strict.target()), (RequestHead::method(&head), head.target()));
            let (one, other): (Vec<_>, Vec<_>) = (strict.fields().collect(), head.fields().collect());
            prop_assert_eq!(one, other);
        }
    }
}
