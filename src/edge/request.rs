//! Validates a request's head in one pass: what has more than one meaning is refused.

use std::net::Ipv6Addr;

use http::Version;

use super::request_head::RequestHead;
use crate::auth::fields::{Field, ManagedFields};
use crate::auth::gate::TokenField;
use crate::auth::reply::Malformed;
use crate::config::Limits;

/// What one pass over the fields of a request found.
#[derive(Debug)]
pub struct Validated<'r> {
    /// The `user-token` fields.
    pub token: TokenField<'r>,
    /// The sequence of the store that must be applied before it goes on, if it names one.
    pub at_least: Option<u64>,
    /// Are there fields that must be dropped before the request goes on?
    pub has_managed: bool,
    /// Does the request have a body, and how long does it say it is?
    pub body: Body,
    /// Does the client wait for `100 Continue`?
    pub expects_continue: bool,
}

/// Why a request is refused, and what follows its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub fault: Malformed,
    /// The body that it announces; where its length is in doubt, or too much, one that nobody should wait for the end of.
    pub body: Body,
}

/// The body of a request, from its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// None, or an empty one.
    Absent,
    /// Of this many bytes.
    Sized(u64),
    /// Of a length that only its end tells: chunks, or a stream of HTTP/2.
    Unsized,
}

impl Body {
    /// One that is not worth reading to its end.
    const ENDLESS: Self = Self::Sized(u64::MAX);
}

impl Refused {
    /// After this the connection ends.
    const fn ending(fault: Malformed) -> Self {
        Self { fault, body: Body::ENDLESS }
    }
}

/// Validates a head.
pub fn validate<'r, H: RequestHead>(
    head: &'r H,
    managed: &ManagedFields,
    limits: &Limits,
) -> Result<Validated<'r>, Refused> {
    if head.header_bytes() > limits.header_bytes {
        return Err(Refused::ending(Malformed::HeaderBytes));
    }
    if head.field_count() > limits.header_fields {
        return Err(Refused::ending(Malformed::HeaderFields));
    }
    head.check_syntax().map_err(Refused::ending)?;
    let mut fields = Fields::default();
    for (name, value) in head.fields() {
        fields.note(name, value, managed);
    }
    let framing = fields.framing(head);
    match fields.check(head, framing, limits) {
        Ok(body) => Ok(Validated {
            token: if fields.has_alias { TokenField::Alias } else { fields.token },
            at_least: fields.at_least,
            has_managed: fields.has_managed,
            body,
            expects_continue: fields.expects_continue,
        }),
        // Behind a handshake there may be another protocol.
        Err(fault @ (Malformed::Framing | Malformed::Body | Malformed::WebSocket)) => {
            Err(Refused::ending(fault))
        }
        Err(fault) if fields.hides_end => Err(Refused::ending(fault)),
        Err(fault) => Err(Refused { fault, body: framing.unwrap_or(Body::ENDLESS) }),
    }
}

/// What the fields say, as far as they were looked at.
struct Fields<'r> {
    token: TokenField<'r>,
    has_alias: bool,
    at_least: Option<u64>,
    has_managed: bool,
    expects_continue: bool,
    hosts: usize,
    /// `Transfer-Encoding`, and whether the last of them is `chunked` and nothing else.
    encodings: (usize, bool),
    /// `Content-Length`, and the last of them if it is a number.
    lengths: (usize, Option<u64>),
    /// The first that was found.
    fault: Option<Malformed>,
    /// `Connection: upgrade`; without it, `Upgrade` means nothing (RFC 9110 §7.8).
    is_upgrade: bool,
    offers_websocket: bool,
    /// Is there, first or not, a field that leaves in doubt what follows the head? A server that reads a framing alias may know of a
    /// length where we see none.
    hides_end: bool,
}

impl Default for Fields<'_> {
    fn default() -> Self {
        Self {
            token: TokenField::Absent,
            has_alias: false,
            at_least: None,
            has_managed: false,
            expects_continue: false,
            hosts: 0,
            encodings: (0, false),
            lengths: (0, None),
            fault: None,
            is_upgrade: false,
            offers_websocket: false,
            hides_end: false,
        }
    }
}

