//! Which lane of a sharded structure a thread uses, so that two cores do not write one cache line.

use std::sync::atomic::{AtomicUsize, Ordering};

/// This thread's number, from 0 upwards in the order in which threads first ask. Take it modulo the number of
/// lanes: two threads in one lane are slower, never wrong.
pub fn of_this_thread() -> usize {
    LANE.with(|lane| *lane)
}

// A process-wide count is the one thing that threads must share to be told apart.
static NEXT: AtomicUsize = AtomicUsize::new(0);
thread_local! {
    static LANE: usize = NEXT.fetch_add(1, Ordering::Relaxed);
}
