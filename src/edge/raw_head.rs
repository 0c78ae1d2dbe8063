//! A request's head as its raw bytes, for HTTP/1 without the engine. Nothing is copied and nothing is stored: lines are split
//! where they are needed.

use http::Version;

use super::request_head::RequestHead;
use crate::auth::reply::Malformed;

/// A whole head that follows RFC 9112, without any of the leniency that it allows to servers.
#[derive(Clone, Copy, Debug)]
pub struct RawHead<'b> {
    bytes: &'b [u8],
    method: &'b [u8],
    target: &'b [u8],
    version: Version,
    /// All field lines, each with its line end.
    fields: &'b [u8],
    count: usize,
}

impl<'b> RawHead<'b> {
    /// Reads a head, from its request line to its empty line.
    ///
    /// # Errors
    ///
    /// [`Malformed::LineEnd`] where a line ends in a line feed alone, [`Malformed::RequestLine`] and [`Malformed::Unreadable`].
    pub fn parse(bytes: &'b [u8]) -> Result<Self, Malformed> {
        let (line, rest) = split_line(bytes)?;
        let mut parts = line.split(|&byte| byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Malformed::RequestLine);
        };
        if !is_token(method) || target.is_empty() || target.iter().any(u8::is_ascii_control) {
            return Err(Malformed::RequestLine);
        }
        let version = match version {
            b"HTTP/1.1" => Version::HTTP_11,
            b"HTTP/1.0" => Version::HTTP_10,
            _ => return Err(Malformed::RequestLine),
        };
        let fields = rest.strip_suffix(b"\r\n").ok_or(Malformed::Unreadable)?;
        let (mut left, mut count) = (fields, 0);
        while !left.is_empty() {
            let (line, rest) = split_line(left)?;
            let (name, _) = split_field(line).ok_or(Malformed::Unreadable)?;
            // Of the whole line: what is trimmed around a value must be text as well.
            let is_text = |byte: &u8| *byte == b'\t' || !byte.is_ascii_control();
            if !is_token(name) || !line.iter().all(is_text) {
                return Err(Malformed::Unreadable);
            }
            left = rest;
            count += 1;
        }
        Ok(Self { bytes, method, target, version, fields, count })
    }
}

impl RequestHead for RawHead<'_> {
    fn method(&self) -> &[u8] {
        self.method
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
        self.count
    }

    fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut left = self.fields;
        std::iter::from_fn(move || {
            // Every line was read before.
            let (line, rest) = split_line(left).ok()?;
            left = rest;
            split_field(line)
        })
    }
}

/// A line without its end, and what follows it.
fn split_line(bytes: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let end = bytes.iter().position(|&byte| byte == b'\n').ok_or(Malformed::Unreadable)?;
    let (line, rest) = bytes.split_at_checked(end + 1).ok_or(Malformed::Unreadable)?;
    let line = line.strip_suffix(b"\r\n").ok_or(Malformed::LineEnd)?;
    Ok((line, rest))
}

/// Name and value of a field line, the value without the blanks around it (RFC 9112 §5).
fn split_field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let (name, value) = line.split_at(line.iter().position(|&byte| byte == b':')?);
    let value = value.get(1..)?;
    let is_text = |byte: &u8| !matches!(byte, b' ' | b'\t');
    let (first, last) = (value.iter().position(is_text), value.iter().rposition(is_text));
    let trimmed = first.zip(last).and_then(|(first, last)| value.get(first..=last));
    Some((name, trimmed.unwrap_or_default()))
}

/// RFC 9110 §5.6.2.
fn is_token(text: &[u8]) -> bool {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_strict_head_is_read() {
        for (text, expected) in [
            ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", Ok(1)),
            ("GET / HTTP/1.0\r\n\r\n", Ok(0)),
            ("GET / HTTP/1.1\r\nA: \t b c \t\r\nA:\r\n\r\n", Ok(2)),
            ("GET /\u{e9} HTTP/1.1\r\nA: \u{e9}\r\n\r\n", Ok(1)),
            ("GET / HTTP/1.1\nHost: x\r\n\r\n", Err(Malformed::LineEnd)),
            ("GET / HTTP/1.1\r\nHost: x\n\r\n", Err(Malformed::LineEnd)),
            ("GET / HTTP/1.1\r\nHost: x\r\n\n", Err(Malformed::Unreadable)),
            ("GET  / HTTP/1.1\r\n\r\n", Err(Malformed::RequestLine)),
            ("GET / HTTP/1.1 \r\n\r\n", Err(Malformed::RequestLine)),
            ("GET /\0 HTTP/1.1\r\n\r\n", Err(Malformed::RequestLine)),
            ("GET /\r HTTP/1.1\r\n\r\n", Err(Malformed::RequestLine)),
            ("GET  HTTP/1.1\r\n\r\n", Err(Malformed::RequestLine)),
            ("G(T / HTTP/1.1\r\n\r\n", Err(Malformed::RequestLine)),
            ("GET / HTTP/2.0\r\n\r\n", Err(Malformed::RequestLine)),
            ("GET / http/1.1\r\n\r\n", Err(Malformed::RequestLine)),
            ("GET / HTTP/1.1\r\nHost : x\r\n\r\n", Err(Malformed::Unreadable)),
            ("GET / HTTP/1.1\r\n: x\r\n\r\n", Err(Malformed::Unreadable)),
            ("GET / HTTP/1.1\r\nA: x\r\n y\r\n\r\n", Err(Malformed::Unreadable)),
            ("GET / HTTP/1.1\r\nA: x\ry\r\n\r\n", Err(Malformed::Unreadable)),
            ("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\r\n\r\n", Err(Malformed::Unreadable)),
            ("GET / HTTP/1.1\r\nA:\rx\r\n\r\n", Err(Malformed::Unreadable)),
            ("GET / HTTP/1.1\r\nContent-Length: \x0c5\r\n\r\n", Err(Malformed::Unreadable)),
            ("GET / HTTP/1.1\r\nA: x\x0b\r\n\r\n", Err(Malformed::Unreadable)),
            ("GET / HTTP/1.1\r\nA: \0\r\n\r\n", Err(Malformed::Unreadable)),
            ("GET / HTTP/1.1\r\nno field\r\n\r\n", Err(Malformed::Unreadable)),
            ("GET / HTTP/1.1\r\nA: x\r\n", Err(Malformed::Unreadable)),
            ("", Err(Malformed::Unreadable)),
        ] {
            let read = RawHead::parse(text.as_bytes()).map(|head| head.field_count());
            assert_eq!(read, expected, "{text:?}");
        }
    }

    #[test]
    fn a_value_has_no_blanks_around_it() {
        let head = RawHead::parse(b"GET / HTTP/1.1\r\nA: \t b \tc \t\r\nB:\r\nC: \t \r\n\r\n").unwrap();
        let fields: Vec<(&[u8], &[u8])> = head.fields().collect();
        assert_eq!(fields, [(&b"A"[..], &b"b \tc"[..]), (b"B", b""), (b"C", b"")]);
    }
}
