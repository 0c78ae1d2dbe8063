//! Percent-escapes (RFC 3986 §2.1) and UTF-8 (RFC 3629), read a byte at a time, so that nothing is allocated.

/// The bytes of an iterator with one layer of percent-escapes taken off; a `%` that begins none stays.
#[derive(Clone)]
pub(super) struct Unescaped<I>(pub(super) I);

impl<I: Iterator<Item = u8> + Clone> Iterator for Unescaped<I> {
    type Item = u8;

    #[inline(always)]
    fn next(&mut self) -> Option<u8> {
        let byte = self.0.next()?;
        if byte == b'%'
            && let Some((value, after)) = escape(self.0.clone())
        {
            self.0 = after;
            return Some(value);
        }
        Some(byte)
    }
}

/// What the two digits behind a `%` stand for, and what follows them.
#[inline(always)]
pub(super) fn escape<I: Iterator<Item = u8>>(mut after: I) -> Option<(u8, I)> {
    let (high, low) = (digit(after.next()?)?, digit(after.next()?)?);
    Some((high << 4 | low, after))
}

#[inline(always)]
fn digit(byte: u8) -> Option<u8> {
    /// The value of each hexadecimal digit; looked up, since a path may be nothing but escapes.
    const DIGITS: [u8; 256] = {
        let mut digits = [NONE; 256];
        let mut value = 0;
        while value < 16 {
            #[expect(clippy::indexing_slicing, reason = "a constant is made when it is compiled")]
            {
                digits[b"0123456789abcdef"[value as usize] as usize] = value;
                digits[b"0123456789ABCDEF"[value as usize] as usize] = value;
            }
            value += 1;
        }
        digits
    };
    const NONE: u8 = 0xff;
    DIGITS.get(usize::from(byte)).copied().filter(|value| *value != NONE)
}

/// Does what follows a `%` make it an escape?
pub(super) fn is_escape(after: impl Iterator<Item = u8>) -> bool {
    escape(after).is_some()
}

/// Does what follows a `%` make it `%uXXXX`, which some servers decode?
pub(super) fn is_unicode_escape(mut after: impl Iterator<Item = u8>) -> bool {
    matches!(after.next(), Some(b'u' | b'U'))
        && (0..4).all(|_| after.next().is_some_and(|byte| byte.is_ascii_hexdigit()))
}

/// The character that begins with the byte `first`, of which `bytes` are the rest.
#[inline(always)]
pub(super) fn char_of(first: u8, bytes: &mut (impl Iterator<Item = u8> + Clone)) -> Result<char, NotUtf8> {
    if first.is_ascii() { Ok(char::from(first)) } else { long_char(first, bytes) }
}

/// Bytes that are not UTF-8, and what a careless decoder makes of them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotUtf8(pub(super) char);

impl NotUtf8 {
    const UNKNOWN: Self = Self(char::REPLACEMENT_CHARACTER);
}

fn long_char(first: u8, bytes: &mut (impl Iterator<Item = u8> + Clone)) -> Result<char, NotUtf8> {
    let (more, bits, smallest) = match first {
        0xc0..=0xdf => (1, first & 0x1f, 0x80),
        0xe0..=0xef => (2, first & 0x0f, 0x800),
        0xf0..=0xf4 => (3, first & 0x07, 0x1_0000),
        _ => return Err(NotUtf8::UNKNOWN),
    };
    let mut ahead = bytes.clone();
    if matches!(first, 0xc0 | 0xc1)
        && let Some(second) = ahead.next()
    {
        // Never UTF-8, and a character of ASCII to who looks at no bit too many.
        *bytes = ahead;
        return Err(NotUtf8(char::from((first & 1) << 6 | second & 0x3f)));
    }
    let mut code = u32::from(bits);
    for _ in 0..more {
        match ahead.next() {
            Some(byte @ 0x80..=0xbf) => code = code << 6 | u32::from(byte & 0x3f),
            _ => return Err(NotUtf8::UNKNOWN),
        }
    }
    let found = char::from_u32(code).ok_or(NotUtf8::UNKNOWN)?;
    *bytes = ahead;
    // Longer than it need be: RFC 3629 §3 forbids it, and still it is `/` or `.` to some.
    if code < smallest { Err(NotUtf8(found)) } else { Ok(found) }
}

/// Are they all UTF-8?
pub(super) fn is_utf8(mut bytes: impl Iterator<Item = u8> + Clone) -> bool {
    while let Some(byte) = bytes.next() {
        if char_of(byte, &mut bytes).is_err() {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unescaped(text: &str) -> Vec<u8> {
        Unescaped(text.bytes()).collect()
    }

    #[test]
    fn one_layer_is_taken_off() {
        for (text, expected) in
            [("a%2Fb", "a/b"), ("%252f", "%2f"), ("%", "%"), ("%4", "%4"), ("%zz%41", "%zzA"), ("%%41", "%A")]
        {
            assert_eq!(unescaped(text), expected.as_bytes(), "{text}");
        }
    }

    #[test]
    fn unicode_escapes_are_known() {
        for (after, expected) in
            [("u002f", true), ("U002F", true), ("u002", false), ("x002f", false), ("", false)]
        {
            assert_eq!(is_unicode_escape(after.bytes()), expected, "{after}");
        }
    }

    proptest! {
        #[test]
        fn unescaping_is_that_of_the_library(text in "[%0-9a-fA-F/x]{0,24}") {
            let expected: Vec<u8> = percent_encoding::percent_decode_str(&text).collect();
            prop_assert_eq!(unescaped(&text), expected);
        }

        #[test]
        fn utf8_is_that_of_the_library(
            bytes in prop_oneof![any::<Vec<u8>>(), ".{0,8}".prop_map(String::into_bytes),
                prop::collection::vec(prop::sample::select(vec![0x2f, 0x80, 0xa0, 0xbf, 0xc0, 0xc2, 0xe0, 0xed, 0xf0, 0xf4, 0xf5]), 0..6)]
        ) {
            prop_assert_eq!(is_utf8(bytes.iter().copied()), std::str::from_utf8(&bytes).is_ok());
            if let Ok(text) = std::str::from_utf8(&bytes) {
                let mut rest = bytes.iter().copied();
                let next = || rest.next().map(|first| char_of(first, &mut rest).unwrap());
                let read: String = std::iter::from_fn(next).collect();
                prop_assert_eq!(read, text);
            }
        }
    }
}
