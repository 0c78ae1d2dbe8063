//! Attacks of every kind, one after the other, beside honest clients: each of those is served, and what the gateway takes stays
//! within its limits. `make attack` holds each for longer and with more of everything, and prints how honest clients fared.

use crate::client::{Client, request};
use crate::command::{Stop, eventually, started_by};
use crate::connections::{ATTACKER, HONEST};
use crate::gateway::{EMAIL, Gateway, ORGANIZATION, PASSWORD, USER};
use crate::h2_client::{H2Client, statuses, tls};
use crate::options::{Options, User};
use crate::overload::resident;
use crate::platform::{Behaviour, Platform, Seen};
use crate::seeds::number;
use fastrand::Rng;
use std::fs;
use std::io::{Read as _, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
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

/// Opens `count` connections with `first` on each, then writes `more` to each of them once a second; those that ended begin again.
fn drip(target: &Target, stop: &AtomicBool, count: usize, first: &[u8], more: &[u8]) {
    let open = || {
        let mut client = Client::try_connect_from(ATTACKER, target.http).ok()?;
        client.try_send(first).ok()?;
        Some(client)
    };
    let mut held: Vec<Option<Client>> = Vec::new();
    let mut turn = 0;
    while !stop.load(Ordering::Relaxed) {
        if held.len() < count {
            held.push(open());
            continue;
        }
        // A hundredth of them at a time, so that they come as from clients that know nothing of each other.
        for place in held.iter_mut().skip(turn).step_by(100) {
            let sent = place.as_mut().is_some_and(|client| client.try_send(more).is_ok());
            if !sent {
                *place = open();
            }
        }
        turn = (turn + 1) % 100;
        thread::sleep(Duration::from_millis(10));
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
        // What the attackers themselves spend on TLS would take the cores from everybody, which shows nothing.
        thread::sleep(Duration::from_millis(20));
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

/// How long each honest request took, over HTTP/1 and HTTP/2; every one must be served.
fn honest(gateway: &Gateway, token: &str, until: impl Fn() -> bool) -> [Duration; 2] {
    let ask = request("GET", "/ds-api/honest", &[("user-token", token)]);
    let mut kept = Client::connect_from(HONEST, gateway.http());
    let mut http2 = H2Client::connect(HONEST, gateway.https(), 65_535);
    let mut times = [const { Vec::new() }; 2];
    // Once at least: on a busy machine, to connect may take all of the time.
    loop {
        let begun = Instant::now();
        assert_eq!(kept.exchange(&ask).status, 200);
        times[0].push(begun.elapsed());
        thread::sleep(PAUSE);
        let begun = Instant::now();
        assert_eq!(statuses(vec![http2.get_as("/ds-api/honest", token)]), [200]);
        times[1].push(begun.elapsed());
        thread::sleep(PAUSE);
        // Those that come now are served too, and not the ones alone that were there before.
        let mut new = Client::connect_from(HONEST, gateway.http());
        assert_eq!(new.exchange(&ask).status, 200);
        if until() {
            break;
        }
        thread::sleep(PAUSE);
    }
    times.map(median)
}

/// Between two honest requests.
const PAUSE: Duration = Duration::from_millis(3);

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
    let quiet = honest(gateway, token, || Instant::now() > quiet_end);
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
            let _stop = Stop(&stop);
            let end = Instant::now() + duration();
            honest(gateway, token, || Instant::now() > end)
        });
        let (grown, open) = (resident(gateway).saturating_sub(before), descriptors(gateway));
        let ratio = |protocol: usize| times[protocol].as_secs_f64() / quiet[protocol].as_secs_f64();
        eprintln!(
            "{name}: honest HTTP/1 {:?}, {:.2} of quiet; HTTP/2 {:?}, {:.2} of quiet; {} MB more, {open} descriptors",
            times[0],
            ratio(0),
            times[1],
            ratio(1),
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

/// Without `limits.memory`, the gateway takes it from its control group.
#[test]
fn no_attack_gets_the_gateway_killed_in_a_group_of_256_mib() {
    let Some(group) = MemoryGroup::new(256 << 20) else {
        eprintln!(
            "not tried: no control group of memory can be made here; root can, where /sys/fs/cgroup is writable"
        );
        return;
    };
    let platform = platform();
    let folder = options(&platform).unset("limits", "memory").folder();
    folder.add(&User::new(USER, PASSWORD, EMAIL, ORGANIZATION));
    let enter = format!("echo $$ > {} && exec \"$0\" \"$@\"", group.file("cgroup.procs").display());
    let command = started_by(&["sh", "-c", &enter], &folder.command(&["run"]));
    let gateway = Gateway::start(folder, command);
    let token = eventually("a token", || gateway.login(USER, PASSWORD));
    attack(&gateway, &platform, &token, (256 << 20, 20_000));
    assert_eq!(group.kills(), 0);
    drop(gateway);
}

/// A control group, of version 1 or 2, that may have so much memory; removed at the end.
struct MemoryGroup {
    folder: PathBuf,
    is_unified: bool,
}

impl MemoryGroup {
    fn new(bytes: u64) -> Option<Self> {
        let name = format!("ds-gateway-test-{}", std::process::id());
        [("/sys/fs/cgroup/memory", false), ("/sys/fs/cgroup", true)].into_iter().find_map(
            |(root, is_unified)| {
                let group = Self { folder: PathBuf::from(root).join(&name), is_unified };
                fs::create_dir(&group.folder).ok()?;
                let limit = if is_unified { "memory.max" } else { "memory.limit_in_bytes" };
                fs::write(group.file(limit), bytes.to_string()).ok()?;
                Some(group)
            },
        )
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// How many processes the kernel has killed in it.
    fn kills(&self) -> u64 {
        let name = if self.is_unified { "memory.events" } else { "memory.oom_control" };
        let text = fs::read_to_string(self.file(name)).expect("a count");
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.expect("a count of kills").trim().parse().expect("a number")
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // Its processes have ended.
        drop(fs::remove_dir(&self.folder));
    }
}
