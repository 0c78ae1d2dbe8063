//! When a connection that could not be made is tried again: later each time, and not at the same moment as all other gateways.

use std::time::{Duration, Instant};

use super::session::Session;
use crate::store::error::StoreError;

/// What came of the last attempts.
#[derive(Debug, Default)]
pub(super) struct Reconnect {
    failures: u32,
    /// Why the last one failed, and until when there is no other.
    refused: Option<(StoreError, Instant)>,
}

impl Reconnect {
    /// Makes a connection, or says why the last attempt failed if it is too early for another one.
    pub(super) fn attempt(
        &mut self,
        open: impl FnOnce() -> Result<Session, StoreError>,
    ) -> Result<Session, StoreError> {
        if let Some((error, until)) = &self.refused
            && Instant::now() < *until
        {
            return Err(error.clone());
        }
        open().inspect_err(|error| self.failed(error))
    }

    /// The connection did what it is for.
    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// It was not made, or was of no use.
    pub(super) fn failed(&mut self, error: &StoreError) {
        let pause = pause(self.failures, fastrand::f64());
        self.failures = self.failures.saturating_add(1);
        self.refused = Some((error.clone(), Instant::now() + pause));
    }
}

/// After so many failures before: twice as long each time, of which a `share` from 0 to 1 takes at most three quarters away.
fn pause(failures: u32, share: f64) -> Duration {
    let longest = FIRST.saturating_mul(1 << failures.min(8)).min(LONGEST);
    longest.mul_f64(0.25 + 0.75 * share)
}

const FIRST: Duration = Duration::from_millis(100);

const LONGEST: Duration = Duration::from_secs(4);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_are_spread() {
        let bounds = |failures| (pause(failures, 0.0).as_millis(), pause(failures, 1.0).as_millis());
        assert_eq!(bounds(0), (25, 100));
        assert_eq!(bounds(3), (200, 800));
        assert_eq!(bounds(6), (1000, 4000));
        assert_eq!(bounds(u32::MAX), (1000, 4000));
    }
}
