//! The end of the store's threads.

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Waits until a thread has ended, or until that is of no use: what it waits for itself may hang for ever.
pub(super) fn join(thread: JoinHandle<()>, is_of_no_use: impl Fn() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !thread.is_finished() {
        if is_of_no_use() || Instant::now() > deadline {
            return;
        }
        thread::sleep(LOOK_AGAIN);
    }
    let _ = thread.join();
}

/// Far longer than the last checkpoint of a disk that works.
const TIMEOUT: Duration = Duration::from_secs(30);

const LOOK_AGAIN: Duration = Duration::from_millis(1);
