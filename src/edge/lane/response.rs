//! The platform's answer: its head as the client sees it, and how long its body is. Where nobody can tell, it is no answer.

use std::mem::MaybeUninit;

use httparse::{Header, ParserConfig, Response, Status};
use pingora::protocols::http::date::get_cached_date;

use super::handshake::Handshake;
use crate::auth::cors::{EXPOSED, MANAGED, Sharing};
use crate::auth::fields::SEQUENCE;
use crate::edge::request_id::REQUEST_ID;
use crate::edge::response::{EVENT_STREAM, HOP_BY_HOP};

/// What the head of an answer depends on beside the platform.
#[derive(Clone, Copy)]
pub(super) struct Context<'c> {
    /// Was it asked for a head alone?
    pub(super) is_head: bool,
    pub(super) request_id: &'c str,
    /// The connection ends after it.
    pub(super) closes: bool,
    pub(super) sharing: Sharing<'c>,
    /// The protocol that it may change to.
    pub(super) handshake: Option<&'c Handshake>,
}

/// What was read so far.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// More must come.
    Part,
    /// An interim answer of so many bytes.
    Interim(usize),
    Whole(Head),
    /// The connection has changed its protocol; the head that says so has so many bytes.
    Switched(usize),
    /// No answer that everybody would read alike.
    Invalid,
}

/// The head of a final answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Its bytes.
    pub(super) length: usize,
    pub(super) status: u16,
    pub(super) body: Body,
    /// May another request follow on the connection?
    pub(super) keeps: bool,
    /// Is it open for as long as somebody listens?
    pub(super) is_event_stream: bool,
}

/// The body of an answer (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    Empty,
    Sized(u64),
    Chunked,
    /// It ends with the connection; the client gets chunks.
    UntilClose,
}

/// Where the head is put that the client gets.
pub(super) trait AnswerHead {
    /// A head begins, in place of one that came before.
    fn begin(&mut self, status: u16, reason: &str);
    /// It has this field.
    fn field(&mut self, name: &[u8], value: &[u8]);
    /// That was all of it.
    fn end(&mut self);
}

impl AnswerHead for Vec<u8> {
    fn begin(&mut self, status: u16, reason: &str) {
        self.clear();
        self.extend_from_slice(b"HTTP/1.1 ");
        let digits = [status / 100 % 10, status / 10 % 10, status % 10];
        self.extend(digits.map(|digit| b'0' + digit as u8));
        self.push(b' ');
        self.extend_from_slice(reason.as_bytes());
        self.extend_from_slice(b"\r\n");
    }

    fn field(&mut self, name: &[u8], value: &[u8]) {
        for part in [name, b": ", value, b"\r\n"] {
            self.extend_from_slice(part);
        }
    }

    fn end(&mut self) {
        self.extend_from_slice(b"\r\n");
    }
}

/// Reads the head that these bytes begin with, and writes what the client gets of it.
pub(super) fn read(bytes: &[u8], context: Context<'_>, out: &mut impl AnswerHead) -> Read {
    // Written as far as there are fields.
    let mut fields = [const { MaybeUninit::uninit() }; MOST_FIELDS];
    parse(bytes, &mut fields, context, out).unwrap_or(Read::Invalid)
}

