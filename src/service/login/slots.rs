//! How many logins a source is asked about at once. Others wait for their turn, in the order of the queue for hashes.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot::{Sender, channel};
use tokio::time::timeout;

use super::queue::{Pushed, Queue, Waiter};

/// Places at a source.
pub(super) struct Slots {
    state: Mutex<State>,
    /// How many may wait.
    capacity: usize,
}

struct State {
    queue: Queue<Sender<Slot>>,
    free: usize,
}

/// A place at a source; dropped, it is the next one's.
pub(super) struct Slot(Option<Arc<Slots>>);

/// There is no place, and none in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoSlot;

impl Slots {
    /// So many places.
    pub(super) fn new(count: usize) -> Arc<Self> {
        let state = Mutex::new(State { queue: Queue::new(), free: count });
        Arc::new(Self { state, capacity: count.saturating_mul(WAITING_PER_SLOT) })
    }

    /// Waits for a place, for so long.
    pub(super) async fn acquire(self: &Arc<Self>, waiter: Waiter, limit: Duration) -> Result<Slot, NoSlot> {
        let receiver = {
            let mut state = self.state.lock();
            if state.free > 0 {
                state.free -= 1;
                return Ok(Slot(Some(Arc::clone(self))));
            }
            let (sender, receiver) = channel();
            match state.queue.push(waiter, sender, self.capacity) {
                // Who is displaced learns of it by the end of its channel.
                Pushed::Waits | Pushed::InPlaceOf(_) => receiver,
                Pushed::Refused(..) => return Err(NoSlot),
            }
        };
        // A slot that arrives too late is dropped with its channel, and so goes on to the next one.
        match timeout(limit, receiver).await {
            Ok(Ok(slot)) => Ok(slot),
            Ok(Err(_)) | Err(_) => Err(NoSlot),
        }
    }

    fn release(self: Arc<Self>) {
        let mut owner = Some(self);
        while let Some(slots) = owner.take() {
            let next = {
                let mut state = slots.state.lock();
                let next = state.queue.pop();
                state.free += usize::from(next.is_none());
                next
            };
            let Some(next) = next else { return };
            // Nobody waits there any more: its slot comes back, as a value that is not dropped.
            if let Err(mut slot) = next.send(Slot(Some(slots))) {
                owner = slot.0.take();
            }
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(slots) = self.0.take() {
            slots.release();
        }
    }
}

/// How many may wait for each place.
const WAITING_PER_SLOT: usize = 32;

#[cfg(test)]
mod tests {
    use super::super::throttle::Debt;
    use super::*;
    use tokio::runtime::Builder;
    use tokio::task::yield_now;

    fn waiter(pair: u64) -> Waiter {
        Waiter { is_known: false, from: None, pair, debt: Debt::default() }
    }

    fn run(test: impl Future<Output = ()>) {
        Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(test);
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn as_many_as_there_are_places_are_let_in_at_once() {
        run(async {
            let slots = Slots::new(2);
            let first = slots.acquire(waiter(1), LONG).await.unwrap();
            let _second = slots.acquire(waiter(2), LONG).await.unwrap();
            assert_eq!(slots.acquire(waiter(3), Duration::from_secs(1)).await.err(), Some(NoSlot));
            drop(first);
            assert!(slots.acquire(waiter(4), Duration::ZERO).await.is_ok());
        });
    }

    #[test]
    fn place_goes_to_who_waits_and_not_to_who_has_given_up() {
        run(async {
            let slots = Slots::new(1);
            let held = slots.acquire(waiter(1), LONG).await.unwrap();
            let patient = tokio::spawn({
                let slots = Arc::clone(&slots);
                async move { slots.acquire(waiter(2), LONG).await.is_ok() }
            });
            let impatient = tokio::spawn({
                let slots = Arc::clone(&slots);
                async move { slots.acquire(waiter(3), LONG).await.is_ok() }
            });
            yield_now().await;
            impatient.abort();
            yield_now().await;
            drop(held);
            assert!(patient.await.unwrap());
            // Both have gone by now.
            assert!(slots.acquire(waiter(4), Duration::ZERO).await.is_ok());
            assert_eq!(slots.state.lock().free, 1);
        });
    }

    #[test]
    fn more_than_may_wait_are_turned_away_at_once() {
        run(async {
            let slots = Slots::new(1);
            let _held = slots.acquire(waiter(0), LONG).await.unwrap();
            let waiting: Vec<_> = (1..=40)
                .map(|pair| {
                    let slots = Arc::clone(&slots);
                    tokio::spawn(async move { slots.acquire(waiter(pair), LONG).await.is_ok() })
                })
                .collect();
            yield_now().await;
            let turned_away = waiting.iter().filter(|task| task.is_finished()).count();
            assert_eq!(turned_away, 40 - WAITING_PER_SLOT);
        });
    }
}
