//! The handshake: what reaches the platform, what is refused, and what an answer must say.

use super::platform::Live;
use super::{YOUTH, connect, open_with, opened, revoke};
use crate::client::{Client, request, request_with};
use crate::command::eventually;
use crate::gateway::{EMAIL, Gateway, USER};
use crate::options::Options;
use crate::platform::{Behaviour, Platform};
use crate::wire::Wire;
use std::io::Write as _;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The fields of a handshake.
fn fields<'f>(token: &'f str, more: &[(&'f str, &'f str)]) -> Vec<(&'f str, &'f str)> {
    let own = [
        ("user-token", token),
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", KEY),
    ];
    own.into_iter().chain(more.iter().copied()).collect()
}

fn gateway(platform: &Platform) -> Gateway {
    let upgrades = r#"["/live/*", "/public/*", { path = "/foo", protocols = ["foo/1"] }]"#;
    Options::new(platform).public("[\"/public/*\"]").set("routes", "upgrades", upgrades).start()
}

#[test]
fn a_handshake_reaches_the_platform_as_it_is() {
    let live = Live::start();
    let gateway = live.options().start();
    let token = gateway.mint();
    let sent = [
        ("user-token", token.as_str()),
        ("sec-websocket-protocol", "one, two"),
        ("sec-websocket-extensions", "permessage-deflate; client_max_window_bits"),
        ("origin", "https://a.example"),
        ("cookie", "a=b"),
        ("x-ds-user", "somebody"),
        ("x-forwarded-for", "192.0.2.1"),
    ];
    let (_socket, answer) = open_with(&gateway, true, "/ds-api/live/echo?x=1", &sent).expect("a WebSocket");
    let seen = live.heads("/ds-api/live/echo?x=1").pop().expect("a request");
    for (name, expected) in [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-protocol", "one, two"),
        ("sec-websocket-extensions", "permessage-deflate; client_max_window_bits"),
        ("origin", "https://a.example"),
        ("cookie", "a=b"),
        ("user-token", token.as_str()),
        ("x-ds-user", USER),
        ("x-ds-email", EMAIL),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("host", "gateway.test"),
    ] {
        assert_eq!(seen.values(name), [expected], "{name}");
    }
    assert_eq!(seen.values("sec-websocket-key").len(), 1);
    let field = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
    assert_eq!(field("sec-websocket-protocol"), Some("two"));
    assert_eq!(field("x-mine"), Some("kept"));
    assert_eq!(field("x-ds-sequence"), None);
    assert_eq!(field("x-request-id"), Some(seen.values("x-request-id")[0]));
}

#[test]
fn a_handshake_without_a_good_token_is_401_and_reaches_nobody() {
    let platform = Platform::echo();
    let gateway = gateway(&platform);
    let token = gateway.mint();
    revoke(&gateway, &token);
    let behind = b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n";
    for token in ["", "x", &token] {
        let mut client = gateway.client();
        client.send([request("GET", "/live/x", &fields(token, &[])), behind.to_vec()].concat());
        let answer = client.answer().expect("an answer");
        answer.is_error(401);
        assert!(answer.says_close(), "{answer:?}");
        client.is_closed();
    }
    // A page can send a cookie along, and it lets nobody in.
    let none: Vec<_> = fields("", &[("Cookie", "user-token=x")]).into_iter().skip(1).collect();
    gateway.exchange(request("GET", "/live/x", &none)).is_error(401);
    assert_eq!(platform.bytes(), 0);
    gateway.still_healthy();
}

#[test]
fn what_is_not_exactly_one_handshake_on_a_listed_route_is_501() {
    let platform = Platform::echo();
    let gateway = gateway(&platform);
    let token = gateway.mint();
    let good = fields(&token, &[]);
    let with = |name: &str, value: &'static str| {
        let mut changed = good.clone();
        changed.iter_mut().filter(|(have, _)| *have == name).for_each(|(_, have)| *have = value);
        changed
    };
    let and = |name: &'static str, value: &'static str| [&good[..], &[(name, value)]].concat();
    let without = |name: &str| good.iter().copied().filter(|(have, _)| *have != name).collect::<Vec<_>>();
    for target in
        ["/other", "/live", "/Live/x", "/live/../live/x", "/live/%2e/x", "/live/a;b", "/live//x", "/foo"]
    {
        let answer = gateway.exchange(request("GET", target, &good));
        assert!(matches!(answer.status, 400 | 501), "{target}: {answer:?}");
    }
    let hidden = b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n";
    for fields in [
        with("Upgrade", "h2c, websocket"),
        with("Upgrade", "websocket, foo/1"),
        with("Upgrade", "websocket/13"),
        with("Sec-WebSocket-Key", "short"),
        with("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZSEhIQ=="),
        with("Sec-WebSocket-Version", "13, 8"),
        with("Connection", "Upgrade, Sec-WebSocket-Key"),
        with("Connection", "close, Upgrade"),
        without("Sec-WebSocket-Key"),
        without("Sec-WebSocket-Version"),
        and("Sec-WebSocket-Key", KEY),
        and("Sec-WebSocket-Version", "13"),
        and("Upgrade", "h2c"),
        and("Upgrade", "websocket"),
        and("Content-Length", "0"),
        and("TE", "trailers"),
        and("Expect", "100-continue"),
        and("Keep-Alive", "timeout=5"),
    ] {
        let bytes = [&request("GET", "/live/x", &fields), &hidden[..]].concat();
        let answer = gateway.exchange(bytes);
        assert_eq!(answer.status, 501, "{fields:?}");
        answer.is_error(501);
    }
    gateway.exchange(request_with("GET", "/live/x", &good, b"body")).is_error(501);
    gateway.exchange(request_with("POST", "/live/x", &good, b"")).is_error(501);
    assert_eq!(platform.bytes(), 0);
    // Without a meaning, it is a plain request.
    let answer = gateway.exchange(request("GET", "/live/plain", &without("Connection")));
    assert_eq!(answer.status, 200);
    assert!(platform.request("/live/plain").values("upgrade").is_empty());
    gateway.still_healthy();
}

