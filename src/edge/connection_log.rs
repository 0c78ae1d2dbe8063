//! What becomes known of connections that are not served: a counter for each, a line for some.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::metrics::{ConnectionEnd, Metrics};

/// Counts connections that are not served, and logs them by reason: the first at once, then at most a line in ten seconds.
pub(super) struct ConnectionLog {
    metrics: Arc<Metrics>,
    started: Instant,
    reasons: [Logged; ConnectionEnd::ALL.len()],
}

#[derive(Default)]
struct Logged {
    /// When a line may be written next, in milliseconds.
    next: AtomicU64,
    count: AtomicU64,
}

impl ConnectionLog {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, started: Instant::now(), reasons: Default::default() }
    }

    /// One more; `client` is its address, where it has one.
    pub(super) fn count(&self, reason: ConnectionEnd, client: Option<SocketAddr>) {
        self.metrics.connection_ended(reason);
        let Some(logged) = self.reasons.get(reason as usize) else {
            return;
        };
        logged.count.fetch_add(1, Ordering::Relaxed);
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let next = logged.next.load(Ordering::Relaxed);
        let is_due = now >= next
            && logged
                .next
                .compare_exchange(next, now + INTERVAL, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if is_due {
            let connections = logged.count.swap(0, Ordering::Relaxed);
            let client = client.map(|client| client.ip().to_string()).unwrap_or_default();
            log::warn!(reason = reason.as_str(), connections, last_client = client; "connections refused or ended");
        }
    }
}

/// Between two lines of one reason, in milliseconds.
const INTERVAL: u64 = 10_000;