impl<'r> Fields<'r> {
    fn note(&mut self, name: &[u8], value: &'r [u8], managed: &ManagedFields) {
        match managed.classify(name) {
            Field::Free => self.note_free(name, value, managed),
            Field::Token => {
                self.token = match self.token {
                    TokenField::Absent => TokenField::One(value),
                    _ => TokenField::Several,
                }
            }
            Field::TokenAlias => {
                self.has_alias = true;
                self.has_managed = true;
            }
            Field::AtLeast => {
                self.has_managed = true;
                match (self.at_least, number(value)) {
                    (None, Some(sequence)) => self.at_least = Some(sequence),
                    _ => self.refuse(Malformed::AtLeast),
                }
            }
            Field::Managed => self.has_managed = true,
            Field::FramingAlias => {
                self.hides_end = true;
                self.refuse(Malformed::FieldName);
            }
            Field::MethodOverride => self.refuse(Malformed::MethodOverride),
        }
    }

    fn note_free(&mut self, name: &[u8], value: &'r [u8], managed: &ManagedFields) {
        // By their lengths first: most fields are none of these.
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => self.hosts += if is_host(value) { 1 } else { 2 },
            6 if name.eq_ignore_ascii_case(b"expect") => {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    self.refuse(Malformed::Expect);
                }
                self.expects_continue = true;
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.offers_websocket |= lists(value, b"websocket"),
            10 if name.eq_ignore_ascii_case(b"connection") => {
                if managed.is_nominated(value) {
                    self.refuse(Malformed::Connection);
                }
                self.is_upgrade |= lists(value, b"upgrade");
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                self.lengths = (self.lengths.0 + 1, number(value));
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                self.encodings = (self.encodings.0 + 1, value.eq_ignore_ascii_case(b"chunked"));
            }
            _ => {}
        }
    }

    fn refuse(&mut self, fault: Malformed) {
        self.fault.get_or_insert(fault);
    }

    /// RFC 9112 §6.3, without its leniency: one length, or one `chunked`, and never both.
    fn framing<H: RequestHead>(&self, head: &H) -> Result<Body, Malformed> {
        match (self.encodings, self.lengths) {
            ((0, _), (0, _)) if head.has_unannounced_body() => Ok(Body::Unsized),
            ((0, _), (0, _)) | ((0, _), (1, Some(0))) => Ok(Body::Absent),
            ((0, _), (1, Some(length))) => Ok(Body::Sized(length)),
            ((1, true), (0, _)) if !head.hides_length() => Ok(Body::Unsized),
            _ => Err(Malformed::Framing),
        }
    }

    fn check<H: RequestHead>(
        &self,
        head: &H,
        framing: Result<Body, Malformed>,
        limits: &Limits,
    ) -> Result<Body, Malformed> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        // HTTP/2 has its authority elsewhere, and HTTP/1.0 does without (RFC 9112 §3.2).
        if self.hosts > 1 || (self.hosts == 0 && head.version() == Version::HTTP_11) {
            return Err(Malformed::Host);
        }
        // Every other offer is ignored, as RFC 9110 §7.8 allows, and must be where it comes by HTTP/1.0.
        let is_handshake = self.is_upgrade && self.offers_websocket && head.version() == Version::HTTP_11;
        if is_handshake && !head.may_upgrade() {
            return Err(Malformed::WebSocket);
        }
        match (framing?, limits.body_bytes) {
            (Body::Sized(length), Some(limit)) if length > limit => Err(Malformed::Body),
            (body, _) => Ok(body),
        }
    }
}

/// A number in decimal: digits, and nothing else.
fn number(value: &[u8]) -> Option<u64> {
    let digits =
        std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok()
}

/// Is that name in a list of protocols or options, whatever its version? It is in lower case.
fn lists(value: &[u8], name: &[u8]) -> bool {
    value.split(|&byte| byte == b',').any(|item| {
        let item = item.split(|&byte| byte == b'/').next().unwrap_or_default();
        item.trim_ascii().eq_ignore_ascii_case(name)
    })
}

/// A name or an address, and at most a port (RFC 9110 §7.2). Of what RFC 3986 allows besides, no name on a network has any,
/// and servers differ about it.
fn is_host(value: &[u8]) -> bool {
    let (is_name, port) = match value.strip_prefix(b"[") {
        Some(rest) => {
            let (address, after) =
                rest.split_at(rest.iter().position(|&byte| byte == b']').unwrap_or(rest.len()));
            let is_address = std::str::from_utf8(address).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok());
            (is_address && !after.is_empty(), after.get(1..).unwrap_or_default())
        }
        None => {
            let (name, port) =
                value.split_at(value.iter().position(|&byte| byte == b':').unwrap_or(value.len()));
            let is_part =
                |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
            (!name.is_empty() && name.iter().all(is_part), port)
        }
    };
    let is_port = match port.split_first() {
        None => true,
        Some((b':', digits)) => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        Some(_) => false,
    };
    is_name && is_port
}

#[cfg(test)]
mod tests;
