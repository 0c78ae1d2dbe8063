//! HTTP/1 from end to end: bytes to a real gateway, and a platform that reads strictly what comes of them.
//!
//! The input: a byte of bits, one that says where the bytes are cut in two, and the bytes; `$T` in them is a valid token.
//! They are read here as RFC 9112 has it. The platform may see these requests alone, in their order and each at most once, with
//! a token or on a public path; a request that is a part of another's body it never sees.

use std::cell::RefCell;

use crate::exchange::{Client, Platform, Quiet, connect};
use crate::gateway::{self, Gateway};
use crate::requests::{Fault, Request, answers, request};
use crate::rules::{Admitted, admitted, check_fields, check_seen, is_plain_target, log_in, with_token};

pub fn run(input: &[u8]) {
    HOUSE.with_borrow_mut(|deployment| exchange(input, deployment));
}

/// All of it by the engine.
pub fn run_without_lane(input: &[u8]) {
    WITHOUT_LANE.with_borrow_mut(|deployment| exchange(input, deployment));
}

fn exchange(input: &[u8], deployment: &mut Deployment) {
    let Some((&[info_label, cut], text)) = input.split_first_chunk() else { return };
    let Deployment { platform, gateway, token } = deployment;
    let mut bytes = with_token(text, token);
    let cut = bytes.len() * usize::from(cut) / 256;
    if info_label & 1 != 0 {
        bytes.extend(with_token(LAST, token));
    }
    let (requests, end) = read(&bytes);
    let plain = expected(&requests, end, token);
    let parts = if info_label & 2 == 0 {
        vec![bytes.clone()]
    } else {
        vec![bytes[cut..].to_vec(), bytes[..cut].to_vec()]
    };
    let mut client = Bytes { parts, answers: Vec::new(), expected: plain.unwrap_or(0), is_finished: false };
    let seen = platform.exchange(&mut connect(gateway.http), &mut client);
    check(&requests, end, &seen, token);
    if let Some(count) = plain {
        assert_eq!(seen.len(), count, "plain requests, each with a token");
    }
    check_answers(&client.answers, &requests, end);
}

/// A request that shows, where it is answered, that the gateway reads the bytes before it as they are read here.
const LAST: &[u8] =
    b"GET /ds-api/last HTTP/1.1\r\nHost: gateway.test\r\nuser-token: $T\r\nConnection: close\r\n\r\n";

struct Deployment {
    platform: Platform,
    gateway: Gateway,
    token: String,
}

impl Deployment {
    fn start(has_lane: bool) -> Self {
        let platform = Platform::bind();
        let gateway = gateway::start(platform.listener(), has_lane);
        Self { token: log_in(gateway.http), platform, gateway }
    }
}

thread_local! {
    static HOUSE: RefCell<Deployment> = RefCell::new(Deployment::start(true));
    static WITHOUT_LANE: RefCell<Deployment> = RefCell::new(Deployment::start(false));
}

/// Writes what it has, part by part, and then closes its half.
struct Bytes {
    parts: Vec<Vec<u8>>,
    answers: Vec<u8>,
    /// How many requests must reach the platform before it does so.
    expected: usize,
    is_finished: bool,
}

impl Client for Bytes {
    fn outgoing(&mut self) -> Vec<u8> {
        if self.is_finished {
            Vec::new()
        } else {
            self.is_finished = true;
            self.parts.pop().unwrap_or_default()
        }
    }

    fn incoming(&mut self, bytes: &[u8]) {
        self.answers.extend_from_slice(bytes);
    }

    fn quiet(&mut self, seen: usize) -> Quiet {
        if !self.parts.is_empty() {
            self.is_finished = false;
            return Quiet::Wait;
        }
        if seen < self.expected { Quiet::Wait } else { Quiet::Finish }
    }
}

/// What comes behind the last request that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Nothing.
    Clean,
    /// The beginning of another, or of a body.
    Short,
    /// What is no request.
    Refused,
    /// What the engine is known to read otherwise (docs/security.md, "What is left, and why").
    Unknown,
}

fn read(mut bytes: &[u8]) -> (Vec<Request>, End) {
    let mut requests = Vec::new();
    loop {
        while let Some(rest) = bytes.strip_prefix(b"\r\n").or_else(|| bytes.strip_prefix(b"\n")) {
            bytes = rest;
        }
        if bytes.is_empty() {
            return (requests, End::Clean);
        }
        match request(bytes) {
            Ok((request, length, end)) => {
                requests.push(request);
                match end {
                    Ok(()) => bytes = &bytes[length..],
                    Err(Fault::Short) => return (requests, End::Short),
                    Err(Fault::Broken(_)) => return (requests, End::Unknown),
                }
            }
            Err(Fault::Short) => return (requests, End::Short),
            Err(Fault::Broken("the request line")) if !requests.is_empty() => {
                return (requests, End::Unknown);
            }
            Err(Fault::Broken(_)) => return (requests, End::Refused),
        }
    }
}

