//! A request as the rules see it: read once, refused where its form has more than one meaning.

use std::net::Ipv6Addr;

use http::Version;
use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderMap, HeaderValue, TRANSFER_ENCODING, UPGRADE,
};

use crate::auth::fields::{Field, ManagedFields};
use crate::auth::gate::TokenField;
use crate::auth::reply::Malformed;
use crate::config::Limits;

/// What one pass over the fields of a request found.
#[derive(Debug)]
pub struct Screened<'r> {
    /// The `user-token` fields.
    pub token: TokenField<'r>,
    /// Are there fields that must be dropped before the request goes on?
    pub has_managed: bool,
    /// Does the request have a body, and how long does it say it is?
    pub body: Body,
    /// Does the client wait for `100 Continue`?
    pub expects_continue: bool,
}

/// The body of a request, from its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// None, or an empty one.
    Absent,
    /// Of this many bytes.
    Sized(u64),
    /// Of a length that only its end tells: chunks, or a stream of HTTP/2.
    Unsized,
}

/// What of a request its fields do not say.
#[derive(Clone, Copy, Debug)]
pub struct Wire<'w> {
    /// Of HTTP.
    pub version: Version,
    /// The header as received, on HTTP/1.
    pub raw: Option<&'w [u8]>,
    /// A body follows that no field announces, on HTTP/2.
    pub has_unannounced_body: bool,
}

/// Reads the fields, once.
pub fn screen<'r>(
    headers: &'r HeaderMap,
    wire: Wire<'_>,
    managed: &ManagedFields,
    limits: &Limits,
) -> Result<Screened<'r>, Malformed> {
    let header_bytes = match wire.raw {
        Some(raw) => raw.len(),
        // RFC 9113 §6.5.2 counts 32 bytes of overhead a field.
        None => headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum(),
    };
    if header_bytes > limits.header_bytes {
        return Err(Malformed::HeaderBytes);
    }
    if headers.len() > limits.header_fields {
        return Err(Malformed::HeaderFields);
    }
    if let Some(raw) = wire.raw {
        check_lines(raw)?;
    }
    let mut screened = Screened {
        token: TokenField::Absent,
        has_managed: false,
        body: Body::Absent,
        expects_continue: false,
    };
    let mut hosts = 0;
    let mut alias = false;
    for (name, value) in headers {
        match managed.classify(name.as_str().as_bytes()) {
            Field::Free => match *name {
                HOST => hosts += if is_host(value.as_bytes()) { 1 } else { 2 },
                CONNECTION if managed.is_nominated(value.as_bytes()) => {
                    return Err(Malformed::Connection);
                }
                UPGRADE if !is_plain_upgrade(value) => return Err(Malformed::Upgrade),
                EXPECT => {
                    if !value.as_bytes().eq_ignore_ascii_case(b"100-continue") {
                        return Err(Malformed::Expect);
                    }
                    screened.expects_continue = true;
                }
                _ => {}
            },
            Field::Token => {
                screened.token = match screened.token {
                    TokenField::Absent => TokenField::One(value.as_bytes()),
                    _ => TokenField::Several,
                }
            }
            Field::TokenAlias => {
                alias = true;
                screened.has_managed = true;
            }
            Field::Managed => screened.has_managed = true,
            Field::FramingAlias => return Err(Malformed::FieldName),
            Field::MethodOverride => return Err(Malformed::MethodOverride),
        }
    }
    if alias {
        screened.token = TokenField::Alias;
    }
    // HTTP/2 has its authority elsewhere. HTTP/1.0 could do without, but goes on as HTTP/1.1 (RFC 9112 §3.2).
    if hosts > 1 || (hosts == 0 && wire.version != Version::HTTP_2) {
        return Err(Malformed::Host);
    }
    screened.body = read_framing(headers, wire)?;
    if let (Body::Sized(length), Some(limit)) = (screened.body, limits.body_bytes)
        && length > limit
    {
        return Err(Malformed::Body);
    }
    Ok(screened)
}

/// `Upgrade: h2c` may be ignored (RFC 9110 §7.8), and many clients send it on every request in the clear.
fn is_plain_upgrade(value: &HeaderValue) -> bool {
    value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"h2c")
}

