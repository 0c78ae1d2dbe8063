//! Counters that no two cores share: one lane of cells a thread, summed when somebody asks.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

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
        let lane = LANE.with(|lane| *lane);
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

// Which lane a thread writes to. A process-wide count is the one thing that threads must share for it.
static NEXT_LANE: AtomicUsize = AtomicUsize::new(0);
thread_local! {
    static LANE: usize = NEXT_LANE.fetch_add(1, Ordering::Relaxed) % LANES;
}