/// Neither where WebSockets may pass nor where another protocol may.
#[test]
fn an_offer_of_h2c_or_tls_never_reaches_the_platform() {
    let platform = Platform::echo();
    let gateway = gateway(&platform);
    let token = gateway.mint();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    for target in ["/live/x", "/public/x", "/foo"] {
        for upgrade in ["h2c", "H2C", "HTTP/2.0", "TLS/1.2", "h2c, foo/1", "foo/2"] {
            let fields = [
                ("user-token", token.as_str()),
                ("Connection", "Upgrade, HTTP2-Settings"),
                ("Upgrade", upgrade),
                ("HTTP2-Settings", "AAMAAABkAAQAoAAAAAIAAAAA"),
            ];
            let mut client = gateway.client();
            client.send([&request("GET", target, &fields), &preface[..]].concat());
            assert_eq!(client.answer().expect("an answer").status, 200, "{target} {upgrade}");
        }
    }
    for seen in platform.requests() {
        assert!(seen.values("upgrade").is_empty() && seen.values("http2-settings").is_empty(), "{seen:?}");
    }
    platform.never_saw("PRI *");
    gateway.still_healthy();
}

/// Else a platform that does not change its protocol would take them for a second request, which nobody has checked.
#[test]
fn bytes_behind_a_handshake_wait_for_the_platform_to_agree() {
    let hidden = "GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n";
    for status in ["200 OK", "404 Not Found", "426 Upgrade Required", "500 Internal Server Error"] {
        let (go_on, told) = mpsc::channel();
        let told = Mutex::new(told);
        let platform = Platform::start(Behaviour::Custom(Arc::new(move |_, stream| {
            told.lock().expect("a lock").recv().expect("a word");
            stream.write_all(format!("HTTP/1.1 {status}\r\nContent-Length: 4\r\n\r\nmine").as_bytes())?;
            thread::sleep(YOUTH);
            Ok(())
        })));
        let gateway = gateway(&platform);
        let token = gateway.mint();
        let mut client = gateway.client();
        client.send([request("GET", "/live/x", &fields(&token, &[])), hidden.into()].concat());
        platform.waits_for("/live/x");
        client.send(hidden);
        thread::sleep(YOUTH);
        go_on.send(()).expect("the platform waits");
        let answer = client.answer().expect("an answer");
        assert_eq!((answer.status.to_string().as_str(), answer.text().as_str()), (&status[..3], "mine"));
        // Nor does the gateway take them for one.
        assert!(answer.says_close(), "{answer:?}");
        client.is_closed();
        platform.never_saw("hidden");
        assert_eq!(platform.requests().len(), 1);
    }
}

#[test]
fn bytes_behind_a_handshake_follow_once_the_platform_agrees() {
    let live = Live::start();
    let gateway = live.options().start();
    let token = gateway.mint();
    for is_tls in super::WAYS {
        let mut wire = Wire::new(connect(&gateway, is_tls));
        let fields = [("user-token", token.as_str()), ("Connection", "upgrade"), ("Upgrade", "raw/1")];
        let bytes = [request("GET", "/ds-api/raw/echo", &fields), b"early".to_vec()].concat();
        wire.inner().write_all(&bytes).expect("open");
        assert!(wire.head().expect("an answer").start.contains("101"));
        assert_eq!(wire.sized(5).expect("an echo"), b"early");
    }
}

