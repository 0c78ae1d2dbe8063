//! Verified identities, kept so that a token is verified once and not at each request.
//!
//! It holds what never changes for a token, never a verdict: `exp`, cutoffs and the set of revoked tokens are
//! asked on every hit, so that an entry cannot outlive a revocation. Only verified tokens enter; garbage
//! costs its sender and nobody else.
//!
//! There is a shard for each worker. A hit takes a lock that no other thread wants and counts a reference
//! that no other thread holds: nothing is written that another core reads.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use super::names::fold;
use super::shared::Mutex;
use super::token::Verified;

/// How much is kept, over all threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheLimits {
    /// Tokens.
    pub entries: usize,
    /// Bytes, tokens and identities together, estimated.
    pub bytes: usize,
}

/// What the cache did so far, over all threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStatistics {
    /// Tokens that are in it.
    pub entries: usize,
    /// Their bytes, estimated.
    pub bytes: usize,
    /// Questions that were answered from it.
    pub hits: u64,
    /// Questions that were not.
    pub misses: u64,
    /// Tokens that had to make room.
    pub evictions: u64,
}

/// Verified identities by the bytes of their tokens.
pub struct Cache {
    shards: Box<[Padded]>,
    slot: fn() -> usize,
}

/// Apart from its neighbours' cache lines.
#[repr(align(128))]
struct Padded(Mutex<Shard>);

impl Cache {
    /// A cache of so many shards; `slot` says which of them the calling thread uses, modulo their number. `seed` makes the places
    /// of entries unpredictable.
    pub fn new(limits: CacheLimits, shards: usize, slot: fn() -> usize, seed: u64) -> Self {
        let shards = shards.max(1);
        let limits = CacheLimits { entries: limits.entries / shards, bytes: limits.bytes / shards };
        let shard = || Padded(Mutex::new(Shard::new(limits, Tail { seed })));
        Self { shards: (0..shards).map(|_| shard()).collect(), slot }
    }

    /// What is known of this very token.
    pub fn find(&self, token: &[u8]) -> Option<Arc<Verified>> {
        self.shard()?.lock().find(token)
    }

    /// Keeps what was verified of a token, for this thread.
    pub fn keep(&self, token: &[u8], verified: &Arc<Verified>) {
        if let Some(shard) = self.shard() {
            shard.lock().keep(token, verified);
        }
    }

    /// Forgets everything: keys or rules have changed.
    pub fn clear(&self) {
        for Padded(shard) in &self.shards {
            shard.lock().clear();
        }
    }

    /// What it did so far.
    pub fn statistics(&self) -> CacheStatistics {
        let mut sum = CacheStatistics::default();
        for Padded(shard) in &self.shards {
            let shard = shard.lock();
            sum.entries += shard.entries.len();
            sum.bytes += shard.bytes;
            sum.hits += shard.hits;
            sum.misses += shard.misses;
            sum.evictions += shard.evictions;
        }
        sum
    }

    fn shard(&self) -> Option<&Mutex<Shard>> {
        let shard = (self.slot)().checked_rem(self.shards.len())?;
        self.shards.get(shard).map(|Padded(shard)| shard)
    }
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Cache").field(&self.statistics()).finish()
    }
}

/// One thread's entries. Which one makes room is decided by SIEVE (Zhang et al., NSDI 2024): a eviction cursor goes over the
/// tokens from the oldest to the newest, spares those that were asked for since it last came by, and takes the first
/// that was not. So a token that is used once leaves before one that is in use, and a hit moves nothing.
struct Shard {
    limits: CacheLimits,
    entries: HashMap<Arc<[u8]>, Entry, Tail>,
    bytes: usize,
    /// What the eviction cursor has yet to come to, the oldest first.
    ahead: VecDeque<Arc<[u8]>>,
    /// What it has passed and spared, all older than what is ahead.
    passed: VecDeque<Arc<[u8]>>,
    hits: u64,
    misses: u64,
    evictions: u64,
}

struct Entry {
    verified: Arc<Verified>,
    /// Was it asked for since the eviction cursor last came by?
    was_asked_for: bool,
}

impl Shard {
    fn new(limits: CacheLimits, hasher: Tail) -> Self {
        // All at once, for a table that grows makes the request wait that grows it; memory that is not written yet
        // is not taken yet.
        let capacity = limits.entries.min(limits.bytes / weight(&[]));
        Self {
            limits,
            entries: HashMap::with_capacity_and_hasher(capacity, hasher),
            bytes: 0,
            ahead: VecDeque::new(),
            passed: VecDeque::new(),
            hits: 0,
            misses: 0,
            evictions: 0,
        }
    }

    fn find(&mut self, token: &[u8]) -> Option<Arc<Verified>> {
        let Some(entry) = self.entries.get_mut(token) else {
            self.misses += 1;
            return None;
        };
        self.hits += 1;
        entry.was_asked_for = true;
        Some(Arc::clone(&entry.verified))
    }

    fn keep(&mut self, token: &[u8], verified: &Arc<Verified>) {
        if let Some(entry) = self.entries.get_mut(token) {
            entry.verified = Arc::clone(verified);
            return;
        }
        let weight = weight(token);
        // One that would not fit alone is no reason to let all others go.
        if weight > self.limits.bytes {
            return;
        }
        while self.entries.len() >= self.limits.entries || self.bytes + weight > self.limits.bytes {
            if !self.evict() {
                return;
            }
        }
        let token: Arc<[u8]> = token.into();
        self.ahead.push_back(Arc::clone(&token));
        self.entries.insert(token, Entry { verified: Arc::clone(verified), was_asked_for: false });
        self.bytes += weight;
    }

    /// Makes room; `false` if there is nothing that could go.
    fn evict(&mut self) -> bool {
        for step in 0.. {
            if self.ahead.is_empty() {
                std::mem::swap(&mut self.ahead, &mut self.passed);
            }
            let Some(token) = self.ahead.pop_front() else {
                return false;
            };
            let entry = self.entries.get_mut(&token);
            if step < PATIENCE && entry.is_some_and(|entry| std::mem::take(&mut entry.was_asked_for)) {
                self.passed.push_back(token);
                continue;
            }
            self.entries.remove(&token);
            self.bytes -= weight(&token);
            self.evictions += 1;
            return true;
        }
        false
    }

    fn clear(&mut self) {
        self.entries.clear();
        self.bytes = 0;
        self.ahead.clear();
        self.passed.clear();
    }
}

/// So many tokens the eviction cursor spares in one go, a tenth of a millisecond: where all are in use, one must go all the same.
const PATIENCE: usize = 1000;

/// What an entry takes: the token, its identity about as long again, that as fields, and the tables' own.
fn weight(token: &[u8]) -> usize {
    2 * token.len() + 512
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

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests;
