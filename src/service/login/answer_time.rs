//! When a login that failed is answered: at a time that does not depend on what its hash cost.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The time from the beginning of a check to the answer that it failed.
///
/// At least [`LEAST`], which is more than the dearest hash that an import accepts, and longer where hashes are dearer than that or
/// where threads that hash get less than a core: by as much for all.
#[derive(Debug)]
pub(super) struct AnswerTime {
    /// What the dearest hash has taken of a core, in microseconds.
    dearest: AtomicU64,
    /// How many times as long as on a core of its own a hash takes of late, in thousandths.
    stretch: AtomicU64,
}

impl AnswerTime {
    /// Before anything was hashed.
    pub(super) const fn new() -> Self {
        Self { dearest: AtomicU64::new(0), stretch: AtomicU64::new(1000) }
    }

    /// So many passwords were checked, which took so long by the clock and of a core.
    pub(super) fn observe(&self, wall: Duration, core: Duration, passwords: u32) {
        let (wall, core) = (micros(wall), micros(core).max(1));
        self.dearest.fetch_max(core / u64::from(passwords.max(1)), Ordering::Relaxed);
        let now = (wall.saturating_mul(1000) / core).clamp(1000, MOST_STRETCH);
        let before = self.stretch.load(Ordering::Relaxed);
        // Sooner what is longer than what is shorter: the answers in between wait for a little too long.
        let next = if now > before { before + (now - before) / 4 } else { before - (before - now) / 16 };
        self.stretch.store(next, Ordering::Relaxed);
    }

    /// The time for so many passwords.
    pub(super) fn of(&self, passwords: u32) -> Duration {
        let dearest = self.dearest.load(Ordering::Relaxed);
        let each = micros(LEAST).max(dearest + dearest / 4) * self.stretch.load(Ordering::Relaxed) / 1000;
        Duration::from_micros(each.saturating_mul(u64::from(passwords))).min(MOST)
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Imports accept hashes of 250 ms; a fifth more, and nobody notices.
const LEAST: Duration = Duration::from_millis(300);
/// Shorter than a client waits.
const MOST: Duration = Duration::from_secs(5);
/// In thousandths.
const MOST_STRETCH: u64 = 16_000;

#[cfg(test)]
mod tests {
    use super::*;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn the_time_is_the_same_whatever_a_hash_costs_and_grows_where_cores_are_busy() {
        let time = AnswerTime::new();
        for cost in [1, 25, 200] {
            time.observe(millis(cost), millis(cost), 1);
            assert_eq!((time.of(1), time.of(3)), (millis(300), millis(900)), "{cost}");
        }
        (0..50).for_each(|_| time.observe(millis(100), millis(25), 1));
        assert!((millis(1190)..=millis(1200)).contains(&time.of(1)), "{:?}", time.of(1));
        assert_eq!(time.of(5), MOST);
        (0..200).for_each(|_| time.observe(millis(25), millis(25), 1));
        assert!(time.of(1) < millis(305), "{:?}", time.of(1));
        time.observe(millis(1600), millis(1600), 2);
        (0..200).for_each(|_| time.observe(millis(25), millis(25), 1));
        assert!((millis(1000)..millis(1020)).contains(&time.of(1)), "a dearer hash than imports accept");
    }
}
