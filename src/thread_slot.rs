//! Which slot of a sharded structure a thread uses, so that no two cores write one cache line.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Gives this thread a slot of its own: a worker its number, so that workers fill the slots from 0 on, one each.
pub fn assign(slot: usize) {
    SLOT.set(Some(slot));
}

/// This thread's slot, to be taken modulo the number of slots: two threads in one slot are slower, never wrong. Threads that were
/// given none take theirs from the other end.
pub fn current() -> usize {
    SLOT.get().unwrap_or_else(|| {
        let slot = usize::MAX - UNASSIGNED.fetch_add(1, Ordering::Relaxed);
        SLOT.set(Some(slot));
        slot
    })
}

// A process-wide count is the one thing that threads must share to be told apart.
static UNASSIGNED: AtomicUsize = AtomicUsize::new(0);
thread_local! {
    static SLOT: Cell<Option<usize>> = const { Cell::new(None) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn workers_have_their_numbers_and_other_threads_the_other_end() {
        let of = |number: Option<usize>| {
            let ask = move || {
                number.into_iter().for_each(assign);
                (current(), current())
            };
            thread::spawn(ask).join().unwrap()
        };
        assert_eq!((of(Some(0)), of(Some(1))), ((0, 0), (1, 1)));
        let (one, other) = (of(None), of(None));
        assert!(one.0 == one.1 && one.0 != other.0 && one.0.min(other.0) > usize::MAX / 2);
    }
}
