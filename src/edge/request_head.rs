//! A request's head as the rules see it, whichever parser read it: the engine, or the raw bytes alone.

use http::{HeaderMap, Version};

use crate::auth::reply::Malformed;

/// Request line and fields of a request. Nothing in it is decoded or normalized.
pub trait RequestHead {
    /// As sent.
    fn method(&self) -> &[u8];
    /// Path and query as sent.
    fn target(&self) -> &[u8];
    /// Of HTTP.
    fn version(&self) -> Version;
    /// Size of the head, as `limits.header_bytes` counts it.
    fn header_bytes(&self) -> usize;
    /// How many fields there are.
    fn field_count(&self) -> usize;
    /// Names, in any case, and values.
    fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])>;
    /// A body follows that no field announces, on HTTP/2.
    fn has_unannounced_body(&self) -> bool {
        false
    }
    /// Does whoever carries it change the protocol of its connection, as it asks for?
    fn may_upgrade(&self) -> bool {
        false
    }
    /// Checks what the parser was lenient about.
    fn check_syntax(&self) -> Result<(), Malformed> {
        Ok(())
    }
    /// Was there a `Content-Length` that is not among the fields?
    fn hides_length(&self) -> bool {
        false
    }

    /// The values of all fields of that name, which is in lower case.
    fn values<'h>(&'h self, name: &'h str) -> impl Iterator<Item = &'h [u8]> {
        let is_named = move |(have, _): &(&[u8], &[u8])| have.eq_ignore_ascii_case(name.as_bytes());
        self.fields().filter(is_named).map(|(_, value)| value)
    }

    /// The value of a field that is there once.
    fn single<'h>(&'h self, name: &'h str) -> Option<&'h [u8]> {
        let mut values = self.values(name);
        let first = values.next()?;
        values.next().is_none().then_some(first)
    }
}

/// A head that the engine has parsed.
#[derive(Clone, Copy, Debug)]
pub struct EngineHead<'r> {
    /// As sent.
    pub method: &'r str,
    /// Path and query as sent.
    pub target: &'r [u8],
    /// Of HTTP.
    pub version: Version,
    /// Each name once, in lower case.
    pub headers: &'r HeaderMap,
    /// The head as received, on HTTP/1.
    pub raw: Option<&'r [u8]>,
    /// A body follows that no field announces, on HTTP/2.
    pub has_unannounced_body: bool,
}

impl RequestHead for EngineHead<'_> {
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
        match self.raw {
            Some(raw) => raw.len(),
            // RFC 9113 §6.5.2 counts 32 bytes of overhead a field.
            None => self.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum(),
        }
    }

    fn field_count(&self) -> usize {
        self.headers.len()
    }

    fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.headers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()))
    }

    fn has_unannounced_body(&self) -> bool {
        self.has_unannounced_body
    }

    /// The engine takes a line feed alone for the end of a line.
    fn check_syntax(&self) -> Result<(), Malformed> {
        self.raw.map_or(Ok(()), check_lines)
    }

    /// The engine takes a length away where there is an encoding; the raw head still has it.
    fn hides_length(&self) -> bool {
        self.raw.is_some_and(mentions_content_length)
    }
}

/// RFC 9112 §2.2 lets a server take a line feed alone for the end of a line; another one in front of us may not have.
pub(super) fn check_lines(raw: &[u8]) -> Result<(), Malformed> {
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

/// Does the raw head have a `Content-Length` field?
fn mentions_content_length(raw: &[u8]) -> bool {
    raw.split(|&byte| byte == b'\n').skip(1).any(|line| {
        let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
        name.trim_ascii().eq_ignore_ascii_case(b"content-length")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_hidden_length_is_found_in_the_raw_head() {
        for (raw, expected) in [
            ("POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", true),
            ("POST / HTTP/1.1\r\ncontent-length : 5\r\n\r\n", true),
            ("POST /content-length:5 HTTP/1.1\r\nx: content-length\r\n\r\n", false),
        ] {
            assert_eq!(mentions_content_length(raw.as_bytes()), expected, "{raw}");
        }
    }
}
