//! Notices that the replica has not looked at the store for a while: the process was paused, or the machine suspended.
//!
//! Anyone who comes first after a pause may be served before the replica has read what was revoked meanwhile. So a request that finds such a gap
//! waits for the next look, but not for long: a store that cannot be read must not hold up everybody. It costs a request that finds none two
//! loads.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

/// When the replica last began a look, and who waits for the next one.
#[derive(Debug, Default)]
pub struct ReadGap {
    /// Uptime in milliseconds.
    begun: AtomicU64,
    /// When the look before the gap began, plus one, while its end has not been seen; 0: there is no gap.
    open: AtomicU64,
    /// The gap that was waited for long enough: when the look before it began, plus one.
    given_up: AtomicU64,
    looked: Notify,
}

impl ReadGap {
    /// The replica begins a look.
    pub fn begin(&self, uptime: Duration) {
        let before = self.begun.load(Ordering::Relaxed);
        if is_long(before, uptime) {
            self.open.store(before + 1, Ordering::Relaxed);
        }
        // Last, so that a request that no longer sees the long silence sees the open gap.
        self.begun.store(millis(uptime), Ordering::Release);
    }

    /// A look has ended, well or not.
    pub fn end(&self) {
        self.open.store(0, Ordering::Relaxed);
        self.looked.notify_waiters();
    }

    /// Has there been no look for a second, and is it worth waiting for the next?
    pub fn is_open(&self, uptime: Duration) -> bool {
        self.gap(uptime).is_some_and(|gap| self.given_up.load(Ordering::Relaxed) != gap)
    }

    /// Waits for the end of the next look. If that takes longer than 250 ms, nobody waits for this gap any more.
    pub async fn wait(&self, uptime: Duration) {
        let Some(gap) = self.gap(uptime) else { return };
        if timeout(LONGEST_WAIT, self.closed(uptime)).await.is_err() {
            self.given_up.store(gap, Ordering::Relaxed);
        }
    }

    /// A look that the pause caught in the middle may have read before it; its end closes nothing.
    async fn closed(&self, uptime: Duration) {
        loop {
            let looked = self.looked.notified();
            tokio::pin!(looked);
            // From here on no end of a look is missed.
            looked.as_mut().enable();
            if self.gap(uptime).is_none() {
                return;
            }
            looked.await;
        }
    }

    /// The gap that there is at this moment, by when the look before it began.
    fn gap(&self, uptime: Duration) -> Option<u64> {
        let begun = self.begun.load(Ordering::Acquire);
        if is_long(begun, uptime) {
            return Some(begun + 1);
        }
        Some(self.open.load(Ordering::Relaxed)).filter(|gap| *gap > 0)
    }
}

fn is_long(begun: u64, uptime: Duration) -> bool {
    millis(uptime).saturating_sub(begun) >= millis(GAP)
}

fn millis(uptime: Duration) -> u64 {
    u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX)
}

/// A replica looks ten times a second; this long without a look is no ordinary delay.
const GAP: Duration = Duration::from_secs(1);

/// The longest that a request waits.
const LONGEST_WAIT: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tokio::runtime::Builder;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn gap_is_open_from_a_second_without_a_look_until_the_next_one_ends() {
        let gap = ReadGap::default();
        assert!(!gap.is_open(at(999)) && gap.is_open(at(1000)));
        gap.begin(at(1000));
        assert!(gap.is_open(at(1001)), "what that look finds is not known yet");
        gap.end();
        assert!(!gap.is_open(at(1999)));
        gap.begin(at(1100));
        assert!(!gap.is_open(at(1101)), "an ordinary look is no gap, however long it takes");
        assert!(!gap.is_open(at(2099)) && gap.is_open(at(2100)));
    }

    #[test]
    fn look_that_began_before_the_pause_ends_no_wait() {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let gap = Arc::new(ReadGap::default());
            gap.begin(at(100));
            let waiting = tokio::spawn({
                let gap = Arc::clone(&gap);
                async move { gap.wait(at(5000)).await }
            });
            tokio::task::yield_now().await;
            gap.end();
            tokio::task::yield_now().await;
            assert!(!waiting.is_finished() && gap.is_open(at(5000)));
            gap.begin(at(5100));
            gap.end();
            waiting.await.unwrap();
            assert!(!gap.is_open(at(5101)));
        });
    }

    #[test]
    fn request_waits_for_the_look_and_nobody_for_a_gap_that_was_given_up() {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let gap = Arc::new(ReadGap::default());
            let waiting = tokio::spawn({
                let gap = Arc::clone(&gap);
                async move { gap.wait(at(5000)).await }
            });
            tokio::task::yield_now().await;
            assert!(!waiting.is_finished());
            gap.begin(at(5000));
            gap.end();
            waiting.await.unwrap();
            assert!(!gap.is_open(at(5001)));
            // The replica is stuck: one request finds out, and the others do not wait.
            gap.wait(at(9000)).await;
            assert!(!gap.is_open(at(9000)));
            gap.begin(at(9100));
            assert!(!gap.is_open(at(9101)), "it is the same gap");
            gap.end();
            assert!(gap.is_open(at(10_100)), "and this is another");
        });
    }
}