#[test]
fn an_answer_101_that_was_not_asked_for_is_502() {
    let platform = Platform::echo();
    let gateway = gateway(&platform);
    let token = gateway.mint();
    let websocket = fields(&token, &[]);
    let other = [("user-token", token.as_str()), ("Connection", "Upgrade"), ("Upgrade", "foo/1")];
    let plain = [("user-token", token.as_str())];
    let (upgrade, accept) =
        ("Connection: Upgrade\r\nUpgrade: websocket\r\n", format!("Sec-WebSocket-Accept: {ACCEPT}\r\n"));
    for (target, asked, answer) in [
        ("/live/x", &websocket[..], String::new()),
        ("/live/x", &websocket, upgrade.into()),
        ("/live/x", &websocket, accept.clone()),
        ("/live/x", &websocket, format!("Upgrade: websocket\r\n{accept}")),
        ("/live/x", &websocket, format!("Connection: close\r\nUpgrade: websocket\r\n{accept}")),
        ("/live/x", &websocket, format!("Connection: Upgrade\r\nUpgrade: h2c\r\n{accept}")),
        ("/live/x", &websocket, format!("Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n{accept}")),
        ("/live/x", &websocket, format!("{upgrade}Upgrade: h2c\r\n{accept}")),
        ("/live/x", &websocket, format!("{upgrade}{accept}{accept}")),
        ("/live/x", &websocket, format!("{upgrade}Sec-WebSocket-Accept: {}\r\n", ACCEPT.to_lowercase())),
        ("/foo", &other, format!("{upgrade}{accept}")),
        ("/foo", &other, "Connection: Upgrade\r\nUpgrade: foo/2\r\n".into()),
        ("/live/x", &plain, format!("{upgrade}{accept}")),
        ("/other", &plain, format!("{upgrade}{accept}")),
    ] {
        let text = format!(
            "HTTP/1.1 101 Switching Protocols\r\n{answer}\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        );
        platform.behave(Behaviour::Raw(text.into_bytes()));
        let refused = gateway.exchange(request("GET", target, asked));
        assert_eq!(refused.status, 502, "{asked:?} {answer}");
        refused.is_error(502);
    }
    // HTTP/1.0 knows no upgrade.
    platform.behave(Behaviour::Raw(format!("HTTP/1.0 101 x\r\n{upgrade}{accept}\r\n").into_bytes()));
    gateway.exchange(request("GET", "/live/x", &websocket)).is_error(502);
    assert_eq!(opened(&gateway, "websocket"), 0.0);
    platform.behave(Behaviour::Raw(format!("HTTP/1.1 101 x\r\n{upgrade}{accept}\r\n").into_bytes()));
    let mut client = gateway.client();
    client.send(request("GET", "/live/x", &websocket));
    assert_eq!(client.head().expect("an answer").0, 101);
    platform.behave(Behaviour::Echo);
    gateway.still_healthy();
}

/// The platform says which versions of WebSocket it has.
#[test]
fn another_version_is_answered_by_the_platform() {
    let live = Live::start();
    let gateway = live.options().start();
    let token = gateway.mint();
    let mut fields = fields(&token, &[]);
    fields[3].1 = "8";
    let answer = gateway.exchange(request("GET", "/ds-api/live/echo", &fields));
    assert_eq!((answer.status, answer.value("sec-websocket-version")), (426, "13"));
}

/// A handshake does not wait for a sequence of the store, and is not let through before it.
#[test]
fn a_handshake_that_names_a_sequence_to_come_is_told_to_come_again() {
    let live = Live::start();
    let gateway = live.options().start();
    let token = gateway.mint();
    let at = |sequence: &str| {
        let (name, token) = ("x-ds-at-least", token.as_str());
        open_with(&gateway, false, "/ds-api/live/echo", &[("user-token", token), (name, sequence)]).err()
    };
    assert_eq!(at("999999999"), Some(503));
    assert!(live.heads("/ds-api/live/").is_empty());
    assert_eq!(at("0"), None);
}

/// It holds what a request in flight holds, for as long as it is open.
#[test]
fn an_open_websocket_takes_a_platform_connection_of_the_limit() {
    let live = Live::start();
    let gateway =
        live.options().set("server", "threads", "1").set("limits", "platform_connections", 2).start();
    let token = gateway.mint();
    let from = |last: u8| {
        let fields = fields(&token, &[]);
        let mut client = Client::connect_from([127, last, 0, 1].into(), gateway.http());
        client.send(request("GET", "/ds-api/live/echo", &fields));
        let status = client.head().expect("an answer").0;
        (status, client)
    };
    let mut held = Vec::new();
    let refused = (1..=9).find(|last| {
        let (status, client) = from(*last);
        held.push(client);
        status == 503
    });
    assert!(refused.is_some_and(|last| last > 1), "{refused:?}");
    let open = opened(&gateway, "websocket");
    drop(held);
    eventually("all to be closed", || (opened(&gateway, "websocket") == 0.0).then_some(()));
    assert!(open >= 1.0, "{open}");
    eventually("room again", || (from(20).0 == 101).then_some(()));
}
