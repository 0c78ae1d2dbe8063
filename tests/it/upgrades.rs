//! Offers of another protocol: ignored, as RFC 9110 §7.8 allows, and none reaches the platform. A WebSocket handshake is refused.

use crate::client::{Answer, basic, request, request_with};
use crate::contract::ENDPOINT;
use crate::gateway::{Gateway, PASSWORD, USER};
use crate::options::Options;
use crate::platform::Platform;

const ROUTES: [(&str, &str, u16); 5] = [
    ("GET", "/private", 200),
    ("POST", "/private", 200),
    ("GET", "/public/x", 200),
    ("POST", ENDPOINT, 201),
    ("GET", "/ds-api/user-token/nothing/here", 404),
];

fn send(gateway: &Gateway, method: &str, target: &str, fields: &[(&str, &str)], behind: &[u8]) -> Answer {
    let bytes = match (method, target) {
        ("POST", "/private") => request_with(method, target, fields, b"a body"),
        _ => request(method, target, fields),
    };
    gateway.exchange([&bytes, behind].concat())
}

#[test]
fn an_offered_upgrade_is_ignored_on_every_route() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).public("[\"/public/*\"]").start();
    let (token, good) = (gateway.mint(), basic(USER, PASSWORD));
    for (connection, upgrade) in [
        // Apache HttpClient from 5.4 on, with every request.
        (Some("Upgrade"), Some("TLS/1.2")),
        (Some("upgrade, keep-alive"), Some("TLS/1.0")),
        (Some("Upgrade"), Some("TLS/1.3")),
        (Some("Upgrade, HTTP2-Settings"), Some("h2c")),
        (Some("Upgrade"), Some("h2c, TLS/1.2")),
        (Some("Upgrade"), Some("HTTP/2.0")),
        (Some("Upgrade"), Some("foo")),
        (Some("Upgrade"), Some("")),
        (Some("Upgrade"), None),
        (None, Some("TLS/1.2")),
        (None, Some("websocket")),
    ] {
        for (method, target, status) in ROUTES {
            let mut fields = vec![("user-token", token.as_str()), ("Authorization", &good)];
            fields.extend(connection.map(|value| ("Connection", value)));
            fields.extend(upgrade.map(|value| ("Upgrade", value)));
            fields.push(("HTTP2-Settings", "AAMAAABkAAQAoAAAAAIAAAAA"));
            let name = format!("{connection:?} {upgrade:?} {method} {target}");
            let answer = send(&gateway, method, target, &fields, b"");
            assert_eq!(answer.status, status, "{name}: {}", answer.text());
            assert!(answer.values("upgrade").is_empty(), "{name}: {answer:?}");
            send(&gateway, "GET", "/canary", &fields[2..], b"").is_error(401);
        }
    }
    for seen in platform.requests() {
        for name in ["upgrade", "connection", "http2-settings"] {
            let values = seen.values(name);
            assert!(values.iter().all(|value| value.eq_ignore_ascii_case("keep-alive")), "{seen:?}");
        }
    }
    platform.never_saw("canary");
    gateway.still_healthy();
}

#[test]
fn a_websocket_handshake_is_501_on_every_route() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).public("[\"/public/*\"]").start();
    let (token, good) = (gateway.mint(), basic(USER, PASSWORD));
    for upgrade in ["websocket", "WebSocket", "h2c, websocket", "websocket, foo"] {
        for (method, target, _) in ROUTES {
            let fields = [
                ("user-token", token.as_str()),
                ("Authorization", &good),
                ("Connection", "keep-alive, Upgrade"),
                ("Upgrade", upgrade),
                ("Sec-WebSocket-Version", "13"),
                ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ];
            // What follows a handshake must not be taken for a request.
            let hidden = b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n";
            send(&gateway, method, target, &fields, hidden).is_error(501);
        }
    }
    assert_eq!(platform.bytes(), 0);
    gateway.still_healthy();
}
