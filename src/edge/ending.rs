//! Whether the process is to end, and how: known to all that answer or accept.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// How far the process is. It only goes on, never back.
#[derive(Debug, Default)]
pub struct Ending {
    stage: AtomicU8,
    /// Services that accept connections.
    accepting: AtomicUsize,
}

impl Ending {
    /// A successor accepts in its place: each answer is the last of its connection, and connections without a request are left to their clients.
    pub fn hand_over(&self) {
        self.stage.fetch_max(HANDED_OVER, Ordering::Relaxed);
    }

    /// It stops: each answer is the last of its connection, and connections without a request are closed.
    pub fn stop(&self) {
        self.stage.fetch_max(STOPPING, Ordering::Relaxed);
    }

    /// A service accepts connections.
    pub(super) fn accepts(&self) {
        self.accepting.fetch_add(1, Ordering::Relaxed);
    }

    /// It accepts no more, or none that the end waits for.
    pub(super) fn accepts_no_more(&self) {
        self.accepting.fetch_sub(1, Ordering::Relaxed);
    }

    /// May there be a connection next that nobody has counted yet?
    pub fn is_accepting(&self) -> bool {
        self.accepting.load(Ordering::Relaxed) > 0
    }

    /// Is each answer the last of its connection?
    pub fn has_begun(&self) -> bool {
        self.stage.load(Ordering::Relaxed) != RUNNING
    }

    /// Does a successor accept in its place, and nobody wants it to stop sooner?
    pub fn is_handed_over(&self) -> bool {
        self.stage.load(Ordering::Relaxed) == HANDED_OVER
    }
}

const RUNNING: u8 = 0;
const HANDED_OVER: u8 = 1;
const STOPPING: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_goes_on_and_never_back() {
        let ending = Ending::default();
        let is = |ending: &Ending| (ending.has_begun(), ending.is_handed_over());
        assert_eq!(is(&ending), (false, false));
        ending.hand_over();
        assert_eq!(is(&ending), (true, true));
        ending.stop();
        assert_eq!(is(&ending), (true, false));
        ending.hand_over();
        assert_eq!(is(&ending), (true, false));
    }
}
