//! WebSockets and other upgraded connections, with a WebSocket library on both ends: what passes, and how it ends.

mod handshake;
mod platform;

use self::platform::{Live, UPGRADES};
use crate::client::{Channel, Client, request};
use crate::command::eventually;
use crate::contract::ENDPOINT;
use crate::gateway::{Gateway, PASSWORD, USER, is_alive};
use crate::wire::Wire;
use serde_json::Value;
use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};
use tungstenite::client::IntoClientRequest as _;
use tungstenite::error::{Error, ProtocolError};
use tungstenite::handshake::client::Response;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame, Frame};
use tungstenite::{Message, WebSocket};

type Socket = WebSocket<Box<dyn Channel>>;

/// Both ways in.
const WAYS: [bool; 2] = [false, true];

fn connect(gateway: &Gateway, is_tls: bool) -> Box<dyn Channel> {
    if is_tls {
        Client::connect(gateway.https()).secure().into_stream()
    } else {
        gateway.client().plain().into_stream()
    }
}

/// A handshake with these fields.
fn open_with(
    gateway: &Gateway,
    is_tls: bool,
    target: &str,
    fields: &[(&'static str, &str)],
) -> Result<(Socket, Response), u16> {
    let mut handshake = format!("ws://gateway.test{target}").into_client_request().expect("a request");
    for (name, value) in fields {
        handshake.headers_mut().insert(*name, value.parse().expect("a value"));
    }
    match tungstenite::client(handshake, connect(gateway, is_tls)) {
        Ok(opened) => Ok(opened),
        Err(tungstenite::HandshakeError::Failure(Error::Http(answer))) => Err(answer.status().as_u16()),
        Err(error) => panic!("{target}: {error}"),
    }
}

#[track_caller]
fn open(gateway: &Gateway, is_tls: bool, target: &str, token: &str) -> Socket {
    open_with(gateway, is_tls, target, &[("user-token", token)]).expect("a WebSocket").0
}

/// Reads to the close frame; the messages before it, and after how long it came.
#[track_caller]
fn closing(socket: &mut Socket) -> (Vec<Message>, Option<CloseFrame>) {
    let mut messages = Vec::new();
    loop {
        match socket.read() {
            Ok(Message::Close(frame)) => return (messages, frame),
            Ok(message) => messages.push(message),
            Err(error) => panic!("{error} after {} messages", messages.len()),
        }
    }
}

#[track_caller]
fn is_closed_with(socket: &mut Socket, code: u16, reason: &str) -> Vec<Message> {
    let (messages, frame) = closing(socket);
    let frame = frame.expect("a code");
    assert_eq!((u16::from(frame.code), frame.reason.as_str()), (code, reason));
    // Nothing behind it, and the connection ends.
    let end = socket.read().expect_err("the end");
    assert!(matches!(end, Error::ConnectionClosed | Error::Io(_)), "{end:?}");
    messages
}

/// The connection ends, and not as a WebSocket ends.
#[track_caller]
fn is_cut(socket: &mut Socket) {
    let error = loop {
        match socket.read() {
            Ok(Message::Close(frame)) => panic!("{frame:?}"),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    let is_reset = matches!(&error, Error::Protocol(ProtocolError::ResetWithoutClosingHandshake))
        || matches!(&error, Error::Io(error) if error.kind() != io::ErrorKind::WouldBlock);
    assert!(is_reset, "{error:?}");
}

fn revoke(gateway: &Gateway, token: &str) -> Instant {
    assert_eq!(gateway.exchange(request("DELETE", ENDPOINT, &[("user-token", token)])).status, 204);
    Instant::now()
}

fn echoes(socket: &mut Socket, text: &str) {
    socket.send(text.into()).expect("open");
    assert_eq!(socket.read().expect("an echo"), Message::from(text));
}

fn opened(gateway: &Gateway, protocol: &str) -> f64 {
    gateway.metric("ds_gateway_upgraded_connections", &[&format!("protocol=\"{protocol}\"")])
}

fn ended(gateway: &Gateway, reason: &str) -> f64 {
    gateway.metric("ds_gateway_upgraded_connections_ended_total", &[&format!("reason=\"{reason}\"")])
}

/// The access line of the one request for this target.
fn line(gateway: &Gateway, target: &str) -> Value {
    let line = eventually("an access line", || {
        gateway.log.lines().into_iter().find(|line| line.contains(&format!("\"path\":\"{target}\"")))
    });
    serde_json::from_str(&line).expect("a line")
}

/// Long enough that a request is not finished first, as a young one is.
const YOUTH: Duration = Duration::from_millis(700);

/// A second is what is promised; this machine may be busy with other tests.
const SOON: Duration = Duration::from_secs(3);

#[test]
fn messages_pass_both_ways_as_they_are() {
    let live = Live::start();
    let gateway = live.options().start();
    let token = gateway.mint();
    for is_tls in WAYS {
        let mut socket = open(&gateway, is_tls, "/ds-api/live/echo", &token);
        let large = Message::binary((0..3_000_000u32).map(|number| (number % 251) as u8).collect::<Vec<_>>());
        for message in [Message::from("text \u{e9}"), Message::from(""), Message::binary(vec![0; 126]), large]
        {
            socket.send(message.clone()).expect("open");
            assert!(socket.read().expect("an echo") == message);
        }
        // In pieces, with a control frame between them.
        let piece =
            |text: &'static str, opcode, is_last| Message::Frame(Frame::message(text, opcode, is_last));
        socket.send(piece("a ", OpCode::Data(Data::Text), false)).expect("open");
        socket.send(Message::Ping("p".into())).expect("open");
        socket.send(piece("message", OpCode::Data(Data::Continue), true)).expect("open");
        assert_eq!(socket.read().expect("an answer"), Message::Pong("p".into()));
        assert_eq!(socket.read().expect("an echo"), Message::from("a message"));
        // Both sides close, as a WebSocket does.
        socket.close(None).expect("open");
        while socket.read().is_ok() {}
        // What the platform says at once is not lost.
        let mut socket = open(&gateway, is_tls, "/ds-api/live/hello", &token);
        assert_eq!(socket.read().expect("a message"), Message::from("hello"));
    }
    live.has_open(0, "all to be closed");
    eventually("no connection", || (opened(&gateway, "websocket") == 0.0).then_some(()));
    gateway.still_healthy();
}

#[test]
fn a_websocket_ends_with_1008_when_its_token_does() {
    let live = Live::start();
    let gateway = live.options().start();
    let neighbour = gateway.login("other", PASSWORD).expect("a token");
    let mut beside = WAYS.map(|is_tls| open(&gateway, is_tls, "/ds-api/live/echo", &neighbour));
    let mut without = open_with(&gateway, false, "/open/echo", &[]).expect("a public route").0;
    let end_token: fn(&Gateway, &str) = |gateway, token| {
        revoke(gateway, token);
    };
    let end_user: fn(&Gateway, &str) =
        |gateway, _| drop(gateway.folder.cli(&["revoke", "user", USER], "").ok());
    for (end, fault) in [(end_token, "revoked_token"), (end_user, "revoked_user")] {
        let token = gateway.mint();
        let kinds = ["echo", "ticks", "slow"];
        let mut sockets: Vec<Socket> = WAYS
            .into_iter()
            .flat_map(|is_tls| kinds.map(|kind| (is_tls, kind)))
            .map(|(is_tls, kind)| open(&gateway, is_tls, &format!("/ds-api/live/{fault}/{kind}"), &token))
            .collect();
        thread::sleep(YOUTH);
        let readers: Vec<_> = sockets
            .drain(..)
            .map(|mut socket| {
                thread::spawn(move || (is_closed_with(&mut socket, 1008, "token revoked"), Instant::now()))
            })
            .collect();
        end(&gateway, &token);
        let revoked_at = Instant::now();
        for reader in readers {
            let (messages, at) = reader.join().expect("a close frame");
            assert!(at.saturating_duration_since(revoked_at) < SOON, "{:?}", at - revoked_at);
            // The last one was whole.
            assert!(
                messages.iter().all(|message| message.to_text().is_ok_and(|text| text.ends_with("tick")))
            );
        }
        live.has_open(3, "the platform to hear of it");
        let line = line(&gateway, &format!("/ds-api/live/{fault}/echo"));
        assert_eq!((&line["status"], &line["fault"]), (&101.into(), &fault.into()), "{line}");
        beside.iter_mut().for_each(|socket| echoes(socket, "still there"));
    }
    echoes(&mut without, "still there");
    assert_eq!(ended(&gateway, "token"), 12.0);
    assert_eq!(gateway.metric("ds_gateway_requests_ended_total", &[]), 12.0);
    assert_eq!(opened(&gateway, "websocket"), 3.0);
}

#[test]
fn a_websocket_ends_with_1008_when_its_token_expires() {
    let live = Live::start();
    let gateway = live.options().set("token", "lifetime", "\"3s\"").start();
    let token = gateway.mint();
    let mut sockets = WAYS.map(|is_tls| open(&gateway, is_tls, "/ds-api/live/ticks", &token));
    for socket in &mut sockets {
        is_closed_with(socket, 1008, "token expired");
    }
    live.has_open(0, "the platform to hear of it");
    assert_eq!(ended(&gateway, "token"), 2.0);
}

#[test]
fn within_a_frame_the_connection_is_cut() {
    let live = Live::start();
    let gateway = live.options().start();
    let token = gateway.mint();
    let mut sockets = WAYS.map(|is_tls| open(&gateway, is_tls, "/ds-api/live/stuck", &token));
    thread::sleep(YOUTH);
    let revoked_at = revoke(&gateway, &token);
    sockets.iter_mut().for_each(is_cut);
    assert!(revoked_at.elapsed() < SOON, "{:?}", revoked_at.elapsed());
    live.has_open(0, "the platform to hear of it");
    assert_eq!(ended(&gateway, "token"), 2.0);
}

#[test]
fn much_in_one_direction_does_not_hold_up_the_other() {
    let live = Live::start();
    let gateway = live.options().set("server", "threads", "1").start();
    let token = gateway.mint();
    let mut client = gateway.client();
    let fields = [("user-token", token.as_str()), ("Connection", "upgrade"), ("Upgrade", "raw")];
    client.send(request("GET", "/ds-api/raw/sink", &fields));
    assert_eq!(client.head().expect("an answer").0, 101);
    let mut sender = client.sender();
    let flood = thread::spawn(move || while sender.write_all(&[7; 256 << 10]).is_ok() {});
    for _ in 0..200 {
        assert_eq!(client.wire().sized(4).expect("a tick"), b"tick");
    }
    thread::sleep(YOUTH);
    revoke(&gateway, &token);
    flood.join().expect("the flood ends with the token");
    live.has_open(0, "the platform to hear of it");
}

/// As every request there, without an identity; nothing that has no token can end with one.
#[test]
fn on_a_route_that_is_observed_a_websocket_needs_no_token() {
    let live = Live::start();
    let until = (chrono::Utc::now() + chrono::Duration::days(3)).format("\"%Y-%m-%d\"").to_string();
    let gateway = live
        .options()
        .set("routes", "mode", "\"observe\"")
        .set("routes", "observe_until", until)
        .set("routes", "enforce", "[\"/ds-api/live/enforced/*\", \"/ds-api/user-token\"]")
        .start();
    let (mut socket, _) =
        open_with(&gateway, false, "/ds-api/live/echo", &[("user-token", "x")]).expect("observed");
    echoes(&mut socket, "here");
    assert!(live.heads("/ds-api/live/echo")[0].values("x-ds-user").is_empty());
    let enforced = open_with(&gateway, false, "/ds-api/live/enforced/echo", &[("user-token", "x")]);
    assert_eq!(enforced.err(), Some(401));
    let token = gateway.mint();
    let mut enforced = open(&gateway, false, "/ds-api/live/enforced/echo", &token);
    thread::sleep(YOUTH);
    revoke(&gateway, &token);
    is_closed_with(&mut enforced, 1008, "token revoked");
    echoes(&mut socket, "still there");
}

/// The gateway says nothing in its name.
#[test]
fn a_platform_that_is_lost_is_passed_on_as_a_reset() {
    let live = Live::start();
    let gateway = live.options().start();
    let token = gateway.mint();
    for is_tls in WAYS {
        let mut socket = open(&gateway, is_tls, "/ds-api/live/resets", &token);
        assert_eq!(socket.read().expect("a message"), Message::from("the last tick"));
        is_cut(&mut socket);
    }
    eventually("both ends", || (ended(&gateway, "platform") == 2.0).then_some(()));
    assert_eq!(line(&gateway, "/ds-api/live/resets")["fault"], "platform connection lost");
}

/// What is in no frame cannot be told why.
#[test]
fn another_protocol_is_cut_with_its_token() {
    let live = Live::start();
    let gateway = live.options().start();
    let token = gateway.mint();
    let mut clients = WAYS.map(|is_tls| open_raw(&gateway, is_tls, "/ds-api/raw/echo", &token));
    thread::sleep(YOUTH);
    let revoked_at = revoke(&gateway, &token);
    for client in &mut clients {
        let mut byte = [0];
        let end = client.inner().read(&mut byte).expect_err("no plain end");
        assert_ne!(end.kind(), io::ErrorKind::WouldBlock, "{end}");
    }
    assert!(revoked_at.elapsed() < SOON, "{:?}", revoked_at.elapsed());
    live.has_open(0, "the platform to hear of it");
    let cut = gateway.metric("ds_gateway_upgraded_connections_ended_total", &["\"other\"", "\"token\""]);
    assert_eq!(cut, 2.0);
}

/// A raw connection, after its 101.
#[track_caller]
fn open_raw(gateway: &Gateway, is_tls: bool, target: &str, token: &str) -> Wire<Box<dyn Channel>> {
    let mut wire = Wire::new(connect(gateway, is_tls));
    let fields = [("user-token", token), ("Connection", "upgrade"), ("Upgrade", "RAW")];
    wire.inner().write_all(&request("GET", target, &fields)).expect("open");
    let head = wire.head().expect("an answer");
    assert_eq!(head.start, "HTTP/1.1 101 Switching Protocols");
    assert_eq!((head.values("connection"), head.values("upgrade")), (vec!["Upgrade"], vec!["RAW"]));
    wire
}

#[test]
fn another_protocol_carries_any_bytes() {
    let live = Live::start();
    let gateway = live.options().start();
    let token = gateway.mint();
    let bytes: Vec<u8> = (0..=255).chain([0x88, 0x00]).chain(*b"GET / HTTP/1.1\r\n\r\n").collect();
    for is_tls in WAYS {
        let mut wire = open_raw(&gateway, is_tls, "/ds-api/raw/echo", &token);
        for piece in bytes.chunks(7) {
            wire.inner().write_all(piece).expect("open");
        }
        assert_eq!(wire.sized(bytes.len()).expect("an echo"), bytes);
    }
    assert_eq!(live.raw(), [bytes.clone(), bytes].concat());
    assert!(live.heads("GET / ").is_empty());
}

#[test]
fn one_side_may_end_and_the_other_go_on() {
    let live = Live::start();
    let gateway = live.options().start();
    let token = gateway.mint();
    // The client ends first.
    let mut client = gateway.client();
    let fields = [("user-token", token.as_str()), ("Connection", "upgrade"), ("Upgrade", "raw")];
    client.send(request("GET", "/ds-api/raw/after", &fields));
    assert_eq!(client.head().expect("an answer").0, 101);
    client.send("question");
    client.sender().shutdown(Shutdown::Write).expect("open");
    assert_eq!(client.wire().rest().expect("the rest"), b"questionafter the end");
    assert_eq!(live.raw(), b"question");
    // The platform ends first.
    for is_tls in WAYS {
        let mut wire = open_raw(&gateway, is_tls, "/ds-api/raw/first", &token);
        wire.inner().write_all(b"one").expect("open");
        assert_eq!(wire.rest().expect("the rest"), b"only this");
        wire.inner().write_all(b"two").expect("open");
        eventually("what comes after it", || live.raw().ends_with(b"onetwo").then_some(()));
    }
    eventually("their ends", || {
        (ended(&gateway, "client") + ended(&gateway, "platform") == 3.0).then_some(())
    });
    assert_eq!((ended(&gateway, "client"), ended(&gateway, "platform")), (1.0, 2.0));
}

#[test]
fn a_connection_on_which_nothing_moves_is_closed() {
    let live = Live::start();
    let gateway = live.options().set("limits", "upgraded_idle_timeout", "\"2s\"").start();
    let token = gateway.mint();
    let mut socket = open(&gateway, false, "/ds-api/live/echo", &token);
    let mut raw = open_raw(&gateway, false, "/ds-api/raw/echo", &token);
    let began = Instant::now();
    // A byte resets it, whoever sends it.
    while began.elapsed() < Duration::from_secs(4) {
        echoes(&mut socket, "here");
        thread::sleep(Duration::from_millis(100));
    }
    is_closed_with(&mut socket, 1001, "idle for too long");
    assert_eq!(raw.inner().read(&mut [0]).expect_err("cut").kind(), io::ErrorKind::ConnectionReset);
    let mut stuck = open(&gateway, true, "/ds-api/live/stuck", &token);
    is_cut(&mut stuck);
    live.has_open(0, "the platform to hear of it");
    assert_eq!(ended(&gateway, "idle"), 3.0);
    assert_eq!(line(&gateway, "/ds-api/live/echo")["fault"], "upgraded connection idle");
}

#[test]
fn a_slow_reader_slows_the_platform_down_and_is_cut_all_the_same() {
    let live = Live::start();
    let gateway = live.options().start();
    let token = gateway.mint();
    let sockets = WAYS.map(|is_tls| open(&gateway, is_tls, "/ds-api/live/flood", &token));
    let mut written = 0;
    eventually("the flood to stand still", || {
        thread::sleep(Duration::from_millis(300));
        let before = std::mem::replace(&mut written, live.written());
        (written > 0 && written == before).then_some(())
    });
    // What kernels hold of two connections, four times.
    assert!(written < 64 << 20, "{written}");
    let revoked_at = revoke(&gateway, &token);
    live.has_open(0, "the platform to hear of it");
    assert!(revoked_at.elapsed() < SOON, "{:?}", revoked_at.elapsed());
    eventually("both ends", || (ended(&gateway, "token") == 2.0).then_some(()));
    drop(sockets);
    gateway.still_healthy();
}

#[test]
fn upgraded_connections_are_counted_and_logged_at_their_end() {
    let live = Live::start();
    let gateway = live.options().start();
    let token = gateway.mint();
    let mut socket = open(&gateway, false, "/ds-api/live/echo", &token);
    let raw = open_raw(&gateway, true, "/ds-api/raw/echo", &token);
    echoes(&mut socket, "12345");
    assert_eq!((opened(&gateway, "websocket"), opened(&gateway, "other")), (1.0, 1.0));
    assert_eq!(gateway.metric("ds_gateway_in_flight_requests", &[]), 2.0);
    let mut closing = open(&gateway, false, "/ds-api/live/closes", &token);
    while closing.read().is_ok() {}
    drop((socket, raw, closing));
    eventually("both to be closed", || {
        (opened(&gateway, "websocket") + opened(&gateway, "other") == 0.0).then_some(())
    });
    let line = line(&gateway, "/ds-api/live/echo");
    for (name, expected) in [
        ("status", Value::from(101)),
        ("decision", "admitted".into()),
        ("route", "protected".into()),
        ("user", USER.into()),
        // A header of 6 bytes with a mask, of 2 without.
        ("bytes_received", (6 + 5).into()),
        ("bytes_sent", (2 + 5).into()),
        ("tries", 1.into()),
    ] {
        assert_eq!(line[name], expected, "{name}: {line}");
    }
    assert!(line["duration_ms"].as_f64().expect("a time") > 0.0, "{line}");
    let switched = gateway.metric("ds_gateway_requests_total", &["\"protected\"", "\"1xx\""]);
    let timed = gateway.metric("ds_gateway_request_duration_seconds_count", &["\"stream\""]);
    assert_eq!((switched, timed), (3.0, 3.0));
    eventually("no request", || (gateway.metric("ds_gateway_in_flight_requests", &[]) == 0.0).then_some(()));
}

/// A token that is good keeps what it has opened; the next handshake goes by the new rules.
#[test]
fn a_reload_that_removes_the_route_leaves_what_is_open() {
    let live = Live::start();
    let options = live.options();
    let gateway = options.clone().start();
    let token = gateway.mint();
    let mut socket = open(&gateway, false, "/ds-api/live/echo", &token);
    let without = options.clone().set("routes", "upgrades", "[]");
    assert_eq!(gateway.reloaded(&without), ["routes.upgrades"]);
    echoes(&mut socket, "still there");
    let refused = open_with(&gateway, false, "/ds-api/live/echo", &[("user-token", &token)]);
    assert_eq!(refused.err(), Some(501));
    let with = without.set("routes", "upgrades", UPGRADES).set("limits", "upgraded_idle_timeout", "\"9m\"");
    assert_eq!(gateway.reloaded(&with), ["routes.upgrades", "limits.upgraded_idle_timeout"]);
    let mut again = open(&gateway, false, "/ds-api/live/echo", &token);
    echoes(&mut again, "here");
    thread::sleep(YOUTH);
    revoke(&gateway, &token);
    is_closed_with(&mut socket, 1008, "token revoked");
}

#[test]
fn a_longest_duration_ends_it() {
    let live = Live::start();
    let limits = r#"[{ path = "/ds-api/live/*", limit = "2s" }]"#;
    let gateway = live.options().set("routes", "request_duration", limits).start();
    let token = gateway.mint();
    let mut socket = open(&gateway, false, "/ds-api/live/ticks", &token);
    is_closed_with(&mut socket, 1008, "connection open for too long");
    assert_eq!(ended(&gateway, "duration"), 1.0);
    assert_eq!(line(&gateway, "/ds-api/live/ticks")["fault"], "request duration exceeded");
}

/// A WebSocket would hold the process for all of `server.grace`; other protocols have that long, as a request in flight has.
#[test]
fn a_stop_ends_websockets_with_1001_at_once() {
    let live = Live::start();
    let mut gateway = live.options().set("server", "grace", "\"1h\"").start();
    let token = gateway.mint();
    let mut sockets = WAYS.map(|is_tls| open(&gateway, is_tls, "/ds-api/live/slow", &token));
    let mut raw = open_raw(&gateway, false, "/ds-api/raw/echo", &token);
    gateway.signal("TERM");
    for socket in &mut sockets {
        is_closed_with(socket, 1001, "gateway stopping");
    }
    raw.inner().write_all(b"still here").expect("open");
    assert_eq!(raw.sized(10).expect("an echo"), b"still here");
    drop(raw);
    assert_eq!(gateway.ends(), Some(0));
}

/// The old process goes on with it, and knows what the new one acknowledges.
#[test]
fn an_upgrade_of_the_process_leaves_it_open_and_its_token_ends_it_all_the_same() {
    let live = Live::start();
    let mut gateway = live.options().set("server", "upgrade_grace", "\"4s\"").start();
    let (first, second) = (gateway.mint(), gateway.mint());
    let mut sockets = [&first, &second].map(|token| open(&gateway, false, "/ds-api/live/echo", token));
    let before = gateway.process();
    gateway.upgraded();
    let [revoked, kept] = &mut sockets;
    for socket in [&mut *revoked, &mut *kept] {
        echoes(socket, "of the old process");
    }
    let mut new = open(&gateway, false, "/ds-api/live/echo", &second);
    thread::sleep(YOUTH);
    let began = revoke(&gateway, &first);
    is_closed_with(revoked, 1008, "token revoked");
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    echoes(kept, "still");
    is_closed_with(kept, 1001, "gateway stopping");
    eventually("the old process to end", || (!is_alive(before)).then_some(()));
    echoes(&mut new, "of the new process");
}

/// A frame that never ends holds up the stop, and not the end of the token.
#[test]
fn a_revocation_while_the_gateway_stops_cuts_what_waits_for_a_frame() {
    let live = Live::start();
    let mut gateway = live.options().set("server", "grace", "\"1h\"").start();
    let token = gateway.mint();
    let mut socket = open(&gateway, false, "/ds-api/live/stuck", &token);
    thread::sleep(YOUTH);
    gateway.signal("TERM");
    eventually("a line that says so", || {
        gateway.log.lines().iter().any(|line| line.contains("\"stopping")).then_some(())
    });
    thread::sleep(YOUTH);
    gateway.folder.cli(&["revoke", "user", USER], "").ok();
    is_cut(&mut socket);
    assert_eq!(gateway.ends(), Some(0));
}
