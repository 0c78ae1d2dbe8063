//! The one place that reads the real clocks.

use std::time::{Duration, Instant, SystemTime};

use crate::auth::gate::Moment;
use crate::auth::time::UnixTime;

/// Hands out [`Moment`]s; its copies agree on when the process began.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    began: Instant,
}

impl Clock {
    /// A clock whose uptime begins now.
    pub fn start() -> Self {
        Self { began: Instant::now() }
    }

    /// Both clocks, now.
    pub fn moment(&self) -> Moment {
        Moment { now: wall(), uptime: self.uptime() }
    }

    /// How long the process has run.
    pub fn uptime(&self) -> Duration {
        self.began.elapsed()
    }
}

/// The wall clock. Before 1970 it is 1970: everything is then in the future, and refused.
pub fn wall() -> UnixTime {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    UnixTime(since_epoch.map_or(0, |elapsed| elapsed.as_secs()))
}
