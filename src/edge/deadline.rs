//! A deadline that moves often and is seldom reached.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// Until when something may take. There is one timer, which is set again only where it would go off too late or wake another task:
/// most deadlines pass without a timer.
pub(super) struct Deadline {
    at: Instant,
    timer: Option<Timer>,
}

struct Timer {
    due: Instant,
    sleep: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
    /// Of the task that it wakes.
    waker: Waker,
}

impl Deadline {
    /// Passes after `limit`.
    pub(super) fn after(limit: Duration) -> Self {
        Self { at: Instant::now() + limit, timer: None }
    }

    /// Moves it.
    pub(super) const fn set(&mut self, at: Instant) {
        self.at = at;
    }

    /// Has it passed at `now`? Wakes the task when it will have.
    pub(super) fn poll(&mut self, now: Instant, cx: &mut Context<'_>) -> Poll<()> {
        if now >= self.at {
            return Poll::Ready(());
        }
        if let Some(timer) = &self.timer
            && timer.due > now
            && timer.due <= self.at
            && timer.waker.will_wake(cx.waker())
        {
            return Poll::Pending;
        }
        let due = self.at;
        // The engine's timers count in whole milliseconds, rounded down: without one more they may go off before `due`,
        // which would be taken for a wake-up of another origin.
        let wait = due.saturating_duration_since(now) + Duration::from_millis(1);
        let sleep = Box::pin(pingora::time::sleep(wait));
        let timer = self.timer.insert(Timer { due, sleep, waker: cx.waker().clone() });
        timer.sleep.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::runtime::Builder;
    use tokio::time::{sleep, timeout};

    /// A timer that goes off too early, once in some hundreds, would never wake its task again.
    #[test]
    fn every_deadline_passes() {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let all_end = async {
            let waiting = (0..4_000u64).map(|number| {
                tokio::spawn(async move {
                    // At all phases of a millisecond and of the engine's ticks.
                    sleep(Duration::from_micros(number * 7 % 23_000)).await;
                    let mut deadline = Deadline::after(Duration::from_micros(10_000 + number * 13 % 31_000));
                    poll_fn(|cx| deadline.poll(Instant::now(), cx)).await;
                    assert!(Instant::now() >= deadline.at);
                })
            });
            for task in waiting.collect::<Vec<_>>() {
                task.await.unwrap();
            }
        };
        runtime.block_on(async { timeout(Duration::from_secs(30), all_end).await }).unwrap();
    }
}
