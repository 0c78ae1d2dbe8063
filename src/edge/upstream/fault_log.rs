//! What is logged of tries that fail.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::names::Address;
use crate::metrics::TryFault;

/// Logs what fails at one server, by kind: the first at once, then at most a line in ten seconds.
#[derive(Default)]
pub(super) struct FaultLog([Logged; TryFault::ALL.len()]);

#[derive(Default)]
struct Logged {
    /// When a line may be written next, in milliseconds.
    next: AtomicU64,
    count: AtomicU64,
}

impl FaultLog {
    /// One more. `uptime` is any clock that only goes forward.
    pub(super) fn count(&self, server: &str, address: Option<&Address>, fault: TryFault, uptime: Duration) {
        let Self(kinds) = self;
        let Some(Logged { next, count }) = kinds.get(fault as usize) else {
            return;
        };
        count.fetch_add(1, Ordering::Relaxed);
        let now = u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX);
        let due = next.load(Ordering::Relaxed);
        if now < due
            || next.compare_exchange(due, now + INTERVAL, Ordering::Relaxed, Ordering::Relaxed).is_err()
        {
            return;
        }
        let failures = count.swap(0, Ordering::Relaxed);
        let address = address.map(ToString::to_string);
        let (fault, cause) = (fault.as_str(), fault.sentence());
        log::warn!(server, address, fault, cause, failures; "platform server failed");
    }
}

/// Between two lines of one kind about one server, in milliseconds.
const INTERVAL: u64 = 10_000;
