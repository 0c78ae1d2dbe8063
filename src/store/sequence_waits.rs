//! Requests that wait until this gateway has applied a sequence of the store (`X-DS-At-Least`).
//!
//! The replica wakes them after each change that it applies, and looks for changes sooner where one waits. A request that does not wait
//! touches nothing of this.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::auth::gate::Gate;
use crate::metrics::SequenceWait;

/// Who waits, and how they are woken.
#[derive(Debug, Default)]
pub struct SequenceWaits {
    waiting: AtomicUsize,
    applied: Notify,
    /// The replica is to look before its time.
    wanted: Notify,
    /// The number of the look that began last, and of the last one that has applied everything.
    looks: Looks,
}

#[derive(Debug, Default)]
struct Looks {
    begun: AtomicU64,
    done: AtomicU64,
}

impl SequenceWaits {
    /// The replica has applied changes to the gate.
    pub fn note_applied(&self) {
        self.applied.notify_waiters();
    }

    /// The replica begins a look; what is committed by now will be found by it. To be given to [`look_done`](Self::look_done).
    pub fn look_begins(&self) -> u64 {
        self.looks.begun.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// That look has found everything, and it is applied.
    pub fn look_done(&self, look: u64) {
        self.looks.done.store(look, Ordering::SeqCst);
        self.applied.notify_waiters();
    }

    /// Waits until all that is committed now is applied; whether it was, in that time.
    pub async fn look(&self, limit: Duration) -> bool {
        // One that is under way may have read before.
        let wanted = self.looks.begun.load(Ordering::SeqCst) + 1;
        self.wanted.notify_one();
        let done = async {
            loop {
                let applied = self.applied.notified();
                if self.looks.done.load(Ordering::SeqCst) >= wanted {
                    return;
                }
                applied.await;
            }
        };
        timeout(limit, done).await.is_ok()
    }

    /// Rests between two looks of the replica: for `interval`, or until a request waits for what it may find.
    pub async fn rest(&self, interval: Duration) {
        let least = interval.min(LEAST_REST);
        sleep(least).await;
        // Neither end of it is an error.
        let _ = timeout(interval.saturating_sub(least), self.wanted.notified()).await;
    }

    /// Waits until `gate` has applied `sequence`: for 50 ms at most, and not at all beside 256 others.
    pub async fn wait(&self, gate: &Gate, sequence: u64) -> SequenceWait {
        let Some(_slot) = Slot::take(&self.waiting) else { return SequenceWait::TooMany };
        self.wanted.notify_one();
        match timeout(LONGEST_WAIT, self.reached(gate, sequence)).await {
            Ok(()) => SequenceWait::Applied,
            Err(_) => SequenceWait::Late,
        }
    }

    async fn reached(&self, gate: &Gate, sequence: u64) {
        loop {
            // Before the gate is asked: from here on no change is missed.
            let applied = self.applied.notified();
            if gate.sequence() >= sequence {
                return;
            }
            applied.await;
        }
    }
}

/// One of those that wait; given back when it is dropped, however the wait ends.
struct Slot<'w>(&'w AtomicUsize);

impl<'w> Slot<'w> {
    fn take(waiting: &'w AtomicUsize) -> Option<Self> {
        let before = waiting.fetch_add(1, Ordering::Relaxed);
        let slot = Self(waiting);
        (before < MOST_WAITING).then_some(slot)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A look costs the store a query: requests that wait cause no more than 100 of them a second.
const LEAST_REST: Duration = Duration::from_millis(10);

/// The longest that a request waits.
const LONGEST_WAIT: Duration = Duration::from_millis(50);

/// So many wait at once, which is 5,000 a second if none of them succeeds. Each holds a request and its connection, so users with a token
/// cannot hold many more by asking for what never comes.
const MOST_WAITING: usize = 256;

#[cfg(test)]
mod tests;
