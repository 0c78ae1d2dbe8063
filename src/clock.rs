//! The one place that reads the real clocks, and the rule for what they mean.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crate::auth::gate::Moment;
use crate::auth::time::UnixTime;

/// Hands out [`Moment`]s; its clones agree on when the process began and on what the store knows.
///
/// The wall clock may be stepped. A step back must revive nothing, and must not refuse what is minted next: so
/// now is never before the latest time that the store knows of, nor before what this process has lived
/// through. A step forward is believed while it lasts, and leaves nothing behind.
#[derive(Clone, Debug)]
pub struct Clock {
    source: Source,
    /// The latest time known when the clock began, in seconds since 1970.
    high_water: Arc<AtomicU64>,
}

/// Where a clock reads.
#[derive(Clone, Debug)]
enum Source {
    /// The system's clocks; the monotonic one counts from there.
    System(Instant),
    #[cfg(test)]
    Manual(Arc<Manual>),
}

/// Clocks that a test moves, in seconds.
#[cfg(test)]
#[derive(Debug, Default)]
pub(crate) struct Manual {
    pub(crate) wall: AtomicU64,
    pub(crate) uptime: AtomicU64,
}

impl Clock {
    /// A clock whose uptime begins now.
    pub fn start() -> Self {
        Self::of(Source::System(Instant::now()))
    }

    /// A clock that a test moves.
    #[cfg(test)]
    pub(crate) fn manual(manual: &Arc<Manual>) -> Self {
        Self::of(Source::Manual(Arc::clone(manual)))
    }

    fn of(source: Source) -> Self {
        let clock = Self { source, high_water: Arc::default() };
        clock.observe(clock.wall());
        clock
    }

    /// Takes in the latest time that the store knows of.
    pub fn observe(&self, persisted: UnixTime) {
        self.high_water.fetch_max(persisted.minus(self.uptime().as_secs()).0, Ordering::Relaxed);
    }

    /// Both clocks, now.
    pub fn moment(&self) -> Moment {
        self.moment_after(self.uptime())
    }

    /// Both clocks, where the monotonic one has just been read.
    pub fn moment_at(&self, instant: Instant) -> Moment {
        match &self.source {
            Source::System(began) => self.moment_after(instant.saturating_duration_since(*began)),
            #[cfg(test)]
            Source::Manual(_) => self.moment(),
        }
    }

    fn moment_after(&self, uptime: Duration) -> Moment {
        Moment { now: now(self.wall(), self.high_water(), uptime), uptime }
    }

    /// The time to stamp a change with.
    pub fn now(&self) -> UnixTime {
        self.moment().now
    }

    /// Is the wall clock more than a minute ahead of what this process has lived through? Then it was stepped, and
    /// nothing is deleted on its word.
    pub fn has_jumped(&self) -> bool {
        self.wall() > self.high_water().plus(self.uptime().as_secs() + 60)
    }

    /// How long the process has run.
    pub fn uptime(&self) -> Duration {
        match &self.source {
            Source::System(began) => began.elapsed(),
            #[cfg(test)]
            Source::Manual(manual) => Duration::from_secs(manual.uptime.load(Ordering::Relaxed)),
        }
    }

    fn wall(&self) -> UnixTime {
        match &self.source {
            Source::System(_) => wall(),
            #[cfg(test)]
            Source::Manual(manual) => UnixTime(manual.wall.load(Ordering::Relaxed)),
        }
    }

    fn high_water(&self) -> UnixTime {
        UnixTime(self.high_water.load(Ordering::Relaxed))
    }
}

/// The rule: the wall clock, but never before the high water, which moves as fast as time and no faster. Two
/// seconds are left to a clock that is being slewed.
fn now(wall: UnixTime, high_water: UnixTime, uptime: Duration) -> UnixTime {
    wall.max(high_water.plus(uptime.as_secs()).minus(2))
}

/// The wall clock. Before 1970 it is 1970: everything is then in the future, and refused.
pub fn wall() -> UnixTime {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    UnixTime(since_epoch.map_or(0, |elapsed| elapsed.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_back_revives_nothing_and_a_step_forward_leaves_nothing_behind() {
        // The process began at 10,000 by its clock; the store knew of 10,000.
        for (what, uptime, wall, expected) in [
            ("an ordinary start", 0, 10_000, 10_000),
            ("an ordinary day", 500, 10_500, 10_500),
            ("a clock that is slewed", 500, 10_499, 10_499),
            ("a step back by an hour", 500, 6_900, 10_498),
            ("the same, later", 600, 7_000, 10_598),
            ("a step to 1970", 600, 0, 10_598),
            ("a step forward by a day", 500, 96_900, 96_900),
            ("the step forward undone", 600, 10_600, 10_600),
        ] {
            let now = now(UnixTime(wall), UnixTime(10_000), Duration::from_secs(uptime));
            assert_eq!(now, UnixTime(expected), "{what}");
        }
    }

    #[test]
    fn a_start_with_a_clock_behind_the_store_goes_on_from_the_store() {
        let clock = Clock::start();
        clock.observe(wall().plus(3600));
        let ahead = clock.moment().now.0 - wall().0;
        assert!((3597..=3600).contains(&ahead), "{ahead}");
    }
}