/// RFC 9112 §2.2 lets a server take a line feed alone for the end of a line; another one in front of us may not have.
fn check_lines(raw: &[u8]) -> Result<(), Malformed> {
    // Empty lines may come before a request (§2.2).
    let begin = raw.iter().position(|byte| !b"\r\n".contains(byte)).unwrap_or(raw.len());
    let raw = raw.get(begin..).unwrap_or_default();
    // Without an early end, so that the compiler looks at many bytes at once.
    let pairs = raw.iter().zip(raw.iter().skip(1));
    if pairs.fold(false, |is_bare, (one, next)| is_bare | ((*next == b'\n') & (*one != b'\r'))) {
        return Err(Malformed::LineEnd);
    }
    Ok(())
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

/// RFC 9112 §6.3, without its leniency: one length, or one `chunked`, and never both.
pub fn read_framing(headers: &HeaderMap, wire: Wire<'_>) -> Result<Body, Malformed> {
    let mut encodings = headers.get_all(TRANSFER_ENCODING).iter();
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    match (encodings.next(), lengths.next()) {
        (None, None) if wire.has_unannounced_body => Ok(Body::Unsized),
        (None, None) => Ok(Body::Absent),
        (Some(encoding), None) => {
            let chunked = encoding.as_bytes().eq_ignore_ascii_case(b"chunked");
            // The engine takes a length away where there is an encoding; the raw header still has it.
            let has_length = wire.raw.is_some_and(mentions_content_length);
            if chunked && encodings.next().is_none() && !has_length {
                Ok(Body::Unsized)
            } else {
                Err(Malformed::Framing)
            }
        }
        (None, Some(length)) => {
            let length = length.to_str().ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
            match (length.and_then(|text| text.parse().ok()), lengths.next()) {
                (Some(0), None) => Ok(Body::Absent),
                (Some(length), None) => Ok(Body::Sized(length)),
                _ => Err(Malformed::Framing),
            }
        }
        (Some(_), Some(_)) => Err(Malformed::Framing),
    }
}

/// Does the raw header have a `Content-Length` field?
fn mentions_content_length(raw: &[u8]) -> bool {
    raw.split(|&byte| byte == b'\n').skip(1).any(|line| {
        let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
        name.trim_ascii().eq_ignore_ascii_case(b"content-length")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const LIMITS: Limits = Limits {
        header_bytes: 1024,
        header_fields: 10,
        body_bytes: Some(1000),
        header_timeout: Duration::from_secs(1),
        keepalive_timeout: Duration::from_secs(1),
        body_timeout: Duration::from_secs(1),
        body_min_rate: None,
        request_duration: None,
        has_deadlines: false,
        handshake_timeout: Duration::from_secs(1),
        write_timeout: Duration::from_secs(1),
        connections: 1,
        connections_per_address: None,
        requests: 1,
        requests_per_connection: 1,
        platform_connections: 2,
        memory: 1 << 24,
        login_workers: 1,
        mint_rate: std::num::NonZeroU32::MIN,
        mint_burst: std::num::NonZeroU32::MIN,
        revocations_per_user: 1,
    };

    fn read(fields: &[(&str, &str)]) -> Result<(String, Body), Malformed> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name: http::HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let managed = ManagedFields::new(["x-ds-user"]);
        let wire = Wire {
            version: Version::HTTP_11,
            raw: Some(b"GET / HTTP/1.1\r\n\r\n"),
            has_unannounced_body: false,
        };
        let screened = screen(&headers, wire, &managed, &LIMITS)?;
        Ok((format!("{:?}", screened.token), screened.body))
    }

    #[test]
    fn each_form_is_read_or_refused() {
        let host = ("host", "h");
        for (fields, expected) in [
            (&[host][..], Ok(Body::Absent)),
            (&[], Err(Malformed::Host)),
            (&[("host", "")], Err(Malformed::Host)),
            (&[host, host], Err(Malformed::Host)),
            (&[host, ("connection", "close, X-DS-User")], Err(Malformed::Connection)),
            (&[host, ("content_length", "7")], Err(Malformed::FieldName)),
            (&[host, ("x-http-method-override", "DELETE")], Err(Malformed::MethodOverride)),
            (&[host, ("upgrade", "websocket")], Err(Malformed::Upgrade)),
            (&[host, ("upgrade", "h2c, websocket")], Err(Malformed::Upgrade)),
            (&[host, ("upgrade", "h2c")], Ok(Body::Absent)),
            (&[host, ("expect", "100-Continue")], Ok(Body::Absent)),
            (&[host, ("expect", "y 100-continue")], Err(Malformed::Expect)),
            (&[host, ("content-length", "7")], Ok(Body::Sized(7))),
            (&[host, ("content-length", "0")], Ok(Body::Absent)),
            (&[host, ("content-length", "1001")], Err(Malformed::Body)),
            (&[host, ("content-length", "7"), ("content-length", "7")], Err(Malformed::Framing)),
            (&[host, ("content-length", "7, 7")], Err(Malformed::Framing)),
            (&[host, ("content-length", "+7")], Err(Malformed::Framing)),
            (&[host, ("content-length", "")], Err(Malformed::Framing)),
            (&[host, ("transfer-encoding", "Chunked")], Ok(Body::Unsized)),
            (&[host, ("transfer-encoding", "gzip, chunked")], Err(Malformed::Framing)),
            (
                &[host, ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
                Err(Malformed::Framing),
            ),
            (&[host, ("transfer-encoding", "chunked"), ("content-length", "7")], Err(Malformed::Framing)),
        ] {
            assert_eq!(read(fields).map(|(_, body)| body), expected, "{fields:?}");
        }
    }

    #[test]
    fn a_host_is_a_name_or_an_address() {
        for (host, expected) in [
            ("gateway", true),
            ("gateway.example:8443", true),
            ("my_service-1.example.", true),
            ("xn--bcher-kva.example", true),
            ("10.0.0.1:80", true),
            ("[::1]", true),
            ("[2001:db8::1]:8443", true),
            ("gateway:", true),
            ("", false),
            (":80", false),
            ("a b", false),
            ("a/b", false),
            ("a\\b", false),
            ("\"a\"", false),
            ("a, b", false),
            ("a;b", false),
            ("a@b", false),
            ("a?b", false),
            ("a#b", false),
            ("<a>", false),
            ("a%20b", false),
            ("\u{e9}", false),
            ("a:b", false),
            ("a:80:80", false),
            ("a:123456", false),
            ("[::1", false),
            ("[]", false),
            ("[::1]x", false),
            ("[a]", false),
        ] {
            assert_eq!(is_host(host.as_bytes()), expected, "{host}");
        }
    }

    #[test]
    fn a_line_ends_in_crlf() {
        for (raw, expected) in [
            ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", Ok(())),
            ("\r\n\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", Ok(())),
            ("GET / HTTP/1.1\nHost: x\r\n\r\n", Err(Malformed::LineEnd)),
            ("GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n", Err(Malformed::LineEnd)),
            ("GET / HTTP/1.1\r\nHost: x\r\n\n", Err(Malformed::LineEnd)),
        ] {
            assert_eq!(check_lines(raw.as_bytes()), expected, "{raw:?}");
        }
    }

    #[test]
    fn token_fields_are_told_apart() {
        let host = ("host", "h");
        for (fields, expected) in [
            (&[host][..], "Absent"),
            (&[host, ("user-token", "")], "One([])"),
            (&[host, ("user-token", "a")], "One([97])"),
            (&[host, ("user-token", "a"), ("user-token", "a")], "Several"),
            (&[host, ("user_token", "a"), ("user-token", "a")], "Alias"),
        ] {
            assert_eq!(read(fields).map(|(token, _)| token), Ok(expected.into()), "{fields:?}");
        }
    }

    #[test]
    fn a_hidden_length_is_found_in_the_raw_header() {
        for (raw, expected) in [
            ("POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", true),
            ("POST / HTTP/1.1\r\ncontent-length : 5\r\n\r\n", true),
            ("POST /content-length:5 HTTP/1.1\r\nx: content-length\r\n\r\n", false),
        ] {
            assert_eq!(mentions_content_length(raw.as_bytes()), expected, "{raw}");
        }
    }
}
