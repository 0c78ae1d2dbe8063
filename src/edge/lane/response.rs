//! The platform's answer: its head as the client sees it, and how long its body is. Where nobody can tell, it is no answer.

use httparse::{EMPTY_HEADER, Header, ParserConfig, Response, Status};
use pingora::protocols::http::date::get_cached_date;

use super::request::Wire;
use crate::auth::cors::{EXPOSED, MANAGED, Sharing};
use crate::edge::request_id::REQUEST_ID;
use crate::edge::response::HOP_BY_HOP;

/// What the head of an answer depends on beside the platform.
#[derive(Clone, Copy)]
pub(super) struct Context<'c> {
    /// Was it asked for a head alone?
    pub(super) is_head: bool,
    pub(super) request_id: &'c str,
    /// The connection ends after it.
    pub(super) closes: bool,
    pub(super) sharing: Sharing<'c>,
}

/// What was read so far.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// More must come.
    Part,
    /// An interim answer of so many bytes.
    Interim(usize),
    Whole(Head),
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

/// Reads the head that these bytes begin with, and writes what the client gets of it.
pub(super) fn read(bytes: &[u8], context: Context<'_>, out: &mut Vec<u8>) -> Read {
    let mut few = [EMPTY_HEADER; 32];
    match parse(bytes, &mut few, context, out) {
        Ok(read) => read,
        Err(httparse::Error::TooManyHeaders) => {
            let mut many = vec![EMPTY_HEADER; MOST_FIELDS];
            parse(bytes, &mut many, context, out).unwrap_or(Read::Invalid)
        }
        Err(_) => Read::Invalid,
    }
}

fn parse<'b>(
    bytes: &'b [u8],
    fields: &mut [Header<'b>],
    context: Context<'_>,
    out: &mut Vec<u8>,
) -> Result<Read, httparse::Error> {
    let mut response = Response::new(fields);
    // As lenient as the engine.
    let mut parser = ParserConfig::default();
    parser.allow_spaces_after_header_name_in_responses(true);
    parser.allow_obsolete_multiline_headers_in_responses(true);
    let Status::Complete(length) = parser.parse_response(&mut response, bytes)? else {
        return Ok(Read::Part);
    };
    let is_old = response.version != Some(1);
    let (status, reason) = (response.code.unwrap_or(0), response.reason.unwrap_or_default());
    let fields = &*response.headers;
    let Some((body, is_bare)) = framing(fields, status, context.is_head) else {
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

    out.extend_from_slice(b"HTTP/1.1 ");
    let digits = [status / 100 % 10, status / 10 % 10, status % 10];
    out.extend(digits.map(|digit| b'0' + digit as u8));
    out.push(b' ');
    out.extend_from_slice(reason.as_bytes());
    out.extend_from_slice(b"\r\n");
    let mut wire = Wire(out);
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
                wire.field(name, first.trim_ascii());
                continue;
            }
            17 if is(b"transfer-encoding") => {
                if !is_bare && status != 304 {
                    wire.field(name, b"chunked");
                }
                continue;
            }
            12 if is(REQUEST_ID.as_bytes()) => continue,
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
        let is_nominated = || nominates && connection().any(|item| is(item.trim_ascii()));
        let is_hop_by_hop = HOP_BY_HOP.iter().any(|hop| is(hop.as_str().as_bytes()));
        let is_replaced = is_shared && MANAGED.iter().any(|managed| is(managed.as_bytes()));
        if is_hop_by_hop || is_replaced || is_nominated() {
            continue;
        }
        if value.iter().any(|byte| b"\r\n".contains(byte)) {
            // A line that was folded (RFC 9112 §5.2).
            let unfolded: Vec<u8> =
                value.iter().map(|&byte| if b"\r\n".contains(&byte) { b' ' } else { byte }).collect();
            wire.field(name, &unfolded);
        } else {
            wire.field(name, value);
        }
    }
    if body == Body::UntilClose {
        wire.field(b"Transfer-Encoding", b"chunked");
    }
    if !is_interim && !has_date {
        wire.field(b"Date", get_cached_date().as_bytes());
    }
    if is_shared {
        share(&mut wire, context.sharing, varies);
    }
    wire.field(REQUEST_ID.as_bytes(), context.request_id.as_bytes());
    if context.closes && !is_interim {
        wire.field(b"Connection", b"close");
    }
    out.extend_from_slice(b"\r\n");
    Ok(if is_interim {
        Read::Interim(length)
    } else {
        Read::Whole(Head { length, status, body, keeps, is_event_stream })
    })
}

