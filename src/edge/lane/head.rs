//! A request's head for the lane: read by httparse, as the engine does, and taken only where every reader would read the same.

use std::mem::MaybeUninit;

use http::Version;
use httparse::{Header, Request, Status};

use crate::edge::access_log::Exchange;
use crate::edge::request_head::{RequestHead, check_lines};
use crate::metrics::Declined;

/// A whole head; it borrows what was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head<'b, 'h> {
    bytes: &'b [u8],
    pub(super) method: &'b str,
    target: &'b [u8],
    version: Version,
    fields: &'h [Header<'b>],
    may_upgrade: bool,
}

/// Room for the fields of a head.
pub(super) type Fields<'b> = [MaybeUninit<Header<'b>>; MOST_FIELDS];

pub(super) const fn no_fields<'b>() -> Fields<'b> {
    [const { MaybeUninit::uninit() }; MOST_FIELDS]
}

/// What was read so far.
pub(super) enum Read<'b, 'h> {
    Whole(Head<'b, 'h>),
    /// More must come.
    Part,
    /// It is for the engine to say what is wrong with it.
    Unreadable,
}

impl<'b, 'h> Head<'b, 'h> {
    /// Reads the head that these bytes begin with.
    pub(super) fn read(bytes: &'b [u8], fields: &'h mut Fields<'b>) -> Read<'b, 'h> {
        // An empty line in front, which the parser would skip (RFC 9112 §2.2).
        if bytes.first().is_some_and(|byte| b"\r\n".contains(byte)) {
            return Read::Unreadable;
        }
        let mut request = Request::new(&mut []);
        match request.parse_with_uninit_headers(bytes, fields) {
            Ok(Status::Complete(length)) => {
                let version = if request.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
                let (Some(method), Some(target), Some(bytes)) =
                    (request.method, request.path, bytes.get(..length))
                else {
                    return Read::Unreadable;
                };
                let target = target.as_bytes();
                let fields = request.headers;
                Read::Whole(Self { bytes, method, target, version, fields, may_upgrade: false })
            }
            Ok(Status::Partial) => Read::Part,
            Err(_) => Read::Unreadable,
        }
    }

    /// What the log shows of it.
    pub(super) fn exchange(&self) -> Exchange<'b> {
        let value = |name: &str| {
            let mut values = self.fields.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
            values.next().map(|field| field.value)
        };
        Exchange {
            method: self.method,
            target: self.target,
            version: self.version,
            host: value("host"),
            user_agent: value("user-agent"),
            bytes_received: 0,
            bytes_sent: 0,
        }
    }

    /// Its length in bytes.
    pub(super) const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Its shape; an error says why the lane leaves it to the engine. `length` is known where it is safe to say how long the body is.
    pub(super) fn shape(&self) -> Shape<'b> {
        let mut shape = Shape { length: Some(0), closes: false, declined: None, asks: None };
        let (mut hosts, mut lengths, mut connections, mut upgrades) = (0u8, 0u8, 0u8, 0u8);
        let (mut offer, mut is_upgrade) = (None, false);
        if self.version != Version::HTTP_11 {
            shape.decline(Declined::Version);
        }
        if !takes_method(self.method) {
            shape.decline(Declined::Method);
        }
        if self.target.first() != Some(&b'/') || !self.target.iter().all(|byte| is_plain(*byte)) {
            shape.decline(Declined::Target);
        }
        if check_lines(self.bytes).is_err() {
            shape.length = None;
            shape.decline(Declined::Syntax);
        }
        for field in self.fields {
            let (name, value) = (field.name.as_bytes(), field.value);
            let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
            match name.len() {
                2 if is(b"te") => shape.decline(Declined::Field),
                4 if is(b"host") => hosts = hosts.saturating_add(1),
                6 if is(b"expect") => shape.decline(Declined::Field),
                7 if is(b"trailer") => shape.decline(Declined::Field),
                7 if is(b"upgrade") => {
                    upgrades = upgrades.saturating_add(1);
                    // An offer that a server may leave alone (RFC 9110 §7.8).
                    if !OFFERS.iter().any(|offer| value.eq_ignore_ascii_case(offer)) {
                        offer = Some(value);
                    }
                }
                10 if is(b"connection") => {
                    connections = connections.saturating_add(1);
                    for option in value.split(|&byte| byte == b',') {
                        let option = option.trim_ascii();
                        is_upgrade |= option.eq_ignore_ascii_case(b"upgrade");
                        if option.eq_ignore_ascii_case(b"close") {
                            shape.closes = true;
                        } else if !OPTIONS.iter().any(|known| option.eq_ignore_ascii_case(known)) {
                            shape.decline(Declined::Connection);
                        }
                    }
                }
                10 if is(b"keep-alive") => shape.decline(Declined::Field),
                14 if is(b"content-length") => {
                    lengths = lengths.saturating_add(1);
                    shape.length = digits(value).filter(|_| lengths == 1 && shape.length.is_some());
                }
                17 if is(b"transfer-encoding") => {
                    shape.length = None;
                    lengths = 2;
                }
                length if length > 6 && starts_with(name, b"proxy-") => shape.decline(Declined::Field),
                _ => {}
            }
        }
        if shape.length.is_none() {
            shape.decline(Declined::Body);
        }
        if hosts != 1 || connections > 1 {
            shape.decline(Declined::Field);
        }
        if let Some(protocol) = offer {
            let is_plain = shape.declined.is_none() && (upgrades, lengths) == (1, 0) && !shape.closes;
            shape.asks = (is_plain && is_upgrade && self.method == "GET").then_some(protocol);
            // Behind it another protocol may follow.
            shape.length = None;
            shape.decline(Declined::Field);
        }
        shape
    }

    /// The same, of a request that is to change the protocol of its connection.
    pub(super) const fn upgrading(self) -> Self {
        Self { may_upgrade: true, ..self }
    }
}

