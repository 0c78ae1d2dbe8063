//! What a worker thread keeps for itself: whose turn it is, and how many requests may be tried again.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use crate::thread_slot;

/// One slot a thread.
pub(super) struct Turns {
    slots: Vec<Slot>,
    started: Instant,
}

/// Apart from every other thread's cache lines. Two threads in one slot are less exact, never wrong.
#[repr(align(128))]
struct Slot {
    next: AtomicUsize,
    budget: Budget,
}

impl Turns {
    pub(super) fn new() -> Self {
        let slot = || Slot { next: AtomicUsize::new(0), budget: Budget::new() };
        Self { slots: (0..SLOTS).map(|_| slot()).collect(), started: Instant::now() }
    }

    /// Whose turn it is, of any number.
    pub(super) fn next(&self) -> usize {
        self.slot().map_or(0, |slot| {
            let turn = slot.next.load(Ordering::Relaxed);
            slot.next.store(turn.wrapping_add(1), Ordering::Relaxed);
            turn
        })
    }

    /// A request is sent for the first time.
    pub(super) fn deposit(&self) {
        self.slot().into_iter().for_each(|slot| slot.budget.deposit());
    }

    /// May one more be tried again?
    pub(super) fn withdraw(&self) -> bool {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.slot().is_some_and(|slot| slot.budget.withdraw(now))
    }

    fn slot(&self) -> Option<&Slot> {
        self.slots.get(thread_slot::current() % SLOTS)
    }
}

/// How many requests may be tried again: a fifth of them, and a few a second. Without a bound, a platform that fails everywhere would get
/// three times the load that it fails under.
struct Budget {
    /// In parts of a retry, of which a request brings one and a retry takes [`PRICE`].
    parts: AtomicU64,
    /// When time last brought some, in milliseconds.
    filled: AtomicU64,
}

impl Budget {
    const fn new() -> Self {
        Self { parts: AtomicU64::new(MOST), filled: AtomicU64::new(0) }
    }

    fn deposit(&self) {
        let parts = self.parts.load(Ordering::Relaxed);
        if parts < MOST {
            self.parts.store(parts + 1, Ordering::Relaxed);
        }
    }

    fn withdraw(&self, now: u64) -> bool {
        let earned = now.saturating_sub(self.filled.swap(now, Ordering::Relaxed)) * PRICE * RATE / 1000;
        let parts = self.parts.load(Ordering::Relaxed).saturating_add(earned).min(MOST);
        let left = parts.checked_sub(PRICE);
        self.parts.store(left.unwrap_or(parts), Ordering::Relaxed);
        left.is_some()
    }
}

/// A fifth of the requests.
const PRICE: u64 = 5;

/// And so many a second.
const RATE: u64 = 10;

/// So many at once: those that wait for a server when it dies.
const MOST: u64 = 200 * PRICE;

/// As many as metrics have.
const SLOTS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// Retries that are allowed at this moment.
    fn allowed(budget: &Budget, now: u64) -> usize {
        (0..10_000).take_while(|_| budget.withdraw(now)).count()
    }

    #[test]
    fn a_fifth_of_the_requests_and_ten_a_second_are_tried_again() {
        let budget = Budget::new();
        assert_eq!(allowed(&budget, 0), 200);
        (0..100).for_each(|_| budget.deposit());
        assert_eq!(allowed(&budget, 0), 20);
        assert_eq!((allowed(&budget, 1_000), allowed(&budget, 1_050), allowed(&budget, 1_100)), (10, 0, 0));
        assert_eq!(allowed(&budget, 1_000_000), 200);
        (0..1_000_000).for_each(|_| budget.deposit());
        assert_eq!(allowed(&budget, 1_000_000), 200);
    }

    #[test]
    fn a_thread_has_turns_of_its_own() {
        let turns = Turns::new();
        let mine = [turns.next(), turns.next()];
        let others = std::thread::scope(|scope| scope.spawn(|| turns.next()).join().unwrap());
        assert_eq!((mine[1], others, turns.next()), (mine[0] + 1, 0, mine[0] + 2));
    }
}
