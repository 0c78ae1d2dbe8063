//! Counters that no two cores share: one lane of cells a thread, summed when somebody asks.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::auth::lane;

/// `N` cells, in as many lanes as there are threads. Copies are the same cells.
#[derive(Clone, Copy)]
pub(super) struct Cells<const N: usize> {
    // Borrowed for ever: a counted reference would be one more word that all cores write.
    lanes: &'static [Lane<N>],
}

/// One thread's cells, apart from every other thread's cache lines.
#[repr(align(128))]
struct Lane<const N: usize>([AtomicU64; N]);

impl<const N: usize> Cells<N> {
    /// All zero. They live as long as the process: make them once.
    pub(super) fn new() -> Self {
        let lane = || Lane([const { AtomicU64::new(0) }; N]);
        Self { lanes: Vec::leak((0..LANES).map(|_| lane()).collect()) }
    }

    /// Adds to this thread's cell. Wraps, so that a lane that only ever subtracts still sums up.
    pub(super) fn add(&self, cell: usize, by: u64) {
        let lane = lane::of_this_thread() % LANES;
        if let Some(cell) = self.lanes.get(lane).and_then(|Lane(cells)| cells.get(cell)) {
            cell.fetch_add(by, Ordering::Relaxed);
        }
    }

    /// The sum over all threads.
    pub(super) fn sum(&self, cell: usize) -> u64 {
        let cells = self.lanes.iter().filter_map(|Lane(cells)| cells.get(cell));
        cells.fold(0, |sum, cell| sum.wrapping_add(cell.load(Ordering::Relaxed)))
    }
}

/// More lanes than worker threads on most machines; past that two threads share one, which stays correct.
const LANES: usize = 64;
