//! `routes.mode = "observe"`: which routes are not enforced yet, and until when.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use toml::Value;

use super::origin::Origin;
use super::source::{ConfigError, Section};
use crate::auth::policy::EnforcedPath;
use crate::auth::time::UnixTime;

/// What is asked for with `routes.mode = "observe"`.
#[derive(Clone)]
pub struct Observe {
    /// When it ends.
    pub until: UnixTime,
    /// Routes that are enforced already.
    pub enforced: Vec<EnforcedPath>,
    origin: Option<Origin>,
}

/// Without the place where it was said, which is no part of what was said: two texts that say the same are one configuration.
impl fmt::Debug for Observe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { until, enforced, origin: _ } = self;
        f.debug_struct("Observe").field("until", until).field("enforced", enforced).finish_non_exhaustive()
    }
}

/// How the time of [`Observe::until`] lies to a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Period {
    /// Ahead, by no more than is allowed.
    Current,
    /// It has come.
    Over(ConfigError),
    /// Too far ahead.
    TooLong(ConfigError),
}

impl Observe {
    /// May anything be observed from `now` on?
    pub fn period(&self, now: UnixTime) -> Period {
        let until = self.until;
        let error = |text| {
            let key = "routes.observe_until";
            ConfigError { origin: self.origin.clone(), ..ConfigError::new(key, text) }
        };
        if until <= now {
            return Period::Over(error(format!(
                "{until} UTC has passed (it is {now} UTC), and every route is enforced: remove routes.mode, or choose a time at most 30 days ahead"
            )));
        }
        if until > now.plus(LONGEST) {
            return Period::TooLong(error(format!(
                "{until} UTC is more than 30 days ahead (it is {now} UTC): choose an earlier time"
            )));
        }
        Period::Current
    }
}

/// `mode`, `observe_until` and `enforce` of `[routes]`.
pub(super) fn read_observe(section: &mut Section<'_>) -> Option<Observe> {
    let mode: Option<Mode> = section.optional("mode", "write \"enforce\" or \"observe\"");
    let hint = "write a date such as \"2026-12-20\", which begins at midnight UTC, or a time with its zone such as \"2026-12-20T18:00:00Z\"";
    let until: Option<Moment> = section.optional("observe_until", hint);
    let patterns: Option<Vec<String>> =
        section.optional("enforce", "write a list of \"/path\" or \"/folder/*\"");
    if mode.is_none() && !section.has_error("mode") {
        let given = [("observe_until", until.is_some()), ("enforce", patterns.is_some())];
        for (key, _) in given.iter().filter(|(_, is_given)| *is_given) {
            section.error(key, "has no effect without routes.mode: write mode = \"observe\"");
        }
    }
    let mut enforced = Vec::new();
    for pattern in patterns.unwrap_or_default() {
        match EnforcedPath::new(&pattern) {
            Some(path) => enforced.push(path),
            None => {
                section.error("enforce", format!("{pattern:?} is not a canonical path or \"/folder/*\""));
            }
        }
    }
    if mode != Some(Mode::Observe) {
        return None;
    }
    let Some(Moment(until)) = until else {
        section.missing(
            "observe_until",
            "is required with mode = \"observe\": when it ends, at most 30 days ahead, for example \"2026-12-20\"",
        );
        return None;
    };
    Some(Observe { until, enforced, origin: section.origin("observe_until") })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Enforce,
    Observe,
}

/// A date, or a time with its zone, as text or as TOML has it.
struct Moment(UnixTime);

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        let text = match Value::deserialize(source)? {
            Value::String(text) => text,
            Value::Datetime(moment) => moment.to_string(),
            _ => return Err(D::Error::custom("not a time")),
        };
        UnixTime::parse(&text).map(Self).ok_or_else(|| D::Error::custom("not a time"))
    }
}

/// The longest that may be observed after a start, in seconds.
const LONGEST: u64 = 30 * 24 * 3600;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_date_or_has_a_zone() {
        let midnight = UnixTime(1_797_724_800);
        for (text, expected) in [
            ("2026-12-20", Some(midnight)),
            ("2026-12-20T00:00:00Z", Some(midnight)),
            ("2026-12-20T18:30:00.9+18:30", Some(midnight)),
            ("2026-12-20 00:00:00Z", Some(midnight)),
            ("2026-12-20T00:00:00", None),
            ("2026-12-2", None),
            ("20.12.2026", None),
            ("2026-13-20", None),
            ("1969-12-31", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(UnixTime::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn a_period_is_ahead_and_at_most_thirty_days_long() {
        let until = UnixTime(1_797_724_800);
        let observe = Observe { until, enforced: Vec::new(), origin: None };
        assert_eq!(observe.period(until.minus(1)), Period::Current);
        assert_eq!(observe.period(until.minus(LONGEST)), Period::Current);
        for now in [until, until.plus(1)] {
            let Period::Over(error) = observe.period(now) else { panic!("{now}") };
            assert!(
                error.to_string().starts_with("routes.observe_until: 2026-12-20 00:00:00 UTC has passed"),
                "{error}"
            );
        }
        let Period::TooLong(error) = observe.period(until.minus(LONGEST + 1)) else { panic!() };
        assert!(
            error.to_string().contains("more than 30 days ahead (it is 2026-11-19 23:59:59 UTC)"),
            "{error}"
        );
    }
}
