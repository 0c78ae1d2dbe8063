//! Counters that no two cores share: one slot of cells a thread, summed when somebody asks.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::thread_slot;

/// `N` cells, in as many slots as there are threads. Copies are the same cells.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cells<const N: usize> {
    // Borrowed for ever: a counted reference would be one more word that all cores write.
    slots: &'static [Slot<N>],
}

/// One thread's cells, apart from every other thread's cache lines.
#[derive(Debug)]
#[repr(align(128))]
struct Slot<const N: usize>([AtomicU64; N]);

impl<const N: usize> Cells<N> {
    /// All zero. They live as long as the process: make them once.
    pub(super) fn new() -> Self {
        let slot = || Slot([const { AtomicU64::new(0) }; N]);
        Self { slots: Vec::leak((0..SLOTS).map(|_| slot()).collect()) }
    }

    /// Adds to this thread's cell. Wraps, so that a slot that only ever subtracts still sums up.
    pub(super) fn add(&self, cell: usize, by: u64) {
        let slot = thread_slot::current() % SLOTS;
        if let Some(cell) = self.slots.get(slot).and_then(|Slot(cells)| cells.get(cell)) {
            cell.fetch_add(by, Ordering::Relaxed);
        }
    }

    /// The sum over all threads.
    pub(super) fn sum(&self, cell: usize) -> u64 {
        let cells = self.slots.iter().filter_map(|Slot(cells)| cells.get(cell));
        cells.fold(0, |sum, cell| sum.wrapping_add(cell.load(Ordering::Relaxed)))
    }
}

/// More slots than worker threads on most machines; past that two threads share one, which stays correct.
const SLOTS: usize = 64;
