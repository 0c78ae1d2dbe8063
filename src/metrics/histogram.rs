//! Histograms of durations in counted cells: the buckets, the one without a bound, the sum in microseconds.

use std::time::Duration;

use super::cells::Cells;
use super::layout::BOUNDS;

/// Counts a duration in the histogram whose first cell this is.
pub(super) fn observe<const N: usize>(cells: &Cells<N>, histogram: usize, elapsed: Duration) {
    let seconds = elapsed.as_secs_f64();
    let bucket = BOUNDS.iter().position(|&bound| seconds <= bound).unwrap_or(BOUNDS.len());
    cells.add(histogram + bucket, 1);
    let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
    cells.add(histogram + BOUNDS.len() + 1, micros);
}

/// Counts and sum, in seconds, of one histogram.
pub(super) fn observed<const N: usize>(cells: &Cells<N>, histogram: usize) -> ([u64; BOUNDS.len() + 1], f64) {
    let mut counts = [0; BOUNDS.len() + 1];
    for (offset, count) in counts.iter_mut().enumerate() {
        *count = cells.sum(histogram + offset);
    }
    (counts, cells.sum(histogram + BOUNDS.len() + 1) as f64 / 1e6)
}
