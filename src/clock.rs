//! The one place that reads the real clocks, and the rule for what they mean.

use std::time::{Duration, Instant, SystemTime};

use crate::auth::gate::Moment;
use crate::auth::time::UnixTime;

/// Hands out [`Moment`]s; its copies agree on when the process began.
///
/// The wall clock may be stepped. A step back must revive nothing, and must not refuse what is minted next: so
/// now is never before the latest second that the store knows of, nor before what this process has lived
/// through. A step forward is believed while it lasts, and leaves nothing behind.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    began: Instant,
    /// The latest second known at the start.
    high_water: UnixTime,
}

impl Clock {
    /// A clock whose uptime begins now; `persisted` is the latest second that the store knows of.
    pub fn start(persisted: UnixTime) -> Self {
        Self { began: Instant::now(), high_water: persisted.max(wall()) }
    }

    /// Both clocks, now.
    pub fn moment(&self) -> Moment {
        self.moment_at(Instant::now())
    }

    /// Both clocks, where the monotonic one has just been read.
    pub fn moment_at(&self, instant: Instant) -> Moment {
        let uptime = instant.saturating_duration_since(self.began);
        Moment { now: now(wall(), self.high_water, uptime), uptime }
    }

    /// Is the wall clock more than a minute ahead of what this process has lived through? Then it was stepped, and
    /// nothing is forgotten on its word.
    pub fn has_jumped(&self) -> bool {
        wall() > self.high_water.plus(self.uptime().as_secs() + 60)
    }

    /// How long the process has run.
    pub fn uptime(&self) -> Duration {
        self.began.elapsed()
    }
}

/// The rule: the wall clock, but never before the high water, which moves as fast as time and no faster. Two
/// seconds are left to a clock that is being slewed.
pub(crate) fn now(wall: UnixTime, high_water: UnixTime, uptime: Duration) -> UnixTime {
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
        let clock = Clock::start(wall().plus(3600));
        let ahead = clock.moment().now.0 - wall().0;
        assert!((3597..=3600).contains(&ahead), "{ahead}");
    }
}
