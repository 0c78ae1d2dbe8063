//! How salts and digests are written in password hashes.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

/// Base64 with padding.
pub(super) fn base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// passlib's "adapted" base64: without padding, and with `.` for `+`.
pub(super) fn adapted_base64(text: &str) -> Option<Vec<u8>> {
    if text.contains('+') {
        return None;
    }
    STANDARD_NO_PAD.decode(text.replace('.', "+")).ok()
}

/// Pairs of hexadecimal digits.
pub(super) fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| if let [high, low] = *pair { Some(digit(high)? << 4 | digit(low)?) } else { None })
        .collect()
}

/// A decimal number as every implementation writes it: without a sign or leading zeros.
pub(super) fn decimal(text: &str) -> Option<u32> {
    let is_canonical = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    if is_canonical { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_encoding_reads_its_own_and_nothing_else() {
        assert_eq!(hexadecimal("00fFa0"), Some(vec![0, 255, 160]));
        assert_eq!(adapted_base64("//777zE.MzQ"), STANDARD_NO_PAD.decode("//777zE+MzQ").ok());
        assert_eq!(base64("YWI="), Some(b"ab".to_vec()));
        for text in ["0", "0g", "+1", "é"] {
            assert_eq!(hexadecimal(text), None, "{text}");
        }
        assert_eq!(adapted_base64("//777zE+MzQ"), None);
        assert_eq!(adapted_base64("YWI="), None);
        assert_eq!(base64("YWI"), None);
        for (text, number) in
            [("1000", Some(1000)), ("", None), ("+1", None), ("01", None), ("4294967296", None)]
        {
            assert_eq!(decimal(text), number, "{text}");
        }
    }
}
