//! Another process that is to have applied a change before the change is acknowledged: while a gateway is upgraded, either process asks the other.
//!
//! What carries the question is the business of whoever [`link`](Peers::link)s the two.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::error::StoreError;

/// What the other process is asked, or told.
#[derive(Debug)]
pub enum Ask {
    /// To apply all that is committed now, and to say when it has.
    Apply(oneshot::Sender<bool>),
    /// To hold a revocation that the store has not taken: one line of JSON.
    Hold(String),
}

/// The other process, if there is one.
#[derive(Clone, Debug, Default)]
pub struct Peers(Arc<ArcSwapOption<Sender<Ask>>>);

impl Peers {
    /// From now on nothing is acknowledged that whoever takes these questions has not answered.
    pub fn link(&self, asks: Sender<Ask>) {
        self.0.store(Some(Arc::new(asks)));
    }

    /// The other process has ended.
    pub fn unlink(&self) {
        self.0.store(None);
    }

    /// Is there another process?
    pub fn is_linked(&self) -> bool {
        self.0.load().is_some()
    }

    /// Waits until the other process has applied all that is committed now, if there is one.
    pub async fn applied(&self) -> Result<(), StoreError> {
        let Some(asks) = self.0.load_full() else { return Ok(()) };
        let (answer, answered) = oneshot::channel();
        // Where nobody takes it, the answer's other end is gone as well.
        let _ = asks.send(Ask::Apply(answer));
        match timeout(LONGEST_WAIT, answered).await {
            Ok(Ok(true)) => Ok(()),
            // It has ended meanwhile, and what is committed is known to all that are left.
            _ if !self.is_linked() => Ok(()),
            _ => Err(StoreError::NotEverywhere(LONGEST_WAIT)),
        }
    }

    /// Tells the other process of a revocation that the store has not taken. Waits for nothing.
    pub fn hold(&self, record: impl FnOnce() -> String) {
        if let Some(asks) = self.0.load_full() {
            // Where it has ended there is nobody to tell.
            let _ = asks.send(Ask::Hold(record()));
        }
    }
}

/// How long a change may wait to be applied by the other process.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use tokio::runtime::Builder;
    use tokio::time::Instant;

    #[test]
    fn a_change_is_acknowledged_once_the_other_process_has_it_and_not_before() {
        Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
            let peers = Peers::default();
            assert_eq!(peers.applied().await, Ok(()), "there is no other");
            peers.hold(|| unreachable!("nobody is told"));
            let (asks, asked) = channel();
            peers.link(asks);
            let next = |answer: Option<bool>| match asked.try_recv().unwrap() {
                Ask::Apply(waiting) => {
                    if let Some(answer) = answer {
                        waiting.send(answer).unwrap();
                    }
                }
                Ask::Hold(text) => panic!("{text}"),
            };
            for (answer, expected) in [
                (Some(true), Ok(())),
                (Some(false), Err(StoreError::NotEverywhere(LONGEST_WAIT))),
                // Whoever asked it is gone, and the other process is not known to have ended.
                (None, Err(StoreError::NotEverywhere(LONGEST_WAIT))),
            ] {
                let waiting = tokio::spawn({
                    let peers = peers.clone();
                    async move { peers.applied().await }
                });
                tokio::task::yield_now().await;
                next(answer);
                assert_eq!(waiting.await.unwrap(), expected, "{answer:?}");
            }
            // No answer at all.
            let began = Instant::now();
            assert_eq!(peers.applied().await, Err(StoreError::NotEverywhere(LONGEST_WAIT)));
            assert_eq!(began.elapsed(), LONGEST_WAIT);
            drop(asked);
            assert!(peers.applied().await.is_err(), "nobody asks, and it may live");
            peers.unlink();
            assert_eq!(peers.applied().await, Ok(()));
        });
    }
}