/// How many requests must reach the platform, where all are so plain that this is certain.
fn expected(requests: &[Request], end: End, token: &str) -> Option<usize> {
    let plain = |(at, request): (usize, &Request)| {
        let is_last = at + 1 == requests.len();
        let is_plain = |(name, value): &(Vec<u8>, Vec<u8>)| match name.as_slice() {
            b"host" => value == b"gateway.test",
            b"user-token" => value == token.as_bytes(),
            b"connection" => is_last && value == b"close",
            b"content-length" | b"accept" | b"user-agent" => value.is_ascii(),
            _ => false,
        };
        let is_method =
            [&b"GET"[..], b"HEAD", b"POST", b"PUT", b"DELETE", b"PATCH"].contains(&&*request.method);
        let has_one_host = request.head.values("host").len() == 1;
        request.head.start.ends_with(b" HTTP/1.1")
            && is_method
            && has_one_host
            && request.head.fields.iter().all(is_plain)
            && is_plain_target(&request.target)
            && request.head.values("user-token").len() <= 1
            && requests.len() <= 50
    };
    let all = requests.iter().enumerate().all(plain) && end == End::Clean;
    let count = || requests.iter().filter(|request| admitted(request, token) != Admitted::No).count();
    all.then(count)
}

fn check(requests: &[Request], end: End, seen: &[Request], token: &str) {
    let mut next = 0;
    for one in seen {
        check_seen(one, token);
        let has_token = !one.head.values("user-token").is_empty();
        let expected = if has_token { Admitted::Token } else { Admitted::Public };
        // Others that were alike but refused may have come before.
        let is_of = |request: &&Request| {
            let is_body = match (request.is_complete, one.is_complete) {
                (true, true) => request.body == one.body,
                (true, false) => request.body.starts_with(&one.body),
                (false, true) => end == End::Unknown,
                (false, false) => end == End::Unknown || request.body.starts_with(&one.body),
            };
            let target = target(request);
            // Where the engine mends a target, it cuts off a fragment (docs/security.md).
            let without_fragment = target.split(|byte| *byte == b'#').next().unwrap_or_default();
            let is_target = target == one.target || without_fragment == one.target;
            let is_alike = request.method == one.method && is_target;
            is_alike && is_body && admitted(request, token) == expected
        };
        let Some(at) = requests[next..].iter().position(|request| is_of(&request)) else {
            assert_eq!(
                end,
                End::Unknown,
                "smuggled: {} of {seen:?}\nsent: {requests:?}",
                String::from_utf8_lossy(&one.target)
            );
            continue;
        };
        let request = &requests[next + at];
        // Behind another, the engine mends a request line before anybody sees it (docs/security.md).
        assert!(!request.is_odd() || next + at > 0, "mended: {request:?}");
        check_fields(&one.head.fields, |name, value| {
            request.head.fields.iter().any(|(have, said)| have == name && said == value)
        });
        next += at + 1;
    }
}

/// The target as the engine sends it on where it mends the line: what none has is escaped.
fn target(request: &Request) -> Vec<u8> {
    let mended = request.is_odd();
    let escaped = |byte: &u8| match byte {
        ..=b' ' | 0x7f => format!("%{byte:02X}").into_bytes(),
        b'"' | b'<' | b'>' | 0x80.. if mended => format!("%{byte:02X}").into_bytes(),
        _ => vec![*byte],
    };
    request.target.iter().flat_map(escaped).collect()
}

fn check_answers(bytes: &[u8], requests: &[Request], end: End) {
    let methods: Vec<Vec<u8>> = requests.iter().map(|request| request.method.clone()).collect();
    if end == End::Unknown {
        return;
    }
    match answers(bytes, &methods) {
        Ok(statuses) => {
            let is_answered = requests.first().is_none_or(|first| !first.is_complete) || !statuses.is_empty();
            assert!(is_answered, "no answer to {requests:?}");
            let more = usize::from(end != End::Clean);
            assert!(statuses.len() <= requests.len() + more, "{statuses:?} to {requests:?}");
        }
        Err(fault) => {
            panic!("{fault:?} in an answer: {:?}\nto {requests:?}", String::from_utf8_lossy(bytes))
        }
    }
}
