//! The platform's answers as clients see them: what was for one connection ends at the gateway, and no client has to guess how long
//! a body is.

use crate::client::{Answer, request};
use crate::curl::{Protocol, curl};
use crate::options::Options;
use crate::platform::{Behaviour, Platform};
use std::io::Write;
use std::sync::Arc;

/// A name, the platform's answer, and what of it the client sees: status, fields, body. `None`: 502.
type Row = (&'static str, &'static str, Option<(u16, &'static [(&'static str, &'static str)], &'static str)>);

const ROWS: [Row; 14] = [
    (
        "fields of one connection",
        "HTTP/1.1 200 OK\r\nConnection: close, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n\
         Upgrade: h2c\r\nTrailer: X-Sum\r\nContent-Length: 2\r\n\r\nab",
        Some((200, &[("content-length", "2")], "ab")),
    ),
    ("of HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nab", Some((200, &[], "ab"))),
    (
        "equal lengths",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nab",
        Some((200, &[("content-length", "2")], "ab")),
    ),
    (
        "equal lengths in one field",
        "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nab",
        Some((200, &[("content-length", "2")], "ab")),
    ),
    ("unequal lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc", None),
    ("a length that is no number", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nab", None),
    (
        "a coding that nobody asked for",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        None,
    ),
    (
        "chunks and a length",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        Some((200, &[], "ab")),
    ),
    (
        "trailers",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX-Sum: 1\r\n\r\n",
        Some((200, &[], "ab")),
    ),
    ("204 with a length", "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nab", Some((204, &[], ""))),
    (
        "204 in chunks",
        "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        Some((204, &[], "")),
    ),
    (
        "304 in chunks",
        "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\nETag: \"a\"\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        Some((304, &[("etag", "\"a\"")], "")),
    ),
    (
        "304 with the length of the 200",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n",
        Some((304, &[("content-length", "2")], "")),
    ),
    (
        "101 that nobody asked for",
        "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        None,
    ),
];

/// Fields that no answer may have twice, or at all.
const NEVER: [&str; 5] = ["keep-alive", "proxy-connection", "upgrade", "trailer", "x-mine"];

#[test]
fn what_contradicts_itself_is_made_plain_or_is_502() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).https().start();
    let token = gateway.mint();
    for (name, raw, expected) in ROWS {
        let bytes = raw.as_bytes();
        platform.behave(Behaviour::Custom(Arc::new(move |_, stream| stream.write_all(bytes))));
        let mut client = gateway.client();
        let answer: Answer = client.exchange(request("GET", "/row", &[("user-token", &token)]));
        let url = format!("https://{}/row", gateway.https());
        let fetched = curl(Protocol::Http2, &url, &["-H", &format!("user-token: {token}")], "");
        let Some((status, fields, body)) = expected else {
            answer.is_error(502);
            fetched.is_error(502);
            continue;
        };
        assert!(answer.head.start.starts_with("HTTP/1.1 "), "{name}: {answer:?}");
        assert_eq!((answer.status, answer.text().as_str()), (status, body), "{name}: {answer:?}");
        assert_eq!((fetched.is(status.into()).text().as_str()), body, "{name}");
        for (field, value) in fields {
            assert_eq!((answer.value(field), fetched.values(field)), (*value, vec![*value]), "{name}");
        }
        for field in NEVER {
            assert!(
                answer.values(field).is_empty() && fetched.values(field).is_empty(),
                "{name}: {answer:?}"
            );
        }
        if status == 204 || status == 304 {
            assert!(!answer.head.is_chunked(), "{name}: {answer:?}");
        }
        if status == 204 {
            assert!(answer.values("content-length").is_empty(), "{name}: {answer:?}");
        }
        // Nothing of it is taken for the next answer.
        platform.behave(Behaviour::Echo);
        let next = client.exchange(request("GET", "/next", &[("user-token", &token)]));
        assert_eq!((next.status, next.value("x-platform")), (200, "yes"), "{name}");
    }
    platform.behave(Behaviour::Echo);
    gateway.still_healthy();
}
