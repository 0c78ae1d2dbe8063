//! Places for connections: counted from the moment a connection is accepted, shared between addresses, and never taken from the
//! admin listener.

use crate::client::{Client, request};
use crate::command::eventually;
use crate::curl::curl_any;
use crate::gateway::Gateway;
use crate::h2_client::tls;
use crate::options::Options;
use crate::platform::{Behaviour, Platform};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};

/// Two blocks of addresses that are not 127.0.0.0/24, where the tests themselves ask.
pub const ATTACKER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 1, 1));
pub const HONEST: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 2, 1));

fn ended(gateway: &Gateway, reason: &str) -> f64 {
    gateway.metric("ds_gateway_connections_ended_total", &[&format!("reason=\"{reason}\"")])
}

/// A platform that answers once it is told to, or for good once the sender is gone.
pub fn held() -> (Platform, Sender<()>) {
    let (release, held) = channel();
    let held = Mutex::new(held);
    let platform = Platform::start(Behaviour::Custom(Arc::new(move |_, stream| {
        // An error means that everything is let go.
        let _ = held.lock().expect("a lock").recv();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    })));
    (platform, release)
}

pub fn public(source: IpAddr, address: SocketAddr) -> Client {
    let mut client = Client::connect_from(source, address);
    client.send(request("GET", "/public/x", &[]));
    client
}

#[test]
fn sockets_that_never_greet_are_counted_and_ended() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).https().set("limits", "handshake_timeout", "\"5s\"").start();
    let silent: Vec<TcpStream> =
        (0..200).map(|_| TcpStream::connect(gateway.https()).expect("a connection")).collect();
    eventually("all to be counted", || {
        (gateway.metric("ds_gateway_connections", &[]) >= 200.0).then_some(())
    });
    eventually("all to be ended", || (ended(&gateway, "handshake_timeout") == 200.0).then_some(()));
    eventually("no place to be taken", || {
        (gateway.metric("ds_gateway_connections", &[]) < 200.0).then_some(())
    });
    drop(silent);
    drop(TcpStream::connect(gateway.https()).expect("a connection"));
    eventually("a failed handshake", || (ended(&gateway, "handshake") == 1.0).then_some(()));
    let messages = gateway.log.messages("connections refused or ended");
    let lines = messages.iter().filter(|line| line["reason"] == "handshake_timeout").count();
    assert_eq!(lines, 1, "a line in ten seconds: {messages:?}");
    gateway.still_healthy();
}

#[test]
fn the_address_that_has_most_places_gives_up_idle_ones() {
    let platform = Platform::echo();
    let gateway =
        Options::new(&platform).https().public("[\"/public/*\"]").set("limits", "connections", "10").start();
    // Every kind of client that asks for nothing: silent, within a header, between two requests, and before TLS.
    let mut attackers = Vec::new();
    for kind in 0..12 {
        let listener = if kind % 4 == 3 { gateway.https() } else { gateway.http() };
        let mut client = Client::connect_from(ATTACKER, listener);
        match kind % 4 {
            1 => client.send("GET / HTTP/1.1\r\nx-slow: "),
            2 => assert_eq!(client.exchange(request("GET", "/public/x", &[])).status, 200),
            _ => {}
        }
        attackers.push(client);
    }
    let mut honest = Vec::new();
    for number in 0..5 {
        let mut client = public(HONEST, gateway.http());
        assert_eq!(client.answer().expect("an answer").status, 200, "{number}");
        honest.push(client);
    }
    assert_eq!(ended(&gateway, "connections"), 0.0);
    assert!(ended(&gateway, "yielded") >= 5.0);
    // Nothing was taken from those that have fewer.
    for client in &mut honest {
        assert_eq!(client.exchange(request("GET", "/public/again", &[])).status, 200);
    }
    drop(attackers);
    drop(honest);
    gateway.still_healthy();
}

#[test]
fn a_request_in_flight_is_never_given_up_for_another() {
    let (platform, release) = held();
    let gateway = Options::new(&platform).public("[\"/public/*\"]").set("limits", "connections", "3").start();
    let busy: Vec<Client> = (0..3).map(|_| public(ATTACKER, gateway.http())).collect();
    eventually("all to be forwarded", || (platform.requests().len() == 3).then_some(()));
    let mut refused = public(HONEST, gateway.http());
    refused.answer().expect("an answer").is_away();
    assert_eq!(ended(&gateway, "connections"), 1.0);
    for _ in 0..3 {
        release.send(()).expect("the platform waits");
    }
    for mut client in busy {
        assert_eq!(client.answer().expect("an answer").status, 200);
    }
    platform.behave(Behaviour::Echo);
    drop(release);
    gateway.still_healthy();
}