/// The fields by which a browser knows whether a page of another origin may read an answer that has none of them.
pub(super) fn share(wire: &mut Wire<'_>, sharing: Sharing<'_>, varies: bool) {
    if sharing == Sharing::Off {
        return;
    }
    // On the answers to others too: a cache must not give one to a page that it is not for.
    if !varies {
        wire.field(b"Vary", b"Origin");
    }
    if let Sharing::Allowed(origin) = sharing {
        wire.field(b"Access-Control-Allow-Origin", origin.as_bytes());
        wire.field(b"Access-Control-Expose-Headers", EXPOSED.as_bytes());
    }
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

/// Server-sent events (HTML §9.2).
const EVENT_STREAM: &[u8] = b"text/event-stream";

/// As many as the engine takes.
const MOST_FIELDS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Context<'_> =
        Context { is_head: false, request_id: "id", closes: false, sharing: Sharing::Off };

    fn seen(text: &str, context: Context<'_>) -> (Read, String) {
        let mut out = Vec::new();
        let read = read(text.as_bytes(), context, &mut out);
        (read, String::from_utf8(out).unwrap())
    }

    #[test]
    fn the_end_of_a_body_is_plain_or_the_answer_is_none() {
        use Body::*;
        let head = Context { is_head: true, ..PLAIN };
        for (status, fields, context, expected) in [
            ("200 OK", "Content-Length: 5\r\n", PLAIN, Some((Sized(5), "content-length: 5"))),
            ("200 OK", "Content-Length: 0\r\n", PLAIN, Some((Empty, "content-length: 0"))),
            (
                "200 OK",
                "Content-Length: 5\r\nContent-Length: 5\r\n",
                PLAIN,
                Some((Sized(5), "content-length: 5")),
            ),
            ("200 OK", "Content-Length: 5, 5\r\n", PLAIN, Some((Sized(5), "content-length: 5"))),
            ("200 OK", "Content-Length: 5\r\nContent-Length: 6\r\n", PLAIN, None),
            ("200 OK", "Content-Length: 5, 6\r\n", PLAIN, None),
            ("200 OK", "Content-Length: +5\r\n", PLAIN, None),
            ("200 OK", "Content-Length: -5\r\n", PLAIN, None),
            ("200 OK", "Content-Length:\r\n", PLAIN, None),
            ("200 OK", "Content-Length: 0x5\r\n", PLAIN, None),
            ("200 OK", "Content-Length: 99999999999999999999\r\n", PLAIN, None),
            ("204 No Content", "Content-Length: 5 5\r\n", PLAIN, None),
            (
                "200 OK",
                "Transfer-Encoding: Chunked \r\n",
                PLAIN,
                Some((Chunked, "transfer-encoding: chunked")),
            ),
            (
                "200 OK",
                "Content-Length: x\r\nTransfer-Encoding: chunked\r\n",
                PLAIN,
                Some((Chunked, "transfer-encoding: chunked")),
            ),
            ("200 OK", "Transfer-Encoding: gzip, chunked\r\n", PLAIN, None),
            ("200 OK", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", PLAIN, None),
            ("200 OK", "Transfer-Encoding: identity\r\n", PLAIN, None),
            ("200 OK", "", PLAIN, Some((UntilClose, "transfer-encoding: chunked"))),
            ("200 OK", "Content-Length: 5\r\n", head, Some((Empty, "content-length: 5"))),
            ("200 OK", "Transfer-Encoding: chunked\r\n", head, Some((Empty, "transfer-encoding: chunked"))),
            ("200 OK", "", head, Some((Empty, ""))),
            ("204 No Content", "Content-Length: 5\r\n", PLAIN, Some((Empty, ""))),
            ("204 No Content", "Transfer-Encoding: chunked\r\n", PLAIN, Some((Empty, ""))),
            ("304 Not Modified", "Content-Length: 5\r\n", PLAIN, Some((Empty, "content-length: 5"))),
            ("304 Not Modified", "Transfer-Encoding: chunked\r\n", PLAIN, Some((Empty, ""))),
            ("101 Switching", "Upgrade: x\r\n", PLAIN, None),
        ] {
            let text = format!("HTTP/1.1 {status}\r\nDate: now\r\n{fields}\r\nbody");
            let (read, out) = seen(&text, context);
            let out = out.to_ascii_lowercase();
            let Some((body, framing)) = expected else {
                assert_eq!(read, Read::Invalid, "{text:?}");
                continue;
            };
            let Read::Whole(found) = read else { panic!("{text:?}: {read:?}") };
            assert_eq!((found.body, found.length), (body, text.len() - 4), "{text:?}");
            let about_the_end: Vec<&str> = out
                .lines()
                .filter(|line| line.starts_with("content-length") || line.starts_with("transfer-encoding"))
                .collect();
            assert_eq!(about_the_end.join(" "), framing, "{text:?}");
        }
    }

    #[test]
    fn a_connection_is_kept_where_both_sides_say_so() {
        for (text, keeps) in [
            ("HTTP/1.1 204 x\r\n\r\n", true),
            ("HTTP/1.1 204 x\r\nConnection: Close\r\n\r\n", false),
            ("HTTP/1.1 204 x\r\nConnection: keep-alive, close\r\n\r\n", false),
            ("HTTP/1.0 204 x\r\n\r\n", false),
            ("HTTP/1.0 204 x\r\nConnection: keep-alive\r\n\r\n", true),
            ("HTTP/1.0 200 x\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n", false),
        ] {
            let (Read::Whole(head), out) = seen(text, PLAIN) else { panic!("{text:?}") };
            assert_eq!(head.keeps, keeps, "{text:?}");
            assert!(!out.to_ascii_lowercase().contains("connection"), "{out:?}");
        }
        let (_, out) = seen("HTTP/1.1 204 x\r\n\r\n", Context { closes: true, ..PLAIN });
        assert!(out.contains("\r\nConnection: close\r\n"), "{out:?}");
    }

    #[test]
    fn what_is_for_one_connection_ends_there() {
        let (_, out) = seen(
            "HTTP/1.0 299 Very  fine\r\nX: y\r\nConnection: X-Mine\r\nX-Mine: 1\r\nKeep-Alive: 5\r\nUpgrade: h2c\r\nTrailer: a\r\nTE: b\r\n\
             Proxy-Connection: c\r\nX-Request-Id: theirs\r\nDate: then\r\nFolded: a\r\n b\r\nSpaced : c\r\nContent-Length: 0\r\n\r\n",
            PLAIN,
        );
        assert_eq!(
            out,
            "HTTP/1.1 299 Very  fine\r\nX: y\r\nDate: then\r\nFolded: a   b\r\nSpaced: c\r\nContent-Length: 0\r\nX-Request-Id: id\r\n\r\n"
        );
    }

    #[test]
    fn interim_answers_have_no_body_and_no_end() {
        let (read, out) = seen("HTTP/1.1 103 Early\r\nLink: a\r\nContent-Length: 3\r\n\r\nHTTP", PLAIN);
        assert_eq!(read, Read::Interim(50));
        assert_eq!(out, "HTTP/1.1 103 Early\r\nLink: a\r\nX-Request-Id: id\r\n\r\n");
    }

    #[test]
    fn what_pages_may_read_is_said_by_the_gateway_alone() {
        let text =
            "HTTP/1.1 204 x\r\nDate: n\r\nAccess-Control-Allow-Origin: *\r\nVary: Accept, origin\r\n\r\n";
        let shown = |sharing| seen(text, Context { sharing, ..PLAIN }).1;
        assert!(shown(Sharing::Off).contains("Access-Control-Allow-Origin: *"));
        assert_eq!(
            shown(Sharing::Refused),
            "HTTP/1.1 204 x\r\nDate: n\r\nVary: Accept, origin\r\nX-Request-Id: id\r\n\r\n"
        );
        assert!(
            shown(Sharing::Allowed("https://a")).contains("\r\nAccess-Control-Allow-Origin: https://a\r\n")
        );
        let (_, out) = seen("HTTP/1.1 204 x\r\n\r\n", Context { sharing: Sharing::Refused, ..PLAIN });
        assert!(out.contains("\r\nVary: Origin\r\n"));
    }

    #[test]
    fn a_head_is_read_once_it_is_whole_and_garbage_never() {
        let whole = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        for end in 0..whole.len() {
            assert_eq!(seen(&whole[..end], PLAIN), (Read::Part, String::new()), "{end}");
        }
        for garbage in ["GET / HTTP/1.1\r\n\r\n", "HTTP/2.0 200 OK\r\n\r\n", "HTTP/1.1 2x0 OK\r\n\r\n", "\0"]
        {
            assert_eq!(seen(garbage, PLAIN).0, Read::Invalid, "{garbage:?}");
        }
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(200));
        assert!(matches!(seen(&many, PLAIN).0, Read::Whole(_)));
        let too_many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(300));
        assert_eq!(seen(&too_many, PLAIN).0, Read::Invalid);
    }
}
