//! Seconds since the Unix epoch, always an argument: nothing in this layer reads a clock.

use std::fmt;

use chrono::{DateTime, NaiveDate, NaiveTime};
use serde::Serialize;

/// Whole seconds since 1970-01-01T00:00:00Z. What a token writes, which may have a fraction (RFC 7519 §2), is rounded to one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct UnixTime(pub u64);

impl UnixTime {
    /// This moment moved `seconds` later; stops at the end of the range instead of wrapping.
    pub const fn plus(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds))
    }

    /// This moment moved `seconds` earlier; stops at the epoch instead of wrapping.
    pub const fn minus(self, seconds: u64) -> Self {
        Self(self.0.saturating_sub(seconds))
    }

    /// A date (its first second, UTC), or a time with its zone as RFC 3339 writes it. A part of a second is left out.
    pub fn parse(text: &str) -> Option<Self> {
        let seconds = match NaiveDate::parse_from_str(text, "%Y-%m-%d") {
            Ok(date) if text.len() == "2026-12-20".len() => {
                date.and_time(NaiveTime::MIN).and_utc().timestamp()
            }
            _ => DateTime::parse_from_rfc3339(text).ok()?.timestamp(),
        };
        u64::try_from(seconds).ok().map(Self)
    }

    /// As RFC 3339 writes it, in UTC.
    pub fn to_rfc3339(self) -> String {
        self.to_string().replacen(' ', "T", 1) + "Z"
    }
}

/// Seconds that gateways have run on a store, counted from its creation, the machine's suspensions included.
///
/// It never goes back and never jumps, whatever the wall clock does: what may be deleted is decided by it alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lived(pub u64);

impl Lived {
    /// So many seconds earlier; stops at the beginning instead of wrapping.
    pub const fn minus(self, seconds: u64) -> Self {
        Self(self.0.saturating_sub(seconds))
    }
}

/// `YYYY-MM-DD HH:MM:SS` in UTC, the form of `expire_time` in the published API.
impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reading = i64::try_from(self.0).ok().and_then(|seconds| DateTime::from_timestamp(seconds, 0));
        match reading {
            Some(reading) => write!(f, "{}", reading.format("%Y-%m-%d %H:%M:%S")),
            None => f.write_str("9999-12-31 23:59:59"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_as_the_published_api_writes_it() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00"),
            (1_580_216_224, "2020-01-28 12:57:04"),
            (4_102_444_800, "2100-01-01 00:00:00"),
            (u64::MAX, "9999-12-31 23:59:59"),
        ] {
            assert_eq!(UnixTime(seconds).to_string(), text);
        }
    }

    #[test]
    fn a_moment_is_written_as_rfc_3339_has_it() {
        assert_eq!(UnixTime(1_580_216_224).to_rfc3339(), "2020-01-28T12:57:04Z");
    }

    #[test]
    fn arithmetic_stops_at_both_ends_of_the_range() {
        assert_eq!(UnixTime(3).minus(5), UnixTime(0));
        assert_eq!(UnixTime(u64::MAX).plus(1), UnixTime(u64::MAX));
    }
}
