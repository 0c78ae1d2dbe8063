//! What the platform may see, whatever the protocol.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::gateway::{PASSWORD, USER};
use crate::path::{canonical, is_public};
use crate::requests::{Framing, Request, framing};

/// By what a request may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    Token,
    Public,
    No,
}

/// The rule, from the documentation: exactly one token, or a canonical path that is public to a request without a body.
pub fn admitted(request: &Request, token: &str) -> Admitted {
    let path = request.target.split(|byte| *byte == b'?').next().unwrap_or_default();
    let method = std::str::from_utf8(&request.method).unwrap_or_default();
    let has_body = framing(&request.head) != Ok(Framing::Sized(0));
    if canonical(path) && is_public(method, path) && !has_body {
        return Admitted::Public;
    }
    if request.head.values("user-token") == [token.as_bytes()] { Admitted::Token } else { Admitted::No }
}

/// What holds of everything that reaches the platform.
pub fn check_seen(seen: &Request, token: &str) {
    let tokens = seen.head.values("user-token");
    let path = seen.target.split(|byte| *byte == b'?').next().unwrap_or_default();
    let is_endpoint = path.to_ascii_lowercase().starts_with(b"/ds-api/user-token")
        && path
            .get(18)
            .is_none_or(|byte| !byte.is_ascii_alphanumeric() && !b"-_".contains(byte) && *byte < 0x80);
    assert!(!is_endpoint, "the platform's own endpoint: {seen:?}");
    assert_eq!(seen.head.values("host").len(), 1, "{seen:?}");
    assert_eq!(seen.head.values("x-request-id").len(), 1, "{seen:?}");
    assert_eq!(seen.head.values("traceparent").len(), 1, "{seen:?}");
    if tokens.is_empty() {
        let method = std::str::from_utf8(&seen.method).unwrap_or_default();
        assert!(
            canonical(path) && is_public(method, path) && seen.body.is_empty(),
            "without a token: {seen:?}"
        );
        for name in ["x-ds-user", "x-ds-email", "x-ds-organization", "authorization", "cookie"] {
            assert_eq!(seen.head.values(name), [&b""[..]; 0], "{seen:?}");
        }
    } else {
        assert_eq!(tokens, [token.as_bytes()], "{seen:?}");
        assert_eq!(seen.head.values("x-ds-user"), [USER.as_bytes()], "{seen:?}");
        assert_eq!(seen.head.values("x-ds-email"), [&b"my.user@example.com"[..]], "{seen:?}");
        assert_eq!(seen.head.values("x-ds-organization"), [&b"Main Org."[..]], "{seen:?}");
    }
}

/// Each field that reached the platform is the client's, or one that the gateway sets.
pub fn check_fields(fields: &[(Vec<u8>, Vec<u8>)], was_sent: impl Fn(&[u8], &[u8]) -> bool) {
    for (name, value) in fields {
        let is_set = SET.iter().any(|set| set.as_bytes() == name);
        assert!(
            is_set || was_sent(name, value),
            "nobody sent {}: {}",
            String::from_utf8_lossy(name),
            String::from_utf8_lossy(value)
        );
    }
}

/// What the gateway or the engine sets; cookies are joined.
const SET: [&str; 13] = [
    "connection",
    "content-length",
    "cookie",
    "expect",
    "traceparent",
    "host",
    "transfer-encoding",
    "x-ds-email",
    "x-ds-organization",
    "x-ds-user",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-request-id",
];

/// A path that no rule but that of the token is about.
pub fn is_plain_target(target: &[u8]) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'/';
    target.starts_with(b"/") && target.iter().all(is_plain) && !target.windows(2).any(|pair| pair == b"//")
}

/// With the token in the place of each `$T`.
pub fn with_token(text: &[u8], token: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() + token.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(b"$T") {
            bytes.extend(token.bytes());
            rest = after;
        } else {
            bytes.push(byte);
            rest = after;
        }
    }
    bytes
}

/// A token of the user.
pub fn log_in(http: SocketAddr) -> String {
    let credentials = openssl::base64::encode_block(format!("{USER}:{PASSWORD}").as_bytes());
    let mut stream = TcpStream::connect(http).expect("a gateway");
    let request = format!(
        "POST /ds-api/user-token HTTP/1.1\r\nHost: gateway.test\r\nConnection: close\r\nAuthorization: Basic {credentials}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("a gateway");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    let body: serde_json::Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("{answer}"));
    body["user-token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}
