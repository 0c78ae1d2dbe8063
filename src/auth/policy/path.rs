//! Paths whose raw bytes have a single meaning, patterns of them, and the decoding of one segment.

use std::borrow::Cow;

use super::escapes::escape;

/// `/exact` or `/prefix/*`, of raw paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    path: Box<str>,
    prefix: bool,
}

impl PathPattern {
    /// `None` if the pattern could never match, or would match what it does not say: it must be canonical.
    pub fn new(pattern: &str) -> Option<Self> {
        let (path, prefix) = match pattern.strip_suffix('*') {
            Some(path) if path.ends_with('/') => (path, true),
            Some(_) => return None,
            None => (pattern, false),
        };
        let is_sound = is_canonical(path.as_bytes()) && !path.contains('*');
        is_sound.then(|| Self { path: path.into(), prefix })
    }

    /// Is this path, without its query, one of them?
    pub fn matches(&self, path: &[u8]) -> bool {
        if self.prefix { path.starts_with(self.path.as_bytes()) } else { path == self.path.as_bytes() }
    }

    /// Are all paths?
    pub(super) fn is_everything(&self) -> bool {
        self.prefix && &*self.path == "/"
    }
}

/// Has this raw path one meaning only, whatever server reads it?
///
/// It starts with one `/`; it has no empty, `.` or `..` segment, no segment that ends in a dot or a blank,
/// no `\` or `;`, no byte outside 0x21–0x7E; each `%` begins a valid escape, of a byte that must be escaped
/// and that no server takes for structure; and it decodes to UTF-8. A final `/` is allowed.
pub fn is_canonical(path: &[u8]) -> bool {
    let Some(mut rest) = path.strip_prefix(b"/") else {
        return false;
    };
    loop {
        let end = rest.iter().position(|&byte| byte == b'/');
        let (segment, after) = rest.split_at(end.unwrap_or(rest.len()));
        match after.strip_prefix(b"/") {
            None => return segment.is_empty() || is_canonical_segment(segment),
            Some(_) if !is_canonical_segment(segment) => return false,
            Some(next) => rest = next,
        }
    }
}

fn is_canonical_segment(segment: &[u8]) -> bool {
    let Some(&last) = segment.last() else {
        return false;
    };
    if last == b'.' || !segment.iter().all(|&byte| is_plain(byte) || byte == b'%') {
        return false;
    }
    if !segment.contains(&b'%') {
        return true;
    }
    let Some(decoded) = decode_strictly(segment, |byte| byte >= 0x80 || b" \"<>[]^`{|}".contains(&byte))
    else {
        return false;
    };
    decoded.last() != Some(&b' ') && std::str::from_utf8(&decoded).is_ok()
}

/// A visible ASCII byte without a special meaning inside a segment.
fn is_plain(byte: u8) -> bool {
    (0x21..=0x7e).contains(&byte) && !b"%\\;/?#".contains(&byte)
}

/// One non-empty segment, decoded once. `None` if it is more than one segment, a dot segment, a bad escape
/// or not UTF-8.
pub(super) fn decode_segment(segment: &[u8]) -> Option<Cow<'_, str>> {
    if segment.is_empty() || segment.contains(&b'/') {
        return None;
    }
    let decoded = match decode_strictly(segment, |_| true)? {
        Cow::Borrowed(bytes) => Cow::Borrowed(std::str::from_utf8(bytes).ok()?),
        Cow::Owned(bytes) => Cow::Owned(String::from_utf8(bytes).ok()?),
    };
    (decoded != "." && decoded != "..").then_some(decoded)
}

/// Percent-decoding that refuses a `%` without two hexadecimal digits, and any byte that `allowed` does
/// not want to see escaped.
fn decode_strictly(text: &[u8], allowed: impl Fn(u8) -> bool) -> Option<Cow<'_, [u8]>> {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|&byte| byte == b'%') {
        let (value, _) = escape(rest.get(at + 1..)?.iter().copied())?;
        if !allowed(value) {
            return None;
        }
        rest = rest.get(at + 3..)?;
    }
    Some(percent_encoding::percent_decode(text).into())
}