#[test]
fn over_tls_a_refused_client_is_told_as_well() {
    let (platform, release) = held();
    let gateway =
        Options::new(&platform).https().public("[\"/public/*\"]").set("limits", "connections", "2").start();
    let busy = [(); 2].map(|()| public(ATTACKER, gateway.http()));
    eventually("both to be forwarded", || (platform.requests().len() == 2).then_some(()));
    let url = format!("https://{}/public/x", gateway.https());
    // curl knows HTTP/1.1 too, in which there is more to say.
    for protocol in ["--http1.1", "--http2"] {
        curl_any(&[protocol], &url, "").is(503).is_error(503);
    }
    // A client of HTTP/2 alone is sent no line of HTTP/1.1: SETTINGS, then GOAWAY that no stream was served.
    let mut only = tls(HONEST, gateway.https()).expect("a handshake");
    assert_eq!(only.ssl().selected_alpn_protocol(), Some(&b"h2"[..]));
    let mut bytes = Vec::new();
    let _ = only.read_to_end(&mut bytes);
    let (settings, rest) = bytes.split_at(9);
    assert_eq!(settings, [0, 0, 0, 4, 0, 0, 0, 0, 0]);
    let (go_away, text) = rest.split_at(17);
    assert_eq!(go_away[3..], [7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xb][..14]);
    assert_eq!(usize::from(go_away[2]), 8 + text.len());
    assert!(String::from_utf8_lossy(text).contains("too many connections"));
    platform.behave(Behaviour::Echo);
    drop((release, busy));
    gateway.still_healthy();
}

#[test]
fn a_handshake_that_fails_leaves_a_line_that_says_why() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).https().start();
    for (bytes, reason) in [
        (&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], "plain_http"),
        (b"\x16\x03\x01\x00\x05hello", "handshake"),
    ] {
        for _ in 0..3 {
            let mut client = Client::connect_from(HONEST, gateway.https());
            client.send(bytes);
            client.finish();
            let _ = client.wire().rest();
        }
        eventually(reason, || (ended(&gateway, reason) == 3.0).then_some(()));
        let lines = eventually("a line", || {
            let messages = gateway.log.messages("connections refused or ended");
            let lines: Vec<_> = messages.into_iter().filter(|line| line["reason"] == reason).collect();
            (!lines.is_empty()).then_some(lines)
        });
        assert_eq!(lines.len(), 1, "a line in ten seconds: {lines:?}");
        assert_eq!(lines[0]["last_client"], HONEST.to_string(), "{lines:?}");
        assert_eq!(lines[0]["connections"], 1, "{lines:?}");
    }
    gateway.still_healthy();
}

#[test]
fn an_address_may_have_its_own_bound() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform)
        .public("[\"/public/*\"]")
        .set("limits", "connections_per_address", "2")
        .start();
    let kept: Vec<Client> = (0..2)
        .map(|_| {
            let mut client = public(ATTACKER, gateway.http());
            assert_eq!(client.answer().expect("an answer").status, 200);
            client
        })
        .collect();
    public(ATTACKER, gateway.http()).answer().expect("an answer").is_away();
    assert_eq!(public(HONEST, gateway.http()).answer().expect("an answer").status, 200);
    assert_eq!(ended(&gateway, "connections_per_address"), 1.0);
    drop(kept);
    eventually("a place of that address", || {
        (public(ATTACKER, gateway.http()).answer().ok()?.status == 200).then_some(())
    });
    gateway.still_healthy();
}

#[test]
fn the_admin_listener_has_places_of_its_own() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform).set("limits", "connections", "5").start();
    let clients: Vec<Client> = (0..20).map(|_| Client::connect_from(ATTACKER, gateway.http())).collect();
    let idle: Vec<Client> =
        (0..200).map(|_| Client::connect_from(ATTACKER, gateway.admin_address())).collect();
    for _ in 0..5 {
        assert_eq!(gateway.admin("/readyz").status, 200);
    }
    let mut large = Client::connect(gateway.admin_address());
    large
        .send(format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nx-large: {}\r\n\r\n", "v".repeat(40_000)));
    assert_eq!(large.answer().expect("an answer").status, 431);
    drop((clients, idle));
    gateway.still_healthy();
}

/// Many connections on few workers: each has its share, so that no core is idle while another is late.
#[test]
fn connections_are_spread_over_the_workers() {
    let platform = Platform::echo();
    let gateway = Options::new(&platform)
        .public("[\"/public/*\"]")
        .set("server", "threads", "2")
        .set("limits", "keepalive_timeout", "\"60s\"")
        .start();
    let mut clients: Vec<Client> = (0..200).map(|_| Client::connect(gateway.http())).collect();
    let before = switches(&gateway);
    for _ in 0..5 {
        for client in &mut clients {
            assert_eq!(client.exchange(request("GET", "/public/x", &[])).status, 200);
        }
    }
    let worked: Vec<u64> = switches(&gateway).iter().zip(&before).map(|(now, before)| now - before).collect();
    let all: u64 = worked.iter().sum();
    assert_eq!(worked.len(), 2);
    assert!(worked.iter().all(|one| one * 10 >= all * 4), "neither worker has under 40 %: {worked:?}");
    gateway.still_healthy();
}

/// How often each worker has waited for something.
fn switches(gateway: &Gateway) -> Vec<u64> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", gateway.process())).expect("tasks");
    let mut workers: Vec<(String, u64)> = tasks
        .filter_map(|task| {
            let status = std::fs::read_to_string(task.ok()?.path().join("status")).ok()?;
            let value = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            let name = value("Name:")?.strip_prefix("gateway ")?;
            let number = name.parse::<u32>().ok()?;
            Some((number.to_string(), value("voluntary_ctxt_switches:")?.parse().ok()?))
        })
        .collect();
    workers.sort();
    workers.into_iter().map(|(_, count)| count).collect()
}
