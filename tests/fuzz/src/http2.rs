//! HTTP/2 from end to end, over TLS: frames to a real gateway, and a platform that reads strictly what comes of them.
//!
//! The input: frames of a byte each for type, flags, stream and length, and so many bytes. With the highest bit of the type set,
//! the bytes are lines `name: value`, which are packed here (RFC 7541, without its table); `$T` in them is a valid token.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::net::{SocketAddr, TcpStream};

use openssl::ssl::{SslConnector, SslMethod, SslStream, SslVerifyMode};

use crate::exchange::{Client, Platform, Quiet, Stream, connect};
use crate::gateway::{self, Gateway};
use crate::requests::Request;
use crate::rules::{check_fields, check_seen, is_plain_target, log_in, with_token};

pub fn run(input: &[u8]) {
    HOUSE.with_borrow_mut(|deployment| {
        let Deployment { platform, gateway, token, connector, count, sent } = deployment;
        *count += 1;
        let (frames, streams) = frames(input, token, *count);
        let expected = expected(input, &streams, token);
        sent.push_back(streams);
        if sent.len() > REMEMBERED {
            sent.pop_front();
        }
        let outgoing = [PREFACE, SETTINGS, &frames, PING].concat();
        let mut client =
            Frames { outgoing, incoming: Vec::new(), expected: expected.unwrap_or(0), patience: 20 };
        let seen = platform.exchange(&mut handshake(connector, gateway.https), &mut client);
        let mut of_this = 0;
        for one in &seen {
            check_seen(one, token);
            let iterations = one.head.values("x-iteration");
            let iteration =
                iterations.last().and_then(|text| std::str::from_utf8(text).ok()?.parse::<u64>().ok());
            let Some(iteration) = iteration.filter(|iteration| iteration <= count) else {
                // Of fields that are not read here; without a token, so that it is public.
                assert!(one.head.values("user-token").is_empty(), "of no input: {one:?}");
                continue;
            };
            of_this += usize::from(iteration == *count);
            // What came late belongs to an input before.
            let age = usize::try_from(*count - iteration).expect("a small number");
            if let Some(streams) = sent.len().checked_sub(age + 1).and_then(|place| sent.get(place)) {
                check(one, streams);
            }
        }
        if let Some(count) = expected {
            assert_eq!(of_this, count, "plain requests, each with a token");
        }
        check_answers(&client.incoming);
    });
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// None, and the acknowledgement of the other side's.
const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\0\x04\x01\0\0\0\0";
/// Its answer says that all before it was read.
const PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\0ds-fuzz.";

/// How many inputs before this one a request may belong to.
const REMEMBERED: usize = 256;

struct Deployment {
    platform: Platform,
    gateway: Gateway,
    token: String,
    connector: SslConnector,
    count: u64,
    sent: VecDeque<Streams>,
}

thread_local! {
    static HOUSE: RefCell<Deployment> = RefCell::new({
        let platform = Platform::bind();
        let gateway = gateway::start(platform.listener(), true);
        let mut connector = SslConnector::builder(SslMethod::tls()).expect("TLS");
        connector.set_verify(SslVerifyMode::NONE);
        connector.set_alpn_protos(b"\x02h2").expect("ALPN");
        let (token, connector) = (log_in(gateway.http), connector.build());
        Deployment { token, platform, gateway, connector, count: 0, sent: VecDeque::new() }
    });
}

fn handshake(connector: &SslConnector, address: SocketAddr) -> SslStream<TcpStream> {
    let shake = || {
        let stream = connect(address);
        stream.set_nonblocking(false).expect("a socket");
        let mut configuration = connector.configure().expect("TLS");
        configuration.set_verify_hostname(false);
        configuration.connect("localhost", stream)
    };
    // After some ten thousand connections, a port is used again while the gateway still knows its last connection.
    let stream = shake().or_else(|_| shake()).expect("a handshake");
    assert_eq!(stream.ssl().selected_alpn_protocol(), Some(&b"h2"[..]));
    stream.get_ref().set_nonblocking(true).expect("a socket");
    stream
}

impl Stream for SslStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref()
    }

    fn finish(&mut self) {
        let _ = self.shutdown();
    }
}

struct Frames {
    outgoing: Vec<u8>,
    incoming: Vec<u8>,
    expected: usize,
    /// How many times nothing may happen before the answer to the ping.
    patience: u32,
}

impl Client for Frames {
    fn outgoing(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.outgoing)
    }

    fn incoming(&mut self, bytes: &[u8]) {
        self.incoming.extend_from_slice(bytes);
    }

    fn quiet(&mut self, seen: usize) -> Quiet {
        if seen < self.expected {
            return Quiet::Wait;
        }
        self.patience -= 1;
        let is_read = self.incoming.windows(8).any(|window| window == b"ds-fuzz.");
        if is_read || self.patience == 0 { Quiet::End } else { Quiet::Wait }
    }
}

/// What was sent on each stream, as far as it is read here.
type Streams = BTreeMap<u8, Sent>;

#[derive(Default)]
struct Sent {
    /// Headers that are not packed here, or padding.
    is_unknown: bool,
    headers: usize,
    lines: Vec<(Vec<u8>, Vec<u8>)>,
    data: Vec<u8>,
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const PADDED: u8 = 8;

struct Frame<'i> {
    is_text: bool,
    kind: u8,
    flags: u8,
    stream: u8,
    payload: &'i [u8],
}

fn split(mut input: &[u8]) -> Vec<Frame<'_>> {
    let mut frames = Vec::new();
    while let Some((&[kind, flags, stream, length], rest)) = input.split_first_chunk() {
        let (payload, rest) = rest.split_at(usize::from(length).min(rest.len()));
        input = rest;
        frames.push(Frame { is_text: kind & 0x80 != 0, kind: kind & 0x0f, flags, stream, payload });
    }
    frames
}

