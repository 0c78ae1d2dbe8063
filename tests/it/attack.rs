//! Attacks of every kind, one after the other, beside honest clients: each of those is served, and what the gateway takes stays
//! within its limits. `make attack` holds each for longer and with more of everything, and prints how honest clients fared.

use crate::client::{Client, request};
use crate::command::{eventually, started_by};
use crate::connections::{ATTACKER, HONEST};
use crate::gateway::{EMAIL, Gateway, ORGANIZATION, PASSWORD, USER};
use crate::h2_client::{H2Client, tls};
use crate::options::{Options, User};
use crate::overload::resident;
use crate::platform::{Behaviour, Platform, Seen};
use crate::seeds::number;
use fastrand::Rng;
use std::fs;
use std::io::{Read as _, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const MEMORY: u64 = 64_000_000;

/// The allocator keeps for ten seconds what one attack had while the next one runs.
const RESIDENT: u64 = 2 * MEMORY;

/// How many of each an attack has, a tenth in the short form.
fn many(number: usize) -> usize {
    if is_long() { number } else { number / 10 }
}

fn is_long() -> bool {
    number("ATTACK_SECONDS").is_some()
}

fn duration() -> Duration {
    Duration::from_secs(number("ATTACK_SECONDS").unwrap_or(2))
}

/// A platform that answers at once, and with 20 MB where it is asked for a download.
fn platform() -> Platform {
    Platform::start(Behaviour::Custom(Arc::new(|seen: &Seen, stream| {
        if seen.target.starts_with("/public/large") {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 20000000\r\n\r\n")?;
            return (0..20).try_for_each(|_| stream.write_all(&[b'd'; 1_000_000]));
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nx-platform: yes\r\nContent-Length: 2\r\n\r\nok")
    })))
}

fn options(platform: &Platform) -> Options {
    Options::new(platform)
        .https()
        .public("[\"/public/*\"]")
        .set("limits", "memory", MEMORY)
        .set("limits", "write_timeout", "\"5s\"")
        .set("limits", "header_timeout", "\"5s\"")
        .set("limits", "body_timeout", "\"5s\"")
        .set("log", "access", "false")
}

struct Target {
    http: SocketAddr,
    https: SocketAddr,
}

type Attack = fn(&Target, &AtomicBool, &mut Rng);

const ATTACKS: [(&str, Attack); 9] = [
    ("idle connections", idle),
    ("sockets that never greet", silent),
    ("headers that drip", dripping_headers),
    ("bodies that drip", dripping_bodies),
    ("large headers without an end", large_headers),
    ("downloads that nobody reads", unread_downloads),
    ("streams without a window", windowless_streams),
    ("mutated requests", mutated),
    ("mutated frames", mutated_frames),
];

fn idle(target: &Target, stop: &AtomicBool, _: &mut Rng) {
    let mut held = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        if held.len() < many(9_000) {
            held.extend(Client::try_connect_from(ATTACKER, target.http).ok());
        } else {
            thread::sleep(Duration::from_millis(10));
        }
    }
}

fn silent(target: &Target, stop: &AtomicBool, _: &mut Rng) {
    let mut held = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        if held.len() < many(2_000) {
            held.extend(Client::try_connect_from(ATTACKER, target.https).ok());
        } else {
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Opens `count` connections with `first` on each, then writes `more` to all of them again and again; those that ended begin again.
fn drip(target: &Target, stop: &AtomicBool, count: usize, first: &[u8], more: &[u8]) {
    let open = || {
        let mut client = Client::try_connect_from(ATTACKER, target.http).ok()?;
        client.try_send(first).ok()?;
        Some(client)
    };
    let mut held: Vec<Option<Client>> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        if held.len() < count {
            held.push(open());
            continue;
        }
        for place in &mut held {
            let sent = place.as_mut().is_some_and(|client| client.try_send(more).is_ok());
            if !sent {
                *place = open();
            }
        }
        thread::sleep(Duration::from_millis(100));
    }
}

fn dripping_headers(target: &Target, stop: &AtomicBool, _: &mut Rng) {
    drip(target, stop, many(3_000), b"GET / HTTP/1.1\r\nHost: x\r\nx-drip: ", b"d");
}

fn dripping_bodies(target: &Target, stop: &AtomicBool, _: &mut Rng) {
    drip(target, stop, many(2_000), b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n", b"d");
}

fn large_headers(target: &Target, stop: &AtomicBool, _: &mut Rng) {
    let first = format!("GET / HTTP/1.1\r\nHost: x\r\nx-large: {}", "v".repeat(30_000));
    drip(target, stop, many(4_000), first.as_bytes(), b"v");
}

fn unread_downloads(target: &Target, stop: &AtomicBool, _: &mut Rng) {
    drip(target, stop, many(2_000), &request("GET", "/public/large", &[]), b"");
}

fn windowless_streams(target: &Target, stop: &AtomicBool, _: &mut Rng) {
    while !stop.load(Ordering::Relaxed) {
        let mut clients: Vec<H2Client> =
            (0..4).map(|_| H2Client::connect(ATTACKER, target.https, 0)).collect();
        let streams: Vec<_> = clients
            .iter_mut()
            .flat_map(|client| (0..100).filter_map(|_| client.try_get("/public/large")).collect::<Vec<_>>())
            .collect();
        let until = Instant::now() + Duration::from_secs(1);
        while Instant::now() < until && !stop.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(20));
        }
        drop(streams);
    }
}

/// Requests without a token, with bytes changed, cut, repeated and moved.
fn mutated(target: &Target, stop: &AtomicBool, random: &mut Rng) {
    let seeds: [&[u8]; 5] = [
        b"GET /ds-api/canary HTTP/1.1\r\nHost: x\r\nuser-token: a.b.c\r\n\r\n",
        b"POST /ds-api/user-token HTTP/1.1\r\nHost: x\r\nAuthorization: Basic YTpi\r\nContent-Length: 0\r\n\r\n",
        b"POST /canary HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"GET /public/../canary HTTP/1.1\r\nHost: x\r\nConnection: close, x\r\nX-DS-User: root\r\n\r\n",
        b"DELETE /ds-api/user-token HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbodyGET /canary HTTP/1.1\r\nHost: x\r\n\r\n",
    ];
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut client) = Client::try_connect_from(ATTACKER, target.http) else { continue };
        for _ in 0..random.usize(1..4) {
            let mut bytes = seeds[random.usize(..seeds.len())].to_vec();
            mutate(&mut bytes, random);
            if client.try_send(&bytes).is_err() {
                break;
            }
        }
        client.finish();
        drop(client.wire().rest());
    }
}

