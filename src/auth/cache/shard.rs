//! One thread's entries, and which of them makes room.
//!
//! That is decided by SIEVE (Zhang et al., NSDI 2024): an eviction cursor goes over the
//! tokens from the oldest to the newest, spares those that were asked for since it last came by, and takes the first
//! that was not. So a token that is used once leaves before one that is in use, and a hit moves nothing.

use std::borrow::Borrow;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use super::limits::{CacheLimits, Size};
use super::total::Age;
use crate::auth::names::fold;
use crate::auth::token::Verified;

pub(super) struct Shard {
    entries: HashMap<Key, Entry, Tail>,
    size: Size,
    /// What the eviction cursor has yet to come to, the oldest first.
    ahead: VecDeque<Key>,
    /// What it has passed and spared, all older than what is ahead.
    passed: VecDeque<Key>,
    pub(super) hits: u64,
    pub(super) misses: u64,
    pub(super) evictions: u64,
    /// How often it had been asked when another shard last saw that this had changed, and when that was, in evictions of all shards.
    seen: (u64, u64),
}

struct Entry {
    verified: Arc<Verified>,
    /// Was it asked for since the eviction cursor last came by?
    was_asked_for: bool,
}

impl Shard {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            entries: HashMap::with_hasher(Tail { seed }),
            size: Size::NONE,
            ahead: VecDeque::new(),
            passed: VecDeque::new(),
            hits: 0,
            misses: 0,
            evictions: 0,
            seen: (0, 0),
        }
    }

    pub(super) fn find(&mut self, token: &[u8]) -> Option<Arc<Verified>> {
        let Some(entry) = self.entries.get_mut(token) else {
            self.misses += 1;
            return None;
        };
        self.hits += 1;
        entry.was_asked_for = true;
        Some(Arc::clone(&entry.verified))
    }

    /// Puts something else in the place of what was verified of a token; `false` if the token is not here.
    pub(super) fn replace(&mut self, token: &[u8], verified: &Arc<Verified>) -> bool {
        let entry = self.entries.get_mut(token);
        entry.map(|entry| entry.verified = Arc::clone(verified)).is_some()
    }

    /// Takes in a token that is not here.
    pub(super) fn insert(&mut self, token: &[u8], verified: &Arc<Verified>) {
        let key = Key { hash: self.entries.hasher().hash_one(token), token: token.into() };
        self.ahead.push_back(key.clone());
        self.entries.insert(key, Entry { verified: Arc::clone(verified), was_asked_for: false });
        self.size += Size::of(token);
    }

    /// Lets one token go, and says how much that frees; nothing if there is none.
    pub(super) fn evict(&mut self) -> Option<Size> {
        for step in 0.. {
            match self.advance(if step < PATIENCE { Spare::AskedFor } else { Spare::None }) {
                Step::Spared => {}
                Step::Evicted(size) => return Some(size),
                Step::Empty => break,
            }
        }
        None
    }

    /// Makes room for another shard, if there is more here than the fair share, or this one is idle. What was asked for stays, unless
    /// there is nothing else near and the other one claims its fair share.
    pub(super) fn give(&mut self, claim: Claim, fair_share: CacheLimits, age: Age) -> Option<Size> {
        let is_idle = self.is_idle(age);
        let may_give = |shard: &Self| is_idle || !shard.size.fits(fair_share);
        let mut given = Size::NONE;
        for _ in 0..BATCH {
            if may_give(self)
                && let Step::Evicted(size) = self.advance(Spare::AskedFor)
            {
                given += size;
            }
        }
        self.shrink();
        match claim {
            _ if given != Size::NONE => Some(given),
            Claim::FairShare if may_give(self) => self.evict(),
            _ => None,
        }
    }

    pub(super) const fn size(&self) -> Size {
        self.size
    }

    /// Was nothing asked of it while as many tokens were evicted as the cache holds? Seen by those who want room, so that nobody
    /// notes a time who only asks.
    fn is_idle(&mut self, age: Age) -> bool {
        let lookups = self.hits + self.misses;
        if self.seen.0 != lookups {
            self.seen = (lookups, age.evicted);
        }
        age.evicted.saturating_sub(self.seen.1) >= age.entries as u64
    }

    /// Moves the eviction cursor over one token.
    fn advance(&mut self, spare: Spare) -> Step {
        if self.ahead.is_empty() {
            std::mem::swap(&mut self.ahead, &mut self.passed);
        }
        let Some(key) = self.ahead.pop_front() else {
            return Step::Empty;
        };
        let entry = self.entries.get_mut(&key);
        if spare == Spare::AskedFor && entry.is_some_and(|entry| std::mem::take(&mut entry.was_asked_for)) {
            self.passed.push_back(key);
            return Step::Spared;
        }
        self.entries.remove(&key);
        let size = Size::of(&key.token);
        self.size = self.size.less(size);
        self.evictions += 1;
        Step::Evicted(size)
    }

    /// Gives the memory of tables back that have become far too large.
    fn shrink(&mut self) {
        let enough = 2 * self.entries.len();
        if self.entries.capacity() > 2 * enough + SMALL {
            self.entries.shrink_to(enough);
            self.ahead.shrink_to(enough);
            self.passed.shrink_to(enough);
        }
    }

    /// The tokens, each with what it takes, by the table and by the order of eviction.
    #[cfg(test)]
    pub(super) fn recount(&self) -> [Size; 2] {
        let sum = |keys: &mut dyn Iterator<Item = &Key>| {
            keys.fold(Size::NONE, |sum, key| sum + Size::of(&key.token))
        };
        [sum(&mut self.entries.keys()), sum(&mut self.ahead.iter().chain(&self.passed))]
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.entries.capacity().max(self.ahead.capacity()).max(self.passed.capacity())
    }
}

/// What another shard wants room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// It has less than its fair share.
    FairShare,
    /// It has that, and takes what nobody uses.
    Unused,
}

/// Which tokens the eviction cursor passes over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spare {
    AskedFor,
    None,
}

enum Step {
    Spared,
    Evicted(Size),
    Empty,
}

/// A token with its hash: a table that grows then reads itself and not every token in it.
#[derive(Clone, PartialEq, Eq)]
struct Key {
    hash: u64,
    token: Arc<[u8]>,
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        &self.token
    }
}

/// Hashes a token by its last sixteen bytes: the end of a keyed hash over all the rest, which nobody who
/// has not the key can choose. An entry is found by all of its bytes all the same.
#[derive(Clone, Copy)]
struct Tail {
    seed: u64,
}

impl BuildHasher for Tail {
    type Hasher = TailHasher;

    fn build_hasher(&self) -> TailHasher {
        TailHasher(self.seed)
    }
}

struct TailHasher(u64);

impl Hasher for TailHasher {
    fn write(&mut self, bytes: &[u8]) {
        match bytes.last_chunk::<16>() {
            Some(tail) => {
                let wide = u128::from_le_bytes(*tail);
                self.0 = fold(fold(self.0, wide as u64), (wide >> 64) as u64);
            }
            None => bytes.iter().for_each(|byte| self.0 = fold(self.0, u64::from(*byte))),
        }
    }

    /// The length that goes before the bytes of a slice; it tells nothing here.
    fn write_usize(&mut self, _length: usize) {}

    /// What a [`Key`] remembers.
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// So many tokens the eviction cursor spares in one go, a tenth of a millisecond: where all are in use, one must go all the same.
pub(super) const PATIENCE: usize = 1000;

/// Tokens that are looked at in one go for another shard: few, for their own may be waiting.
const BATCH: usize = 8;

/// Tables with room for so many tokens are as good as none.
const SMALL: usize = 64;
