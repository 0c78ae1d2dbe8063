//! What a path's raw bytes mean: to us, when they are canonical, and to whatever server stands behind us,
//! when they are not.

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization;

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
        let (high, low) = (rest.get(at + 1)?, rest.get(at + 2)?);
        let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        if !allowed(digit(high)? << 4 | digit(low)?) {
            return None;
        }
        rest = rest.get(at + 3..)?;
    }
    Some(percent_encoding::percent_decode(text).into())
}

/// Too long to be read in all the ways that servers read it?
pub(super) fn is_too_involved(path: &[u8]) -> bool {
    path.len() > MAX_INVOLVED && !is_simple(path)
}

/// Could any server take this path for `root` or for something below it?
///
/// Read as many servers read paths: decoded again and again, case folded, `\` as `/`, path parameters cut
/// off, empty and dot segments resolved in either order, trailing dots and blanks dropped, overlong UTF-8
/// believed. `root` is lower case and has no final `/`.
pub(super) fn may_be_under(path: &[u8], root: &str) -> bool {
    if is_simple(path) {
        return is_under(path, root.as_bytes());
    }
    let mut form = path.to_vec();
    for _ in 0..MAX_DECODINGS {
        if readings(&form).iter().any(|reading| is_under(reading.as_bytes(), root.as_bytes())) {
            return true;
        }
        let decoded: Vec<u8> = percent_encoding::percent_decode(&decode_u(&form)).collect();
        if decoded == form {
            return false;
        }
        form = decoded;
    }
    // It still changes: nobody writes such a path in good faith.
    true
}

/// No byte here can be read in two ways, so the path is its own only reading.
fn is_simple(path: &[u8]) -> bool {
    let edge = |byte: u8| byte == b'/' || byte == b'.';
    path.iter().all(|&byte| is_plain(byte) || byte == b'/')
        && path.last() != Some(&b'.')
        && !path.windows(2).any(|pair| match pair {
            [b'/', next] => edge(*next),
            [b'.', b'/'] => true,
            _ => false,
        })
}

/// `root` itself, or `root` and then anything that is not the rest of a longer word.
fn is_under(path: &[u8], root: &[u8]) -> bool {
    let Some((head, rest)) = path.split_at_checked(root.len()) else {
        return false;
    };
    let word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-' || *byte == b'_' || *byte >= 0x80;
    head.eq_ignore_ascii_case(root) && !rest.first().is_some_and(word)
}

/// All that servers make of one spelling.
fn readings(path: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(&without_overlong(path)).replace('\\', "/");
    // Upper, then lower, so that letters such as `ſ` and the Kelvin sign fold to what they look like.
    let folded: String = text.nfkc().collect::<String>().to_uppercase().to_lowercase();
    let trimmed = map_segments(&folded, |segment| match segment {
        "." | ".." => segment,
        _ => segment.trim_end_matches(['.', ' ']),
    });
    let bare = map_segments(&folded, |segment| segment.split(';').next().unwrap_or_default());
    let trimmed_bare = map_segments(&bare, |segment| match segment {
        "." | ".." => segment,
        _ => segment.trim_end_matches(['.', ' ']),
    });
    let mut all = Vec::with_capacity(12);
    for reading in [folded, trimmed, bare, trimmed_bare] {
        all.push(resolve(&collapse(&reading)));
        all.push(collapse(&resolve(&reading)));
        all.push(reading);
    }
    all
}

fn map_segments<'t>(path: &'t str, map: impl Fn(&'t str) -> &'t str) -> String {
    path.split('/').map(map).collect::<Vec<_>>().join("/")
}

fn collapse(path: &str) -> String {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    format!("/{}", segments.join("/"))
}

/// Removes dot segments (RFC 3986 §5.2.4); `..` above the root stays at the root.
fn resolve(path: &str) -> String {
    let mut kept = Vec::new();
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            _ => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

/// `%uXXXX`, which some servers decode; only letters of ASCII matter here.
fn decode_u(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, after)) = rest.split_first() {
        let code = after.strip_prefix(b"u").or_else(|| after.strip_prefix(b"U")).and_then(|digits| {
            let text = std::str::from_utf8(digits.get(..4)?).ok()?;
            u8::from_str_radix(text.strip_prefix("00")?, 16).ok()
        });
        match code {
            Some(code) if byte == b'%' && code.is_ascii() => {
                out.push(code);
                rest = after.get(5..).unwrap_or_default();
            }
            _ => {
                out.push(byte);
                rest = after;
            }
        }
    }
    out
}

/// `/`, `.` and `\` where they are written in two bytes, which a careless decoder accepts.
fn without_overlong(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    loop {
        rest = match rest {
            [] => return out,
            [0xc0, 0xaf, after @ ..] => {
                out.push(b'/');
                after
            }
            [0xc0, 0xae, after @ ..] => {
                out.push(b'.');
                after
            }
            [0xc1, 0x9c, after @ ..] => {
                out.push(b'\\');
                after
            }
            [byte, after @ ..] => {
                out.push(*byte);
                after
            }
        };
    }
}

/// A path of more bytes than this, with anything to decode in it, is refused.
const MAX_INVOLVED: usize = 4096;

/// More layers of percent-encoding than any honest client writes.
const MAX_DECODINGS: usize = 5;
