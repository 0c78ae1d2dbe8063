//! Whether an address of a server is in use. It is left out after failures in a row, probed after a back-off, and comes back when
//! one request that tries it succeeds.
//!
//! All workers look at it for each request and write to it only when something fails or changes, so that its cache line stays on
//! every core. It knows no clock: a caller that waits asks how long.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// The state of one address.
#[derive(Debug, Default)]
pub(super) struct Health {
    phase: AtomicU8,
    /// Failures in a row.
    failures: AtomicU32,
    /// Back-offs since it was in use.
    rounds: AtomicU32,
    /// When a request last began to try it, in seconds.
    trial_began: AtomicU64,
}

impl Health {
    /// Do requests go there?
    pub(super) fn is_in_use(&self) -> bool {
        self.phase.load(Ordering::Relaxed) == IN_USE
    }

    /// Does it wait for its back-off or for a probe?
    pub(super) fn is_out(&self) -> bool {
        self.phase.load(Ordering::Relaxed) == OUT
    }

    /// One more failure; how many there are in a row.
    pub(super) fn fail(&self) -> u32 {
        // It wraps after four billion, and one of them ejected it.
        self.failures.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
    }

    /// Success: the next failure is the first in a row. Writes only if there was one.
    pub(super) fn succeed(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// Leaves it out; whether it was in use until now.
    pub(super) fn eject(&self) -> bool {
        self.changes(IN_USE, OUT)
    }

    /// Takes it into use again.
    pub(super) fn readmit(&self) {
        self.failures.store(0, Ordering::Relaxed);
        self.rounds.store(0, Ordering::Relaxed);
        self.phase.store(IN_USE, Ordering::Relaxed);
    }

    /// It may be back: one request is to find out.
    pub(super) fn offer_trial(&self) {
        self.changes(OUT, OFFERED);
    }

    /// Whether the caller's request is the one that finds out. It must say how it ended, and if it has not for too long (a slow upload, a
    /// report), another one finds out beside it. `now` is any clock that only goes forward.
    pub(super) fn takes_trial(&self, now: impl FnOnce() -> Duration) -> bool {
        let phase = self.phase.load(Ordering::Acquire);
        if phase != OFFERED && phase != TRIAL {
            return false;
        }
        let (now, began) = (now().as_secs(), self.trial_began.load(Ordering::Relaxed));
        let is_free = phase == OFFERED || now.saturating_sub(began) >= TRIAL_ALONE.as_secs();
        // Of many at once, one changes the time, and then the phase.
        is_free
            && self.trial_began.compare_exchange(began, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
            && (phase == TRIAL || self.changes(OFFERED, TRIAL))
    }

    /// That request failed too, or nobody waited for its answer; whether that leaves the address out.
    pub(super) fn trial_failed(&self) -> bool {
        self.changes(TRIAL, OUT)
    }

    /// That request ended and says nothing of the address: the next one finds out.
    pub(super) fn trial_returned(&self) {
        self.changes(TRIAL, OFFERED);
    }

    /// How long to wait before the next probe: longer each time. `random`, from 0 to 1, keeps many gateways from probing at once.
    pub(super) fn back_off(&self, random: f64) -> Duration {
        let round = self.rounds.fetch_add(1, Ordering::Relaxed);
        let span = SHORTEST.saturating_mul(1 << round.min(16)).min(LONGEST);
        span.mul_f64(1.0 - JITTER * random.clamp(0.0, 1.0)).max(SHORTEST)
    }

    fn changes(&self, from: u8, to: u8) -> bool {
        self.phase.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

const IN_USE: u8 = 0;
const OUT: u8 = 1;
const OFFERED: u8 = 2;
const TRIAL: u8 = 3;

const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
/// For so long one request alone finds out.
const TRIAL_ALONE: Duration = Duration::from_secs(10);
/// A back-off is shorter by up to this part of itself.
const JITTER: f64 = 0.3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_count_in_a_row() {
        let health = Health::default();
        assert_eq!((health.fail(), health.fail()), (1, 2));
        health.succeed();
        assert_eq!((health.fail(), health.fail()), (1, 2));
    }

    #[test]
    fn one_request_tries_an_address_that_may_be_back() {
        let health = Health::default();
        let takes = || health.takes_trial(|| Duration::ZERO);
        assert!(!takes() && health.is_in_use());
        assert!(health.eject() && !health.eject());
        assert!(health.is_out() && !health.is_in_use() && !takes());
        health.offer_trial();
        assert!(!health.is_in_use() && takes() && !takes());
        // It says nothing of the address: another one tries.
        health.trial_returned();
        assert!(takes());
        assert!(health.trial_failed() && !health.trial_failed());
        assert!(health.is_out() && !takes());
        health.offer_trial();
        assert!(takes());
        health.readmit();
        assert!(health.is_in_use());
        // A verdict that comes late changes nothing.
        assert!(!health.trial_failed());
        health.trial_returned();
        health.offer_trial();
        assert!(health.is_in_use() && !takes());
    }

    #[test]
    fn another_request_tries_an_address_beside_one_that_takes_long() {
        let health = Health::default();
        let takes_at = |seconds: u64| health.takes_trial(|| Duration::from_secs(seconds));
        assert!(health.eject());
        health.offer_trial();
        let taken = (100..=120).filter(|second| takes_at(*second)).collect::<Vec<_>>();
        assert_eq!(taken, [100, 110, 120]);
        // The verdict of any of them holds, and the next trial has its whole time again.
        assert!(health.trial_failed() && !takes_at(1_000));
        health.offer_trial();
        assert!(takes_at(1_000) && !takes_at(1_009));
        health.readmit();
        assert!(!takes_at(2_000) && !health.trial_failed() && health.is_in_use());
    }

    #[test]
    fn back_offs_grow_from_one_second_to_thirty_and_begin_again() {
        let health = Health::default();
        let seconds = |random: f64| health.back_off(random).as_secs_f64();
        let longest: Vec<f64> = (0..8).map(|_| seconds(0.0)).collect();
        assert_eq!(longest, [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]);
        assert_eq!((seconds(1.0), seconds(2.0), seconds(0.5)), (21.0, 21.0, 25.5));
        health.readmit();
        assert_eq!((seconds(1.0), seconds(1.0)), (1.0, 1.4));
    }
}