/// Frames of HTTP/2 with bytes changed, behind a good preface: among them headers, resets, settings and pings by the thousand.
fn mutated_frames(target: &Target, stop: &AtomicBool, random: &mut Rng) {
    // HEADERS of a GET without a token: indexed :method, :scheme, :path, and a literal :authority.
    let headers = |stream: u32| {
        let block = b"\x82\x87\x84\x41\x01x";
        [&[0, 0, 6, 1, 5][..], &stream.to_be_bytes(), block].concat()
    };
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut stream) = tls(ATTACKER, target.https) else { continue };
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
        match random.u8(..4) {
            // Rapid reset.
            0 => {
                for stream in (1..2_000).step_by(2) {
                    bytes.extend(headers(stream));
                    bytes.extend([0, 0, 4, 3, 0]);
                    bytes.extend(u32::to_be_bytes(stream));
                    bytes.extend([0, 0, 0, 8]);
                }
            }
            1 => (0..2_000).for_each(|_| bytes.extend(b"\0\0\0\x04\0\0\0\0\0")),
            2 => (0..2_000).for_each(|_| bytes.extend(b"\0\0\x08\x06\0\0\0\0\0pingpong")),
            _ => {
                for stream in (1..40).step_by(2) {
                    bytes.extend(headers(stream));
                }
                let mut tail = bytes.split_off(33);
                mutate(&mut tail, random);
                bytes.extend(tail);
            }
        }
        // The gateway may well end it in the middle.
        drop(stream.write_all(&bytes));
        drop(stream.read(&mut [0; 1024]));
    }
}