fn parse<'b>(
    bytes: &'b [u8],
    fields: &mut [MaybeUninit<Header<'b>>],
    context: Context<'_>,
    out: &mut impl AnswerHead,
) -> Result<Read, httparse::Error> {
    let mut response = Response::new(&mut []);
    // As lenient as the engine.
    let mut parser = ParserConfig::default();
    parser.allow_spaces_after_header_name_in_responses(true);
    parser.allow_obsolete_multiline_headers_in_responses(true);
    let Status::Complete(length) = parser.parse_response_with_uninit_headers(&mut response, bytes, fields)?
    else {
        return Ok(Read::Part);
    };
    let is_old = response.version != Some(1);
    let (status, reason) = (response.code.unwrap_or(0), response.reason.unwrap_or_default());
    let fields = &*response.headers;
    let has_switched =
        status == 101 && !is_old && context.handshake.is_some_and(|asked| agrees(fields, asked));
    let framing =
        if has_switched { Some((Body::Empty, true)) } else { framing(fields, status, context.is_head) };
    let Some((body, is_bare)) = framing else {
        return Ok(Read::Invalid);
    };
    let connection = || values(fields, b"connection").flat_map(|value| value.split(|&byte| byte == b','));
    let lists = |option: &[u8]| connection().any(|item| item.trim_ascii().eq_ignore_ascii_case(option));
    let has_coding = values(fields, b"transfer-encoding").next().is_some();
    let keeps = if is_old { lists(b"keep-alive") && !has_coding } else { !lists(b"close") };
    let nominates = connection().any(|item| {
        let item = item.trim_ascii();
        !item.eq_ignore_ascii_case(b"close") && !item.eq_ignore_ascii_case(b"keep-alive")
    });
    let is_interim = (100..200).contains(&status);
    let is_shared = context.sharing != Sharing::Off && !is_interim;

    out.begin(status, reason);
    let (mut has_length, mut has_date, mut varies, mut is_event_stream) = (false, false, false, false);
    for field in fields {
        let (name, value) = (field.name.as_bytes(), field.value);
        let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
        match name.len() {
            14 if is(b"content-length") => {
                if is_bare || has_coding || std::mem::replace(&mut has_length, true) {
                    continue;
                }
                let first = value.split(|&byte| byte == b',').next().unwrap_or_default();
                out.field(name, first.trim_ascii());
                continue;
            }
            17 if is(b"transfer-encoding") => {
                if !is_bare && status != 304 {
                    out.field(name, b"chunked");
                }
                continue;
            }
            12 if is(REQUEST_ID.as_bytes()) => continue,
            // What the store has acknowledged, only the gateway knows.
            13 if is(SEQUENCE.as_bytes()) => continue,
            _ => {}
        }
        let is_nominated = || nominates && connection().any(|item| is(item.trim_ascii()));
        let is_hop_by_hop = HOP_BY_HOP.iter().any(|hop| is(hop.as_str().as_bytes()));
        let is_replaced = is_shared && MANAGED.iter().any(|managed| is(managed.as_bytes()));
        if is_hop_by_hop || is_replaced || is_nominated() {
            continue;
        }
        match name.len() {
            4 if is(b"date") => has_date = true,
            4 if is_shared && is(b"vary") => {
                varies |= value
                    .split(|&byte| byte == b',')
                    .any(|item| item.trim_ascii().eq_ignore_ascii_case(b"origin"));
            }
            12 if is(b"content-type") => {
                is_event_stream = value
                    .get(..EVENT_STREAM.len())
                    .is_some_and(|start| start.eq_ignore_ascii_case(EVENT_STREAM));
            }
            _ => {}
        }
        if value.iter().any(|byte| b"\r\n".contains(byte)) {
            // A line that was folded (RFC 9112 §5.2); the engine makes one space of each fold too.
            let lines = value.split(|byte| b"\r\n".contains(byte)).map(<[u8]>::trim_ascii);
            let lines: Vec<&[u8]> = lines.filter(|line| !line.is_empty()).collect();
            out.field(name, &lines.join(b" ".as_slice()));
        } else {
            out.field(name, value);
        }
    }
    if body == Body::UntilClose {
        out.field(b"Transfer-Encoding", b"chunked");
    }
    if !is_interim && !has_date {
        out.field(b"Date", get_cached_date().as_bytes());
    }
    if is_shared {
        share(out, context.sharing, varies);
    }
    out.field(REQUEST_ID.as_bytes(), context.request_id.as_bytes());
    if context.closes && !is_interim {
        out.field(b"Connection", b"close");
    }
    if has_switched {
        out.field(b"Connection", b"Upgrade");
        values(fields, b"upgrade").for_each(|protocol| out.field(b"Upgrade", protocol));
    }
    out.end();
    Ok(if has_switched {
        Read::Switched(length)
    } else if is_interim {
        Read::Interim(length)
    } else {
        Read::Whole(Head { length, status, body, keeps, is_event_stream })
    })
}

/// The fields by which a browser knows whether a page of another origin may read an answer that has none of them.
pub(super) fn share(out: &mut impl AnswerHead, sharing: Sharing<'_>, varies: bool) {
    if sharing == Sharing::Off {
        return;
    }
    // On the answers to others too: a cache must not give one to a page that it is not for.
    if !varies {
        out.field(b"Vary", b"Origin");
    }
    if let Sharing::Allowed(origin) = sharing {
        out.field(b"Access-Control-Allow-Origin", origin.as_bytes());
        out.field(b"Access-Control-Expose-Headers", EXPOSED.as_bytes());
    }
}

/// Does an answer 101 change the connection to what was asked for?
fn agrees(fields: &[Header<'_>], asked: &Handshake) -> bool {
    let mut options = values(fields, b"connection").flat_map(|value| value.split(|&byte| byte == b','));
    options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
        && asked.is_agreed(values(fields, b"upgrade"), values(fields, b"sec-websocket-accept"))
}

/// How the body of an answer ends, and whether it is one that can have none, so that a length would contradict its status. `None`
/// where nobody can tell: unequal lengths, or a transfer coding that nobody said could be read (RFC 9112 §7.4), and `101` though no
/// other protocol was asked for.
fn framing(fields: &[Header<'_>], status: u16, is_head: bool) -> Option<(Body, bool)> {
    if status == 101 || status < 100 {
        return None;
    }
    let mut codings = values(fields, b"transfer-encoding");
    let coding = codings.next();
    let is_unreadable = coding.is_some_and(|coding| !coding.trim_ascii().eq_ignore_ascii_case(b"chunked"))
        || codings.next().is_some();
    if is_unreadable {
        return None;
    }
    // A length beside a coding means nothing (§6.3).
    let mut length = None;
    if coding.is_none() {
        let mut lengths =
            values(fields, b"content-length").flat_map(|value| value.split(|&byte| byte == b','));
        length = match lengths.next() {
            Some(first) => Some(number(first)?),
            None => None,
        };
        if lengths.any(|other| number(other) != length) {
            return None;
        }
    }
    let is_bare = status < 200 || status == 204;
    Some(if is_bare {
        (Body::Empty, true)
    } else if is_head || status == 304 {
        (Body::Empty, false)
    } else {
        let body = match (coding, length) {
            (Some(_), _) => Body::Chunked,
            (None, Some(0)) => Body::Empty,
            (None, Some(length)) => Body::Sized(length),
            (None, None) => Body::UntilClose,
        };
        (body, false)
    })
}

fn number(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?.trim_ascii();
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// The values of all fields of that name.
fn values<'f>(fields: &'f [Header<'_>], name: &'static [u8]) -> impl Iterator<Item = &'f [u8]> {
    fields
        .iter()
        .filter(move |field| field.name.as_bytes().eq_ignore_ascii_case(name))
        .map(|field| field.value)
}

/// As many as the engine takes.
const MOST_FIELDS: usize = 256;

#[cfg(test)]
mod tests;
