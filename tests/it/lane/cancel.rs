//! Clients that go away at every stage of a request, beside others that stay: a connection to the platform has one request at a time, no
//! answer reaches anybody else, and what must not be repeated is sent once.

use super::{RawPlatform, SIDES, Scheme, connect, has_taken, on_side};
use crate::client::{Channel, Client, request_with};
use crate::command::eventually;
use crate::gateway::Gateway;
use crate::seeds::{number, seeds};
use crate::wire::{Head, Wire, chunks};
use fastrand::Rng;
use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What the platform has seen.
#[derive(Default)]
struct Record {
    /// How often each request came, by its method and number.
    requests: BTreeMap<String, usize>,
    faults: Vec<String>,
    answers: u64,
}

/// A platform that answers each request with its number, in any framing, in pieces, and closes when it likes.
fn numbered(seed: u64, record: Arc<Mutex<Record>>) -> RawPlatform {
    let connections = AtomicU64::new(0);
    RawPlatform::start(move |mut wire| {
        let mut random = Rng::with_seed(seed ^ connections.fetch_add(1, Ordering::Relaxed));
        while let Ok(head) = wire.head() {
            let number = head.values("x-number").concat();
            let method = head.start.split(' ').next().unwrap_or_default().to_owned();
            let body = wire.sized(head.length().unwrap_or(0)).map_err(|_| io::ErrorKind::UnexpectedEof)?;
            {
                let mut record = record.lock().expect("a lock");
                *record.requests.entry(format!("{method} {number}")).or_default() += 1;
                if body != filler(&number, body.len()) {
                    record.faults.push(format!("{method} {number} came with the body of another"));
                }
            }
            let goes_on = answer(&head, &number, &mut wire, &mut random, &record)?;
            if !goes_on {
                drop(wire.inner().shutdown(Shutdown::Both));
                return Ok(());
            }
        }
        Ok(())
    })
}

/// Bytes that show whose they are, wherever they are cut.
fn filler(number: &str, length: usize) -> Vec<u8> {
    let unit = format!("{number};");
    let mut bytes = unit.repeat(length / unit.len() + 1).into_bytes();
    bytes.truncate(length);
    bytes
}

/// Answers in pieces, and looks before the last one whether the gateway has put another request behind this one.
fn answer(
    head: &Head,
    number: &str,
    wire: &mut Wire<TcpStream>,
    random: &mut Rng,
    record: &Mutex<Record>,
) -> io::Result<bool> {
    if random.u8(..4) == 0 {
        thread::sleep(Duration::from_micros(random.u64(..3_000)));
    }
    let body = filler(number, [0, 1, 200, 200, 5_000, 5_000, 20_000, 100_000][random.usize(..8)]);
    let says_close = random.u8(..10) == 0;
    let mut bytes = format!("HTTP/1.1 200 OK\r\nX-Number: {number}\r\n").into_bytes();
    if says_close {
        bytes.extend(b"Connection: close\r\n");
    }
    let mut ends = says_close;
    match random.u8(..8) {
        0 => {
            bytes.extend(b"\r\n");
            bytes.extend(&body);
            ends = true;
        }
        1..4 => {
            bytes.extend(b"Transfer-Encoding: chunked\r\n\r\n");
            bytes.extend(chunks(&body, random.usize(1..30_000).max(body.len() / 20)));
        }
        _ => {
            bytes.extend(format!("Content-Length: {}\r\n\r\n", body.len()).bytes());
            bytes.extend(&body);
        }
    }
    let last = bytes.pop().expect("a byte");
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(random.usize(1..=rest.len()).max(rest.len() / 4));
        wire.inner().write_all(piece)?;
        rest = after;
        if random.u8(..3) == 0 {
            thread::sleep(Duration::from_micros(random.u64(..1_500)));
        }
    }
    let stream = wire.inner();
    stream.set_nonblocking(true)?;
    let has_more = stream.peek(&mut [0]).is_ok_and(|count| count > 0);
    stream.set_nonblocking(false)?;
    let mut record = record.lock().expect("a lock");
    if has_more || wire.held() > 0 {
        record.faults.push(format!("another request before {number} was answered: {}", head.start));
    }
    record.answers += 1;
    drop(record);
    wire.inner().write_all(&[last])?;
    // Now and then without a word, as servers do whose patience is over.
    Ok(!ends && random.u8(..10) != 0)
}

/// Where a client goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Never,
    InItsHead,
    InItsBody,
    WhileThePlatformWorks,
    InTheHead,
    InTheBody,
    AtTheLastByte,
}

const STAGES: [Stage; 10] = [
    Stage::Never,
    Stage::Never,
    Stage::Never,
    Stage::Never,
    Stage::InItsHead,
    Stage::InItsBody,
    Stage::WhileThePlatformWorks,
    Stage::InTheHead,
    Stage::InTheBody,
    Stage::AtTheLastByte,
];

struct Caller<'g> {
    gateway: &'g Gateway,
    token: &'g str,
    scheme: Scheme,
    numbers: &'g AtomicU64,
    random: Rng,
}

/// How the requests of a client that stayed ended.
#[derive(Default)]
struct Outcome {
    answered: usize,
    unavailable: usize,
    wrong: Vec<String>,
}

