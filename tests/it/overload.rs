//! Limits of all requests together: requests, connections to the platform, memory. What is too much is 503 and said so; clients
//! that ask for much and take nothing are ended; and everybody else is served meanwhile.

use crate::client::{Client, request, request_with};
use crate::command::eventually;
use crate::connections::{ATTACKER, HONEST, held, public};
use crate::gateway::Gateway;
use crate::h2_client::{H2Client, statuses};
use crate::options::Options;
use crate::platform::{Behaviour, Platform};
use std::fs;
use std::io::Write as _;
use std::sync::Arc;

fn refused(gateway: &Gateway, limit: &str) -> f64 {
    gateway.metric("ds_gateway_requests_refused_total", &[&format!("limit=\"{limit}\"")])
}

fn options(platform: &Platform) -> Options {
    Options::new(platform).https().public("[\"/public/*\"]").set("server", "threads", "1")
}

/// Resident memory, in bytes.
pub fn resident(gateway: &Gateway) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", gateway.process())).expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kilobytes * 1024
}

/// A platform whose answers are 20 MB.
fn downloads() -> Platform {
    Platform::start(Behaviour::Custom(Arc::new(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 20000000\r\nx-platform: yes\r\n\r\n")?;
        (0..20).try_for_each(|_| stream.write_all(&[b'd'; 1_000_000]))
    })))
}

/// A gateway with little memory, which ends clients that take nothing for three seconds.
fn impatient(platform: &Platform) -> Gateway {
    options(platform).set("limits", "memory", "64000000").set("limits", "write_timeout", "\"3s\"").start()
}

#[test]
fn requests_beyond_the_limit_are_503_and_others_are_served_again_after_it() {
    let (platform, release) = held();
    let gateway = options(&platform).set("limits", "requests", "5").start();
    let busy: Vec<Client> = (0..4).map(|_| public(ATTACKER, gateway.http())).collect();
    eventually("them to be forwarded", || (platform.requests().len() == 4).then_some(()));
    let mut client = public(ATTACKER, gateway.http());
    client.answer().expect("an answer").is_away();
    // The connection is of use once there is room. A body does not become another request.
    client.send(request_with("POST", "/public/x", &[], b"GET /canary HTTP/1.1\r\nHost: x\r\n\r\n"));
    client.answer().expect("an answer").is_away();
    assert_eq!(refused(&gateway, "requests"), 2.0);
    let mut other = public(HONEST, gateway.http());
    eventually("the other network's", || (platform.requests().len() == 5).then_some(()));
    for _ in 0..5 {
        release.send(()).expect("the platform waits");
    }
    for mut client in busy {
        assert_eq!(client.answer().expect("an answer").status, 200);
    }
    assert_eq!(other.answer().expect("the last place was left to another network").status, 200);
    platform.behave(Behaviour::Echo);
    drop(release);
    platform.never_saw("canary");
    gateway.still_healthy();
}

#[test]
fn connections_to_the_platform_are_bounded() {
    let (platform, release) = held();
    let gateway = options(&platform).set("limits", "platform_connections", "8").start();
    let mut busy: Vec<Client> = (0..10).map(|_| public(ATTACKER, gateway.http())).collect();
    eventually("some to be refused", || (refused(&gateway, "platform_connections") >= 4.0).then_some(()));
    assert!(platform.requests().len() <= 6, "two of eight are for those that are kept");
    // What needs no platform is served all the same.
    assert!(gateway.login("myUser", "wrong").is_none());
    for _ in 0..10 {
        release.send(()).expect("the platform waits");
    }
    let answers: Vec<u16> =
        busy.iter_mut().map(|client| client.answer().expect("an answer").status).collect();
    assert_eq!(
        answers.iter().filter(|status| **status == 503).count(),
        refused(&gateway, "platform_connections") as usize
    );
    assert!(answers.iter().all(|status| [200, 503].contains(status)), "{answers:?}");
    platform.behave(Behaviour::Echo);
    drop(release);
    gateway.still_healthy();
}

#[test]
fn streams_of_one_connection_are_bounded() {
    let (platform, release) = held();
    let gateway = options(&platform).set("limits", "requests_per_connection", "5").start();
    let mut client = H2Client::connect(ATTACKER, gateway.https(), 65_535);
    // Once the client has read the gateway's setting, it asks for no more than may wait.
    let answers: Vec<_> = (0..20).map_while(|number| client.try_get(&format!("/public/{number}"))).collect();
    assert!(answers.len() >= 5, "{} asked", answers.len());
    let got = std::thread::spawn(move || statuses(answers));
    eventually("five to be forwarded", || (platform.requests().len() == 5).then_some(()));
    drop(release);
    let got = got.join().expect("answers");
    assert!(got.iter().filter(|status| **status == 200).count() >= 5, "{got:?}");
    assert!(got.iter().all(|status| [0, 200].contains(status)), "{got:?}");
    platform.behave(Behaviour::Echo);
    gateway.still_healthy();
}