/// What a head says of itself, as far as the lane must know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape<'b> {
    /// Bytes of its body; `None` where only the engine can say where it ends.
    pub(super) length: Option<u64>,
    /// `Connection: close`.
    pub(super) closes: bool,
    /// Why the lane does not take it.
    pub(super) declined: Option<Declined>,
    /// What it asks to change its connection to: the value of `Upgrade`, of a request that is plain but for that.
    pub(super) asks: Option<&'b [u8]>,
}

impl Shape<'_> {
    fn decline(&mut self, reason: Declined) {
        self.declined.get_or_insert(reason);
    }
}

impl RequestHead for Head<'_, '_> {
    fn method(&self) -> &[u8] {
        self.method.as_bytes()
    }

    fn target(&self) -> &[u8] {
        self.target
    }

    fn version(&self) -> Version {
        self.version
    }

    fn header_bytes(&self) -> usize {
        self.bytes.len()
    }

    fn field_count(&self) -> usize {
        self.fields.len()
    }

    fn may_upgrade(&self) -> bool {
        self.may_upgrade
    }

    fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|field| (field.name.as_bytes(), field.value))
    }
}

/// A `Content-Length` that every reader understands.
pub(super) fn digits(value: &[u8]) -> Option<u64> {
    let is_number = (1..=18).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    is_number.then(|| value.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

fn starts_with(name: &[u8], prefix: &[u8]) -> bool {
    name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// May it stand in a target (RFC 3986 §3.3, §3.4)? Of what the engine forwards besides, it says more than the lane would.
pub(super) const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b';'
                | b'='
                | b':'
                | b'@'
                | b'%'
                | b'/'
                | b'?'
        )
}

/// Protocols that clients offer with requests that are complete without them: Java's client, curl and Apache HttpClient.
const OFFERS: [&[u8]; 5] = [b"h2c", b"TLS/1.0", b"TLS/1.1", b"TLS/1.2", b"TLS/1.3"];

/// What `Connection` may say besides `close`.
const OPTIONS: [&[u8]; 3] = [b"keep-alive", b"upgrade", b"http2-settings"];

/// Is it a method whose meaning is plain?
pub(super) fn takes_method(method: &str) -> bool {
    METHODS.contains(&method)
}

/// Methods whose meaning is plain.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// Fields of a request that the lane takes; clients send ten or twenty.
const MOST_FIELDS: usize = 64;

#[cfg(test)]
mod tests;
