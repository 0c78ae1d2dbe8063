//! Points in time as tokens write them.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::auth::time::UnixTime;

/// A `NumericDate` (RFC 7519 §2) as it was written: seconds since 1970-01-01T00:00:00Z, digits with or without a fraction. A sign, an
/// exponent and more than 64 bits of seconds are refused.
///
/// It is read as text and never as a floating-point number, which would lose a small fraction and hide an exponent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NumericDate {
    seconds: u64,
    fraction: Fraction,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fraction {
    /// Not written.
    Absent,
    /// Written, and nothing but zeros.
    Zero,
    /// More than nothing.
    Some,
}

impl NumericDate {
    /// From the text of a JSON value.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let (whole, fraction) = match text.split_once('.') {
            None => (text, Fraction::Absent),
            Some((_, digits)) if !is_number(digits) => return None,
            Some((whole, digits)) if digits.bytes().all(|digit| digit == b'0') => (whole, Fraction::Zero),
            Some((whole, _)) => (whole, Fraction::Some),
        };
        let seconds = is_number(whole).then(|| whole.parse().ok()).flatten()?;
        Some(Self { seconds, fraction })
    }

    /// As our own tokens write it: without a fraction.
    pub(super) const fn is_whole(self) -> bool {
        matches!(self.fraction, Fraction::Absent)
    }

    /// The second that it lies in: nothing holds longer for it.
    pub(super) const fn rounded_down(self) -> UnixTime {
        UnixTime(self.seconds)
    }

    /// The first second that does not lie before it: nothing holds earlier for it.
    pub(super) const fn rounded_up(self) -> UnixTime {
        match self.fraction {
            Fraction::Some => UnixTime(self.seconds).plus(1),
            Fraction::Absent | Fraction::Zero => UnixTime(self.seconds),
        }
    }
}

impl<'de> Deserialize<'de> for NumericDate {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(source)?;
        Self::parse(raw.get()).ok_or_else(|| D::Error::custom("not a NumericDate"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(json: &str) -> Option<(u64, u64, bool)> {
        let date: NumericDate = serde_json::from_str(json).ok()?;
        Some((date.rounded_down().0, date.rounded_up().0, date.is_whole()))
    }

    #[test]
    fn a_numeric_date_is_digits_with_or_without_a_fraction() {
        for (json, expected) in [
            ("0", Some((0, 0, true))),
            ("1700000000", Some((1_700_000_000, 1_700_000_000, true))),
            ("18446744073709551615", Some((u64::MAX, u64::MAX, true))),
            ("1.0", Some((1, 1, false))),
            ("1.000000000000000000000000000", Some((1, 1, false))),
            ("1.5", Some((1, 2, false))),
            ("0.9", Some((0, 1, false))),
            ("1700000000.123456", Some((1_700_000_000, 1_700_000_001, false))),
            // Less than a floating-point number can tell from 1.
            ("1.0000000000000001", Some((1, 2, false))),
            ("0.99999999999999999999", Some((0, 1, false))),
            ("9007199254740993.5", Some((9_007_199_254_740_993, 9_007_199_254_740_994, false))),
            ("18446744073709551615.5", Some((u64::MAX, u64::MAX, false))),
            ("18446744073709551616", None),
            ("99999999999999999999.5", None),
            ("1e3", None),
            ("1E3", None),
            ("1.5e3", None),
            ("1e-3", None),
            ("1e400", None),
            ("-1", None),
            ("-0", None),
            ("-0.5", None),
            ("+1", None),
            ("1.", None),
            (".5", None),
            (".", None),
            ("1.5.5", None),
            ("01", None),
            ("00.5", None),
            ("1_000", None),
            ("0x10", None),
            ("1,5", None),
            ("NaN", None),
            ("Infinity", None),
            ("\"1.5\"", None),
            ("\"1\"", None),
            ("null", None),
            ("true", None),
            ("[1]", None),
            ("{}", None),
            ("", None),
        ] {
            assert_eq!(read(json), expected, "{json}");
        }
    }

    proptest! {
        #[test]
        fn rounding_never_lengthens_a_life(seconds in 0..u64::MAX, digits in "[0-9]{1,30}") {
            let date = NumericDate::parse(&format!("{seconds}.{digits}")).unwrap();
            prop_assert_eq!(date.rounded_down().0, seconds);
            let is_between = digits.bytes().any(|digit| digit != b'0');
            prop_assert_eq!(date.rounded_up().0, seconds + u64::from(is_between));
        }
    }
}
