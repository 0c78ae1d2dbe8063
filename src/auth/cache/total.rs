//! What all shards together have taken.

use super::limits::{CacheLimits, Size};

/// The cache's own time: no clock is read here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Age {
    /// Tokens that were evicted so far.
    pub(super) evicted: u64,
    /// Tokens that are in the cache.
    pub(super) entries: usize,
}

/// The limits, and what is taken of them: what the shards hold, and what is on its way from one to another.
pub(super) struct Total {
    limits: CacheLimits,
    taken: Size,
    evicted: u64,
    /// The shard that is asked next where another one wants room.
    turn: usize,
}

impl Total {
    pub(super) const fn new(limits: CacheLimits) -> Self {
        Self { limits, taken: Size::NONE, evicted: 0, turn: 0 }
    }

    /// Takes room for what is wanted in exchange for what was freed for it; `false`, and nothing has changed, if there is not enough.
    pub(super) fn take(&mut self, wanted: Size, freed: Size) -> bool {
        let taken = self.taken.less(freed) + wanted;
        if !taken.fits(self.limits) {
            return false;
        }
        self.taken = taken;
        self.evicted += freed.entries as u64;
        true
    }

    /// Leaves to all what was freed and is not needed.
    pub(super) fn give_back(&mut self, freed: Size) {
        self.taken = self.taken.less(freed);
        self.evicted += freed.entries as u64;
    }

    /// Which of so many shards is asked first, and what time it is.
    pub(super) fn next_turn(&mut self, shards: usize) -> (usize, Age) {
        let first = self.turn;
        self.turn = (first + 1) % shards;
        (first, Age { evicted: self.evicted, entries: self.taken.entries })
    }

    #[cfg(test)]
    pub(super) const fn taken(&self) -> Size {
        self.taken
    }
}
