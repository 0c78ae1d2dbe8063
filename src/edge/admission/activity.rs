//! Whether a connection is worth keeping: one that serves a request is, and one that is idle the less the longer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

/// What a connection is doing, as far as it matters to others.
#[derive(Debug)]
pub(in crate::edge) struct Activity {
    started: Instant,
    /// Requests that are forwarded or served.
    requests: AtomicU32,
    /// Since when there is none, in milliseconds from `started`.
    idle_since: AtomicU64,
    /// Nothing more is read from it: another connection has its place.
    was_ended: AtomicBool,
    /// It ends with a reset.
    is_aborted: AtomicBool,
}

impl Activity {
    pub(in crate::edge) fn new(started: Instant, now: Instant) -> Self {
        let idle_since = AtomicU64::new(millis(now.duration_since(started)));
        Self {
            started,
            requests: AtomicU32::new(0),
            idle_since,
            was_ended: AtomicBool::new(false),
            is_aborted: AtomicBool::new(false),
        }
    }

    /// A request is worth keeping its connection for, until the guard is dropped. One that is refused is not, however long its
    /// body takes.
    pub(in crate::edge) fn request(self: &Arc<Self>) -> ActiveRequest {
        self.requests.fetch_add(1, Ordering::Relaxed);
        ActiveRequest(Arc::clone(self))
    }

    pub(super) fn end(&self) {
        self.was_ended.store(true, Ordering::Relaxed);
    }

    /// It is to end with a reset.
    pub(in crate::edge) fn abort(&self) {
        self.is_aborted.store(true, Ordering::Relaxed);
    }

    pub(in crate::edge) fn is_aborted(&self) -> bool {
        self.is_aborted.load(Ordering::Relaxed)
    }

    /// Did the gateway end it, and not the client, just as a request came? That is answered all the same.
    pub(in crate::edge) fn was_ended_too_soon(&self) -> bool {
        self.was_ended.load(Ordering::Relaxed) && self.idle_since().is_none()
    }

    pub(in crate::edge) fn idle_since(&self) -> Option<u64> {
        let is_idle = self.requests.load(Ordering::Relaxed) == 0;
        is_idle.then(|| self.idle_since.load(Ordering::Relaxed))
    }
}

/// A request that a connection is kept for.
pub(in crate::edge) struct ActiveRequest(Arc<Activity>);

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        let Self(activity) = self;
        activity.idle_since.store(millis(activity.started.elapsed()), Ordering::Relaxed);
        activity.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

fn millis(elapsed: std::time::Duration) -> u64 {
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}
