//! Work that is done a slice at a time, each a transaction that takes little time, whatever the disk and the rows are like.

use std::time::{Duration, Instant};

use crate::store::error::StoreError;

/// How much is done at once.
#[derive(Clone, Copy)]
pub(in crate::store) struct Slice {
    /// At most so many rows.
    pub(in crate::store) rows: usize,
    /// No step is begun after this.
    pub(in crate::store) time: Duration,
}

/// Works on a slice in steps of so many rows: until a step finds none, the slice is full or its time is over. Says how many
/// rows that were.
pub(in crate::store) fn in_steps(
    slice: Slice,
    mut step: impl FnMut(usize) -> Result<usize, StoreError>,
) -> Result<usize, StoreError> {
    let (began, mut done) = (Instant::now(), 0);
    while done < slice.rows {
        let rows = step(STEP.min(slice.rows - done))?;
        done += rows;
        if rows == 0 || began.elapsed() >= slice.time {
            break;
        }
    }
    Ok(done)
}

/// Rows between two looks at the time.
const STEP: usize = 50;