/// Four connections without a token were once enough to end everything: 100 downloads on each, and a window of nothing.
#[test]
fn streams_that_take_nothing_are_bounded_and_ended() {
    let platform = downloads();
    let gateway = impatient(&platform);
    let before = resident(&gateway);
    let mut clients: Vec<H2Client> =
        (0..4).map(|_| H2Client::connect(ATTACKER, gateway.https(), 0)).collect();
    let answers: Vec<_> = clients
        .iter_mut()
        .flat_map(|client| (0..100).map(|_| client.get("/public/large")).collect::<Vec<_>>())
        .collect();
    let got = statuses(answers);
    // What of those that were forwarded has its answer refused depends on which answer comes first.
    assert!(got.contains(&503) && got.iter().all(|status| [200, 503].contains(status)), "{got:?}");
    assert!(refused(&gateway, "memory") >= 1.0);
    let grown = resident(&gateway).saturating_sub(before);
    assert!(grown < 80_000_000, "{grown} bytes for a limit of 64 MB");
    for number in 0..20 {
        let mut honest = Client::connect_from(HONEST, gateway.http());
        honest.send(request("GET", "/public/x", &[]));
        let (status, _) = honest.head().expect("an answer");
        assert_eq!(status, 200, "{number}: what is left is another network's");
    }
    eventually("all to be given up", || {
        (gateway.metric("ds_gateway_in_flight_requests", &[]) == 0.0).then_some(())
    });
    drop(clients);
    platform.behave(Behaviour::Echo);
    gateway.still_healthy();
}

/// Answers of our own once waited for a window, and took nothing of the limits.
#[test]
fn streams_without_a_token_are_bounded() {
    let platform = Platform::echo();
    let gateway = options(&platform).set("limits", "memory", "64000000").start();
    let before = resident(&gateway);
    let large = "v".repeat(28_000);
    let mut clients: Vec<H2Client> =
        (0..20).map(|_| H2Client::connect(ATTACKER, gateway.https(), 0)).collect();
    let mut answers = Vec::new();
    for client in &mut clients {
        answers.extend((0..100).filter_map(|_| client.try_get_with("/x", &large)));
    }
    let got = statuses(answers);
    assert!(got.iter().all(|status| [0, 401, 503].contains(status)), "{got:?}");
    let grown = resident(&gateway).saturating_sub(before);
    assert!(grown < 128_000_000, "{grown} bytes for a limit of 64 MB");
    eventually("all to be given up", || {
        (gateway.metric("ds_gateway_in_flight_requests", &[]) == 0.0).then_some(())
    });
    assert_eq!(public(HONEST, gateway.http()).answer().expect("an answer").status, 200);
    drop(clients);
    gateway.still_healthy();
}

#[test]
fn readers_that_do_not_read_are_bounded_and_ended() {
    let platform = downloads();
    let gateway = impatient(&platform);
    let before = resident(&gateway);
    let mut clients: Vec<Client> = (0..300).map(|_| public(ATTACKER, gateway.http())).collect();
    let got: Vec<u16> =
        clients.iter_mut().map(|client| client.head().map_or(0, |(status, _)| status)).collect();
    assert!(got.contains(&200) && got.contains(&503), "{got:?}");
    let grown = resident(&gateway).saturating_sub(before);
    assert!(grown < 80_000_000, "{grown} bytes for a limit of 64 MB");
    let mut honest = public(HONEST, gateway.http());
    assert_eq!(honest.head().expect("an answer").0, 200);
    eventually("all to be given up", || {
        (gateway.metric("ds_gateway_in_flight_requests", &[]) == 0.0).then_some(())
    });
    drop(clients);
    platform.behave(Behaviour::Echo);
    gateway.still_healthy();
}

#[test]
fn headers_that_do_not_end_are_bounded() {
    let platform = Platform::echo();
    let gateway =
        options(&platform).set("limits", "memory", "64000000").set("limits", "connections", "1000").start();
    let before = resident(&gateway);
    let mut clients = Vec::new();
    for _ in 0..900 {
        let mut client = Client::connect_from(ATTACKER, gateway.http());
        let header = format!("GET / HTTP/1.1\r\nHost: x\r\nx-large: {}", "v".repeat(30_000));
        // Some are refused before they have sent it all.
        drop(client.try_send(header));
        clients.push(client);
    }
    eventually("some to be refused", || (refused(&gateway, "memory") >= 1.0).then_some(()));
    let grown = resident(&gateway).saturating_sub(before);
    assert!(grown < 80_000_000, "{grown} bytes for a limit of 64 MB");
    let large = "v".repeat(20_000);
    let mut honest = Client::connect_from(HONEST, gateway.http());
    assert_eq!(honest.exchange(request("GET", "/public/x", &[("x-large", &large)])).status, 200);
    drop(clients);
    gateway.still_healthy();
}

#[test]
fn more_connections_than_memory_are_not_promised() {
    let platform = Platform::echo();
    let gateway =
        options(&platform).set("limits", "memory", "16777216").set("limits", "connections", "1000").start();
    let lowered = |line: &String| line.contains("limits.memory is enough for 256 connections");
    assert!(gateway.log.lines().iter().any(lowered));
    let mut clients: Vec<Client> = (0..600).map(|_| Client::connect_from(ATTACKER, gateway.http())).collect();
    assert_eq!(public(HONEST, gateway.http()).answer().expect("an answer").status, 200);
    eventually("their number to be kept", || {
        (gateway.metric("ds_gateway_connections", &[]) <= 257.0).then_some(())
    });
    clients.clear();
    gateway.still_healthy();
}
