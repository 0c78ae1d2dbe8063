//! Paths whose raw bytes have a single meaning, and the decoding of one segment.

use std::borrow::Cow;

use super::escapes::escape;

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
