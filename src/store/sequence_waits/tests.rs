use std::convert::Infallible;
use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};
use tokio::task::yield_now;
use tokio::time::Instant;

use super::*;
use crate::auth::cache::{Cache, CacheLimits};
use crate::auth::keys::{Algorithm, Key, KeySet};
use crate::auth::revocation::RevocationSnapshot;
use crate::auth::secret::Secret;
use crate::auth::token::TokenRules;

/// A gate that has applied this sequence.
fn gate(sequence: u64) -> Arc<Gate> {
    let secret = Secret::new(b"0123456789abcdef0123456789abcdef".to_vec());
    let keys = KeySet::new(vec![Key::new("k", Algorithm::Hs256, &secret, false).unwrap()]).unwrap();
    let cache = Cache::new(CacheLimits { entries: 0, bytes: 0 }, 1, || 0, 0);
    let mut snapshot = RevocationSnapshot::default();
    snapshot.advance(sequence);
    Arc::new(Gate::new(keys, TokenRules::DEFAULT, cache, Duration::MAX, snapshot, Duration::ZERO))
}

fn apply(gate: &Gate, waits: &SequenceWaits, sequence: u64) {
    let Ok(()) = gate.update(|snapshot| {
        snapshot.advance(sequence);
        Ok::<(), Infallible>(())
    });
    waits.note_applied();
}

fn paused() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

#[test]
fn request_waits_until_its_sequence_is_applied_and_no_longer() {
    paused().block_on(async {
        let (gate, waits) = (gate(3), Arc::<SequenceWaits>::default());
        let waiting = tokio::spawn({
            let (gate, waits) = (Arc::clone(&gate), Arc::clone(&waits));
            async move { waits.wait(&gate, 5).await }
        });
        yield_now().await;
        apply(&gate, &waits, 4);
        yield_now().await;
        assert!(!waiting.is_finished(), "4 is not 5");
        let before = Instant::now();
        apply(&gate, &waits, 6);
        assert_eq!(waiting.await.unwrap(), SequenceWait::Applied);
        assert_eq!(before.elapsed(), Duration::ZERO, "it is woken, and does not poll");
        assert_eq!(waits.wait(&gate, 6).await, SequenceWait::Applied);
    });
}

#[test]
fn request_that_waits_in_vain_is_late_after_50_ms() {
    paused().block_on(async {
        let (gate, waits, before) = (gate(3), SequenceWaits::default(), Instant::now());
        assert_eq!(waits.wait(&gate, u64::MAX).await, SequenceWait::Late);
        assert_eq!(before.elapsed(), LONGEST_WAIT);
        assert_eq!(waits.waiting.load(Ordering::Relaxed), 0);
    });
}

/// Gives every task its turn, until so many wait.
async fn turns(waits: &SequenceWaits, waiting: usize) {
    for _ in 0..1000 {
        if waits.waiting.load(Ordering::Relaxed) == waiting {
            return;
        }
        yield_now().await;
    }
    panic!("{} wait, not {waiting}", waits.waiting.load(Ordering::Relaxed));
}

#[test]
fn one_too_many_does_not_wait_and_a_wait_that_is_dropped_gives_its_place_back() {
    paused().block_on(async {
        let (gate, waits) = (gate(3), Arc::<SequenceWaits>::default());
        let all: Vec<_> = (0..MOST_WAITING)
            .map(|_| {
                let (gate, waits) = (Arc::clone(&gate), Arc::clone(&waits));
                tokio::spawn(async move { waits.wait(&gate, 4).await })
            })
            .collect();
        turns(&waits, MOST_WAITING).await;
        let before = Instant::now();
        assert_eq!(waits.wait(&gate, 4).await, SequenceWait::TooMany);
        assert_eq!(before.elapsed(), Duration::ZERO);
        assert_eq!(waits.waiting.load(Ordering::Relaxed), MOST_WAITING);
        // The client has gone.
        all.iter().for_each(|waiting| waiting.abort());
        turns(&waits, 0).await;
    });
}

#[test]
fn replica_rests_for_its_interval_or_until_a_request_waits() {
    let interval = Duration::from_millis(100);
    paused().block_on(async {
        let (gate, waits) = (gate(3), Arc::<SequenceWaits>::default());
        let before = Instant::now();
        waits.rest(interval).await;
        assert_eq!(before.elapsed(), interval);
        // It looks when the wait begins, and not again for the same wait.
        let waiting = tokio::spawn({
            let (gate, waits) = (Arc::clone(&gate), Arc::clone(&waits));
            async move { waits.wait(&gate, 4).await }
        });
        yield_now().await;
        let before = Instant::now();
        waits.rest(interval).await;
        assert_eq!(before.elapsed(), LEAST_REST);
        waits.rest(interval).await;
        assert_eq!(before.elapsed(), LEAST_REST + interval);
        assert_eq!(waiting.await.unwrap(), SequenceWait::Late);
        // Many that wait are one look.
        waits.wanted.notify_one();
        waits.wanted.notify_one();
        let before = Instant::now();
        waits.rest(interval).await;
        waits.rest(interval).await;
        assert_eq!(before.elapsed(), LEAST_REST + interval);
        // An interval that is shorter stays as it is.
        let (short, before) = (Duration::from_millis(2), Instant::now());
        waits.rest(short).await;
        assert_eq!(before.elapsed(), short);
    });
}
