//! Origins of pages, as browsers write them.

use core::net::{Ipv4Addr, Ipv6Addr};
use std::fmt;

/// An origin in the one spelling that browsers send (RFC 6454 §6.2): `scheme://host`, or `scheme://host:port` where the port is not
/// the scheme's own; in lower case, without a path. Compared by bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(Box<str>);

/// Why a text cannot be listed as an origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginError {
    /// `null`, which is the origin of files, sandboxed frames and much else.
    Null,
    /// `*` in it.
    Wildcard,
    /// Not of that form.
    Form,
    /// Browsers write it so.
    WrittenAs(Box<str>),
}

impl fmt::Display for OriginError {
    /// The second half of a sentence, with what to do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("is the origin of any file and any sandboxed frame: serve the page from a host and list that"),
            Self::Wildcard => f.write_str("is a pattern: list each origin, or \"*\" alone for all of them"),
            Self::Form => f.write_str("is not an origin: write for example \"https://dashboard.example\", a host with other letters in Punycode (\"xn--…\")"),
            Self::WrittenAs(origin) => write!(f, "would never match, since browsers send {origin:?}: write that"),
        }
    }
}

impl Origin {
    /// From the text that a browser would send.
    pub fn parse(text: &str) -> Result<Self, OriginError> {
        if text == "null" {
            return Err(OriginError::Null);
        }
        if text.contains('*') {
            return Err(OriginError::Wildcard);
        }
        let origin = normalize(text).ok_or(OriginError::Form)?;
        if origin == text { Ok(Self(origin.into())) } else { Err(OriginError::WrittenAs(origin.into())) }
    }

    /// As browsers send it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a browser would send for a page at this address; it may be a whole URL, copied from the address line.
fn normalize(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    if !scheme.starts_with(|first: char| first.is_ascii_alphabetic()) || !scheme.bytes().all(is_part) {
        return None;
    }
    let scheme = scheme.to_ascii_lowercase();
    let authority = rest.split(['/', '?', '#']).next()?;
    let (host, port) = match authority.rsplit_once(':') {
        // A colon inside brackets is of the address.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port_number(port)?)),
        _ => (authority, None),
    };
    let host = normalize_host(host)?;
    match port {
        Some(port) if !matches!((scheme.as_str(), port), ("https", 443) | ("http", 80)) => {
            Some(format!("{scheme}://{host}:{port}"))
        }
        _ => Some(format!("{scheme}://{host}")),
    }
}

fn port_number(digits: &str) -> Option<u16> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten()
}

fn normalize_host(host: &str) -> Option<String> {
    if let Some(address) = host.strip_prefix('[') {
        let address: Ipv6Addr = address.strip_suffix(']')?.parse().ok()?;
        return Some(format!("[{address}]"));
    }
    // A name whose last part is a number is an address to browsers (WHATWG URL, "ends in a number").
    let last = host.rsplit('.').next()?;
    if !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(host.parse::<Ipv4Addr>().ok()?.to_string());
    }
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (!host.is_empty() && host.bytes().all(is_part)).then(|| host.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_listed_as_browsers_send_it() {
        for origin in [
            "https://dashboard.example",
            "https://dashboard.example:8443",
            "http://localhost:3000",
            "http://127.0.0.1:3000",
            "http://[::1]:3000",
            "https://[2001:db8::1]",
            "https://xn--bcher-kva.example",
            "https://a_b.example",
            "capacitor://localhost",
            "chrome-extension://abcdefghijklmnop",
            "http://dashboard.example:443",
            "https://dashboard.example:80",
        ] {
            assert_eq!(Origin::parse(origin).as_ref().map(Origin::as_str), Ok(origin));
        }
    }

    #[test]
    fn what_no_browser_sends_is_refused_with_what_it_would_send() {
        let written = |origin: &str| OriginError::WrittenAs(origin.into());
        for (text, error) in [
            ("null", OriginError::Null),
            ("*", OriginError::Wildcard),
            ("https://*.example", OriginError::Wildcard),
            ("https://dashboard.example/", written("https://dashboard.example")),
            ("https://dashboard.example/d/1?x=y#z", written("https://dashboard.example")),
            ("https://dashboard.example?x", written("https://dashboard.example")),
            ("https://Dashboard.Example", written("https://dashboard.example")),
            ("HTTPS://dashboard.example", written("https://dashboard.example")),
            ("https://dashboard.example:443", written("https://dashboard.example")),
            ("http://dashboard.example:80/", written("http://dashboard.example")),
            ("http://dashboard.example:0080", written("http://dashboard.example")),
            ("http://localhost:03000", written("http://localhost:3000")),
            ("http://[0:0::1]", written("http://[::1]")),
            ("", OriginError::Form),
            ("Null", OriginError::Form),
            ("dashboard.example", OriginError::Form),
            ("https:dashboard.example", OriginError::Form),
            ("//dashboard.example", OriginError::Form),
            ("://dashboard.example", OriginError::Form),
            ("1https://dashboard.example", OriginError::Form),
            ("https://", OriginError::Form),
            ("https:///", OriginError::Form),
            ("https://anna@dashboard.example", OriginError::Form),
            ("https://anna:pw@dashboard.example", OriginError::Form),
            ("https://dashboard.example:", OriginError::Form),
            ("https://dashboard.example:x", OriginError::Form),
            ("https://dashboard.example:65536", OriginError::Form),
            ("https://dashboard.example:+443", OriginError::Form),
            ("https://bücher.example", OriginError::Form),
            ("https://dash board.example", OriginError::Form),
            (" https://dashboard.example", OriginError::Form),
            ("https://dashboard.example, https://b.example", OriginError::Form),
            ("https://127.1", OriginError::Form),
            ("https://[::1", OriginError::Form),
            ("https://[x]", OriginError::Form),
        ] {
            assert_eq!(Origin::parse(text), Err(error), "{text}");
        }
    }
}