impl Caller<'_> {
    fn run(mut self, requests: usize) -> Outcome {
        let mut outcome = Outcome::default();
        let mut kept = None;
        for _ in 0..requests {
            let client = kept.take().unwrap_or_else(|| connect(self.gateway, self.scheme));
            let stage = STAGES[self.random.usize(..STAGES.len())];
            kept = self.ask(client, stage, &mut outcome);
        }
        outcome
    }

    /// One request; the connection, if it is still there.
    fn ask(
        &mut self,
        mut client: Client<Box<dyn Channel>>,
        stage: Stage,
        outcome: &mut Outcome,
    ) -> Option<Client<Box<dyn Channel>>> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed).to_string();
        let method = ["GET", "POST", "PUT", "DELETE"][self.random.usize(..4)];
        let length =
            if method == "GET" { 0 } else { [0, 10, 10, 1_000, 5_000, 60_000][self.random.usize(..6)] };
        let body = filler(&number, length);
        let fields = [("user-token", self.token), ("x-number", number.as_str())];
        let bytes = request_with(method, "/numbered", &fields, &body);
        let head = bytes.len() - body.len();
        let sent = match stage {
            Stage::InItsHead => self.random.usize(..head),
            Stage::InItsBody => head + self.random.usize(..=body.len()),
            _ => bytes.len(),
        };
        if let Err(error) = client.try_send(&bytes[..sent]) {
            outcome
                .wrong
                .push(format!("{method} {number} could not be sent, {:?}, {stage:?}: {error}", self.scheme));
            return None;
        }
        match stage {
            Stage::Never => {}
            Stage::InItsHead | Stage::InItsBody | Stage::WhileThePlatformWorks => {
                thread::sleep(Duration::from_micros(self.random.u64(..2_000)));
                return None;
            }
            Stage::InTheHead => {
                drop(client.wire().inner().read_exact(&mut vec![0; self.random.usize(1..60)]));
                return None;
            }
            Stage::InTheBody | Stage::AtTheLastByte => {
                let (_, head) = client.head().ok()?;
                let length = head.length().filter(|length| *length > 0)?;
                let read = if stage == Stage::InTheBody { self.random.usize(..length) } else { length - 1 };
                drop(client.wire().sized(read));
                return None;
            }
        }
        let what = format!("{method} {number}");
        match client.answer() {
            Ok(answer) if answer.status == 200 => {
                outcome.answered += 1;
                if answer.values("x-number") != [number.as_str()]
                    || answer.body != filler(&number, answer.body.len())
                {
                    outcome.wrong.push(format!("{what} has the answer of another: {:?}", answer.head));
                }
                (!answer.says_close()).then_some(client)
            }
            // The platform closed a connection that it was sent on, or there are as many as there may be.
            Ok(answer) if matches!(answer.status, 502 | 503) => {
                answer.is_error(answer.status);
                outcome.unavailable += 1;
                (!answer.says_close()).then_some(client)
            }
            other => {
                outcome.wrong.push(format!("{what}: {other:?}"));
                None
            }
        }
    }
}

const CALLERS: usize = 8;

/// Runs clients on one side; `connections` are the connections to the platform that there may be.
fn check(lane: bool, seed: u64, requests: u64, connections: u32) {
    let record = Arc::<Mutex<Record>>::default();
    let platform = numbered(seed, Arc::clone(&record));
    let options = platform
        .options()
        .https()
        .set("server", "threads", "1")
        .set("limits", "platform_connections", connections)
        .set("log", "access", "false");
    let gateway = on_side(options, lane).start();
    let token = gateway.mint();
    let numbers = AtomicU64::new(1);
    let outcomes: Vec<Outcome> = thread::scope(|scope| {
        let (gateway, token, numbers) = (&gateway, token.as_str(), &numbers);
        let callers = (0..CALLERS).map(|caller| {
            let scheme = if caller % 4 == 3 { Scheme::Https } else { Scheme::Http };
            let random = Rng::with_seed(seed.wrapping_add(caller as u64));
            let caller = Caller { gateway, token, scheme, numbers, random };
            scope.spawn(move || caller.run(requests as usize / CALLERS))
        });
        let callers: Vec<_> = callers.collect();
        callers.into_iter().map(|caller| caller.join().expect("a client")).collect()
    });
    eventually("no request in flight", || {
        (gateway.metric("ds_gateway_in_flight_requests", &[]) == 0.0).then_some(())
    });
    let wrong: Vec<String> = outcomes.iter().flat_map(|outcome| outcome.wrong.clone()).collect();
    let (answered, unavailable) = outcomes.iter().fold((0, 0), |(answered, unavailable), one| {
        (answered + one.answered, unavailable + one.unavailable)
    });
    let record = record.lock().expect("a lock");
    let repeated: Vec<_> =
        record.requests.iter().filter(|(what, count)| what.starts_with("POST ") && **count > 1).collect();
    eprintln!(
        "lane {lane}: {answered} answered, {unavailable} with 502 or 503, {} answers in all",
        record.answers
    );
    assert!(record.faults.is_empty(), "lane {lane}: {}", record.faults.join("\n"));
    assert!(wrong.is_empty(), "lane {lane}: {}", wrong.join("\n"));
    assert!(repeated.is_empty(), "lane {lane}: sent twice: {repeated:?}");
    assert!(answered > unavailable, "lane {lane}: {answered} answered, {unavailable} not");
    has_taken(&gateway, lane);
}

#[test]
fn a_connection_to_the_platform_has_one_request_wherever_clients_go_away() {
    let requests = number("LANE_REQUESTS").unwrap_or(600);
    for (seed, requests) in seeds("LANE_SEED", &[1], requests / 3, requests) {
        eprintln!("LANE_SEED={seed}");
        thread::scope(|scope| {
            for lane in SIDES {
                // A pool of one, and one that holds all.
                for connections in [100, 7] {
                    scope.spawn(move || check(lane, seed, requests, connections));
                }
            }
        });
    }
}
