//! Connections to the platform that a worker keeps for its next requests.

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pingora::protocols::Stream;
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::time::sleep_until;

/// Idle connections of one worker, each to one address. A connection is here or with one request, never both.
#[derive(Default)]
pub(super) struct Pool {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// The one that was used last at the end.
    idle: Vec<Idle>,
    /// Somebody waits to close those whose time is over.
    is_swept: bool,
}

struct Idle {
    address: u64,
    until: Instant,
    stream: Stream,
}

impl Pool {
    /// A connection to an address on which nothing has come, not even its end.
    pub(super) fn take(&self, address: u64) -> Option<Stream> {
        loop {
            let mut idle = {
                let mut kept = self.kept.lock();
                let at = kept.idle.iter().rposition(|idle| idle.address == address)?;
                kept.idle.remove(at)
            };
            if is_silent(&mut idle.stream) {
                return Some(idle.stream);
            }
        }
    }

    /// Keeps one on which the last answer has ended, for so long, and `most` in all.
    pub(super) fn give(self: &Arc<Self>, address: u64, stream: Stream, time: Duration, most: usize) {
        if time.is_zero() || most == 0 {
            return;
        }
        let until = Instant::now() + time;
        let mut kept = self.kept.lock();
        let excess = (kept.idle.len() + 1).saturating_sub(most);
        kept.idle.drain(..excess);
        kept.idle.push(Idle { address, until, stream });
        if !std::mem::replace(&mut kept.is_swept, true) {
            tokio::spawn(sweep(Arc::downgrade(self), until));
        }
    }

    /// Closes those whose time is over; when the next one's is.
    fn close_overdue(&self, now: Instant) -> Option<Instant> {
        let mut kept = self.kept.lock();
        kept.idle.retain(|idle| idle.until > now);
        let next = kept.idle.iter().map(|idle| idle.until).min();
        kept.is_swept = next.is_some();
        next
    }
}

/// Closes connections in time for as long as there are any.
async fn sweep(pool: Weak<Pool>, first: Instant) {
    let mut due = first;
    loop {
        sleep_until(due.into()).await;
        let next = pool.upgrade().and_then(|pool| pool.close_overdue(Instant::now()));
        let Some(next) = next else {
            return;
        };
        due = next;
    }
}

/// A server that says something unasked, or that it has gone, cannot be asked.
fn is_silent(stream: &mut Stream) -> bool {
    let mut byte = [0];
    let mut cx = Context::from_waker(Waker::noop());
    Pin::new(stream).poll_read(&mut cx, &mut ReadBuf::new(&mut byte)).is_pending()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncWriteExt as _, duplex};
    use tokio::runtime::Builder;

    fn run(test: impl Future<Output = ()>) {
        Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
    }

    #[test]
    fn a_connection_is_lent_once_and_only_for_its_address() {
        run(async {
            let pool = Arc::<Pool>::default();
            let (near, _far) = duplex(64);
            pool.give(1, Box::new(near), Duration::from_secs(9), 3);
            assert!(pool.take(2).is_none());
            assert!(pool.take(1).is_some());
            assert!(pool.take(1).is_none());
        });
    }

    #[test]
    fn a_connection_that_has_ended_or_spoken_is_not_lent() {
        run(async {
            let pool = Arc::<Pool>::default();
            let (ended, far) = duplex(64);
            drop(far);
            let (spoken, mut far) = duplex(64);
            far.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").await.unwrap();
            let (silent, _other) = duplex(64);
            let id = 7;
            for stream in [silent, ended, spoken] {
                pool.give(id, Box::new(stream), Duration::from_secs(9), 3);
            }
            assert!(pool.take(id).is_some());
            assert!(pool.take(id).is_none());
        });
    }

    #[test]
    fn the_oldest_yields_and_all_are_closed_in_time() {
        run(async {
            let pool = Arc::<Pool>::default();
            let mut others = Vec::new();
            for address in 0..3 {
                let (near, far) = duplex(64);
                pool.give(address, Box::new(near), Duration::from_millis(30), 2);
                others.push(far);
            }
            assert!(pool.take(0).is_none());
            pool.give(9, Box::new(duplex(64).0), Duration::ZERO, 2);
            assert_eq!(pool.kept.lock().idle.len(), 2);
            for _ in 0..400 {
                if pool.kept.lock().idle.is_empty() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let kept = pool.kept.lock();
            assert!(kept.idle.is_empty() && !kept.is_swept);
        });
    }
}