fn mutate(bytes: &mut Vec<u8>, random: &mut Rng) {
    for _ in 0..random.usize(0..6) {
        if bytes.is_empty() {
            return;
        }
        let at = random.usize(..bytes.len());
        match random.u8(..5) {
            0 => bytes[at] = random.u8(..),
            1 => drop(bytes.remove(at)),
            2 => bytes.insert(at, *b"\r\n\0 :%/".get(random.usize(..7)).expect("one of seven")),
            3 => bytes.truncate(at),
            _ => {
                let end = (at + random.usize(..20)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
        }
    }
}

/// How long each honest request took; every one must be served.
fn honest(gateway: &Gateway, token: &str, until: impl Fn() -> bool) -> Vec<Duration> {
    let ask = request("GET", "/ds-api/honest", &[("user-token", token)]);
    let mut kept = Client::connect_from(HONEST, gateway.http());
    let mut times = Vec::new();
    while !until() {
        for fresh in [false, true] {
            if fresh {
                // As the tests' clients elsewhere, so that the kept one is not all that is tried.
                let mut client = Client::connect_from(HONEST, gateway.http());
                assert_eq!(client.exchange(&ask).status, 200);
            } else {
                let begun = Instant::now();
                assert_eq!(kept.exchange(&ask).status, 200);
                times.push(begun.elapsed());
            }
            thread::sleep(Duration::from_millis(3));
        }
    }
    times
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn descriptors(gateway: &Gateway) -> usize {
    fs::read_dir(format!("/proc/{}/fd", gateway.process())).expect("descriptors").count()
}

/// Runs every attack; `bounds` are the bytes and the descriptors that the gateway may take.
fn attack(gateway: &Gateway, platform: &Platform, token: &str, bounds: (u64, usize)) {
    let seed = number("ATTACK_SEED").unwrap_or_else(|| fastrand::u64(..));
    eprintln!("ATTACK_SEED={seed}");
    let target = Target { http: gateway.http(), https: gateway.https() };
    let quiet_end = Instant::now() + Duration::from_secs(1);
    let quiet = median(honest(gateway, token, || Instant::now() > quiet_end));
    let before = resident(gateway);
    for (name, attack) in ATTACKS {
        let stop = AtomicBool::new(false);
        let times = thread::scope(|scope| {
            for number in 0..2 {
                let mut random = Rng::with_seed(seed + number);
                let (target, stop) = (&target, &stop);
                scope.spawn(move || attack(target, stop, &mut random));
            }
            // Even where an honest client is let down, the attackers must end.
            struct Stop<'s>(&'s AtomicBool);
            impl Drop for Stop<'_> {
                fn drop(&mut self) {
                    self.0.store(true, Ordering::Relaxed);
                }
            }
            let _stop = Stop(&stop);
            let end = Instant::now() + duration();
            honest(gateway, token, || Instant::now() > end)
        });
        let (took, grown, open) =
            (median(times), resident(gateway).saturating_sub(before), descriptors(gateway));
        let ratio = took.as_secs_f64() / quiet.as_secs_f64();
        eprintln!(
            "{name}: honest {took:?}, {ratio:.2} of quiet; {} MB more, {open} descriptors",
            grown / 1_000_000
        );
        assert!(grown < bounds.0, "{name}: {grown} bytes more");
        assert!(open < bounds.1, "{name}: {open} descriptors");
    }
    assert!(
        platform
            .requests()
            .iter()
            .all(|seen| !seen.target.contains("canary") || seen.target.starts_with("/public/"))
    );
    gateway.still_healthy();
}

#[test]
fn honest_clients_are_served_while_others_attack() {
    let platform = platform();
    let gateway = options(&platform).start();
    let token = gateway.mint();
    attack(&gateway, &platform, &token, (RESIDENT, 3_000));
}

#[test]
fn honest_clients_are_served_where_descriptors_are_few() {
    let platform = platform();
    let folder = options(&platform).folder();
    folder.add(&User::new(USER, PASSWORD, EMAIL, ORGANIZATION));
    let command = started_by(&["prlimit", "--nofile=500:500"], &folder.command(&["run"]));
    let gateway = Gateway::start(folder, command);
    let token = eventually("a token", || gateway.login(USER, PASSWORD));
    attack(&gateway, &platform, &token, (RESIDENT, 500));
    let dropped = gateway.metric("ds_gateway_connections_ended_total", &["reason=\"descriptors\""]);
    assert_eq!(dropped, 0.0, "the limits kept enough descriptors");
}