fn frames(input: &[u8], token: &str, count: u64) -> (Vec<u8>, Streams) {
    let (mut bytes, mut streams) = (Vec::new(), Streams::new());
    for Frame { is_text, kind, flags, stream, payload } in split(input) {
        let sent = streams.entry(stream).or_default();
        sent.headers += usize::from(kind == HEADERS);
        let payload = if is_text {
            let mut lines = lines(&with_token(payload, token));
            lines.push((b"x-iteration".to_vec(), count.to_string().into_bytes()));
            let packed = pack(&lines);
            sent.lines.extend(lines);
            packed
        } else {
            sent.is_unknown |= matches!(kind, HEADERS | CONTINUATION) || kind == DATA && flags & PADDED != 0;
            if kind == DATA {
                sent.data.extend(payload);
            }
            payload.to_vec()
        };
        sent.is_unknown |= is_text && !matches!(kind, HEADERS | CONTINUATION);
        let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
        bytes.extend([&length[1..], &[kind, flags, 0, 0, 0, stream], &payload].concat());
    }
    (bytes, streams)
}

fn lines(text: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let pair = |line: &[u8]| {
        let at = line.windows(2).position(|pair| pair == b": ").unwrap_or(line.len());
        (line[..at].to_vec(), line.get(at + 2..).unwrap_or_default().to_vec())
    };
    text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(pair).collect()
}

/// Literal fields without indexing (RFC 7541 §6.2.2).
fn pack(lines: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut packed = Vec::new();
    for (name, value) in lines {
        packed.push(0);
        for text in [name, value] {
            let mut length = text.len();
            if length < 127 {
                packed.push(u8::try_from(length).expect("a small number"));
            } else {
                packed.push(127);
                length -= 127;
                while length >= 128 {
                    packed.push(u8::try_from(length % 128).expect("seven bits") | 0x80);
                    length /= 128;
                }
                packed.push(u8::try_from(length).expect("seven bits"));
            }
            packed.extend(text);
        }
    }
    packed
}

fn check(one: &Request, streams: &Streams) {
    let is_of = |sent: &&Sent| {
        let says = |name: &str, value: &[u8]| {
            sent.lines.iter().any(|(have, said)| have == name.as_bytes() && said == value)
        };
        // The engine cuts off what no target has, a fragment (docs/security.md).
        let is_target = |said: &[u8]| said.split(|byte| *byte == b'#').next() == Some(&one.target);
        let is_path = |(have, said): &(Vec<u8>, Vec<u8>)| have == b":path" && is_target(said);
        let is_named = says(":method", &one.method) && sent.lines.iter().any(is_path);
        let has_token = one.head.values("user-token").first().is_none_or(|token| says("user-token", token));
        sent.is_unknown || is_named && has_token && sent.data.starts_with(&one.body)
    };
    let found: Vec<&Sent> = streams.values().filter(is_of).collect();
    assert!(!found.is_empty(), "smuggled: {one:?}");
    if found.iter().any(|sent| sent.is_unknown) {
        return;
    }
    check_fields(&one.head.fields, |name, value| {
        let is_sent =
            |(have, said): &(Vec<u8>, Vec<u8>)| have == name && said.trim_ascii() == value.trim_ascii();
        found.iter().any(|sent| sent.lines.iter().any(is_sent))
    });
}

/// How many requests must reach the platform, where all are so plain that this is certain.
fn expected(input: &[u8], streams: &Streams, token: &str) -> Option<usize> {
    /// The end of the stream, and of the header.
    const WHOLE: u8 = 5;
    let mut last = 0;
    let mut count = 0;
    for Frame { is_text, kind, flags, stream, .. } in split(input) {
        let sent = streams.get(&stream)?;
        let line = |name: &str| {
            let mut found = sent.lines.iter().filter(|(have, _)| have == name.as_bytes());
            found.next().map(|(_, value)| value.as_slice()).filter(|_| found.next().is_none())
        };
        let is_plain = is_text
            && (kind, flags) == (HEADERS, WHOLE)
            && stream % 2 == 1
            && stream < 0x80
            && stream > last
            && sent.lines.len() == 6
            && [&b"GET"[..], b"HEAD", b"DELETE"].contains(&line(":method")?)
            && line(":scheme")? == b"https"
            && line(":authority")? == b"gateway.test"
            && line("user-token")? == token.as_bytes()
            && is_plain_target(line(":path")?)
            && sent
                .lines
                .iter()
                .skip_while(|(name, _)| name.starts_with(b":"))
                .all(|(name, _)| !name.starts_with(b":"));
        if !is_plain || count == 20 {
            return None;
        }
        (last, count) = (stream, count + 1);
    }
    Some(count)
}

/// Frames, the first of them the settings, each no longer than it may be and on a stream of the client's.
fn check_answers(mut bytes: &[u8]) {
    let mut is_first = true;
    while let Some((&[a, b, c, kind, _, d, e, f, g], rest)) = bytes.split_first_chunk() {
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let stream = u32::from_be_bytes([d, e, f, g]);
        assert!(length <= 16_384 && kind <= 9, "a frame of the kind {kind}, {length} bytes long");
        assert!(!is_first || kind == 4, "{kind} before the settings");
        assert!(
            !matches!(kind, DATA | HEADERS | CONTINUATION) || stream % 2 == 1,
            "{kind} on the stream {stream}"
        );
        is_first = false;
        let Some(rest) = rest.get(length..) else { return };
        bytes = rest;
    }
}
