//! What the clocks say, as an argument.

use core::time::Duration;

use crate::auth::time::UnixTime;

/// The two clocks of one reading: what the world calls now, and how long this process has run.
#[derive(Clone, Copy, Debug)]
pub struct ClockReading {
    /// Compared with `exp`, `iat` and `nbf`.
    pub now: UnixTime,
    /// Monotonic; compared with the last successful read of the store.
    pub uptime: Duration,
}
