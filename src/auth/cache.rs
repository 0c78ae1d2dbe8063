//! Verified identities, kept so that a token is verified once and not at each request.
//!
//! It holds what never changes for a token, never a verdict: `exp`, cutoffs and the set of revoked tokens are
//! asked on every hit, so that an entry cannot outlive a revocation. Only verified tokens enter; garbage
//! costs its sender and nobody else.
//!
//! There is a shard for each worker. A hit takes a lock that no other thread wants and counts a reference
//! that no other thread holds: nothing is written that another core reads.
//!
//! **The limits are one total over all shards**, and it is never exceeded, whatever the threads do. A token that comes in takes its
//! room out of the total; the same token in two shards takes it twice. Where the total is full, the shard that the token comes into
//!
//! - evicts one of its own;
//! - takes from another one instead, if its fair share (the total by the number of shards) is more than it has, and at every eighth
//!   eviction otherwise.
//!
//! A token that is longer than a fair share comes in only while there is room.
//!
//! A shard gives away what is above its fair share, and first what was not asked for. Of its fair share it gives nothing, unless it
//! is idle: as many tokens as the cache holds were evicted since it was last asked for any. So a worker that is in use has its fair
//! share whenever it wants it, and a busy one has what the idle ones do not use. Shards touch each other only here, at a miss, which costs a
//! signature check anyway. No thread holds the locks of two shards.

mod limits;
mod shard;
mod total;

use std::sync::Arc;

use self::limits::Size;
use self::shard::{Claim, Shard};
use self::total::Total;
use super::shared::Mutex;
use super::token::Verified;

pub use self::limits::CacheLimits;

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
    shards: Box<[Padded<Shard>]>,
    /// Locked on a miss only, also by a thread that holds the lock of a shard.
    total: Padded<Total>,
    limits: CacheLimits,
    /// Of one shard, where the total is full.
    fair_share: CacheLimits,
    slot: fn() -> usize,
}

/// Apart from its neighbours' cache lines.
#[repr(align(128))]
struct Padded<T>(Mutex<T>);

impl Cache {
    /// A cache of so many shards; `slot` says which of them the calling thread uses, modulo their number. `seed` makes the places
    /// of entries unpredictable. Memory is taken as tokens come.
    pub fn new(limits: CacheLimits, shards: usize, slot: fn() -> usize, seed: u64) -> Self {
        let shards = shards.max(1);
        Self {
            shards: (0..shards).map(|_| Padded(Mutex::new(Shard::new(seed)))).collect(),
            total: Padded(Mutex::new(Total::new(limits))),
            limits,
            fair_share: CacheLimits { entries: limits.entries / shards, bytes: limits.bytes / shards },
            slot,
        }
    }

    /// What is known of this very token.
    pub fn find(&self, token: &[u8]) -> Option<Arc<Verified>> {
        let Padded(shard) = self.shards.get(self.own())?;
        shard.lock().find(token)
    }

    /// Keeps what was verified of a token, for this thread.
    pub fn keep(&self, token: &[u8], verified: &Arc<Verified>) {
        let (own, wanted) = (self.own(), Size::of(token));
        let Some(Padded(shard)) = self.shards.get(own) else { return };
        if !wanted.fits(self.limits) {
            return;
        }
        // `refused` is what others had nothing for.
        let (mut freed, mut refused) = (Size::NONE, None);
        loop {
            let mut shard = shard.lock();
            if shard.replace(token, verified) {
                break;
            }
            if self.total.0.lock().take(wanted, freed) {
                shard.insert(token, verified);
                return;
            }
            // One that is longer than a fair share comes in while there is room, and is no reason to let others go.
            if wanted.bytes > self.fair_share.bytes {
                break;
            }
            match self.claim(&shard, wanted).filter(|claim| refused != Some(*claim)) {
                Some(claim) => {
                    drop(shard);
                    match self.take_from_others(own, claim) {
                        Some(given) => freed += given,
                        None => refused = Some(claim),
                    }
                }
                None => match shard.evict() {
                    Some(evicted) => freed += evicted,
                    None => break,
                },
            }
        }
        self.total.0.lock().give_back(freed);
    }

    /// What it did so far.
    pub fn statistics(&self) -> CacheStatistics {
        let mut sum = CacheStatistics::default();
        for Padded(shard) in &self.shards {
            let shard = shard.lock();
            sum.entries += shard.size().entries;
            sum.bytes += shard.size().bytes;
            sum.hits += shard.hits;
            sum.misses += shard.misses;
            sum.evictions += shard.evictions;
        }
        sum
    }

    /// What a shard that wants so much asks others for, before it evicts a token of its own.
    fn claim(&self, shard: &Shard, wanted: Size) -> Option<Claim> {
        // An empty one has nothing else: where there are more shards than tokens, the fair share is none.
        if shard.size() == Size::NONE || (shard.size() + wanted).fits(self.fair_share) {
            return Some(Claim::FairShare);
        }
        shard.evictions.is_multiple_of(TURNS).then_some(Claim::Unused)
    }

    /// Room from another shard, the one whose turn it is first. No lock of a shard is held by this thread meanwhile.
    fn take_from_others(&self, own: usize, claim: Claim) -> Option<Size> {
        let (first, age) = self.total.0.lock().next_turn(self.shards.len());
        let others = self.shards.iter().enumerate().cycle().skip(first).take(self.shards.len());
        let asked = match claim {
            Claim::FairShare => self.shards.len(),
            Claim::Unused => 1,
        };
        let mut others = others.filter(|(index, _)| *index != own).take(asked);
        others.find_map(|(_, Padded(shard))| shard.lock().give(claim, self.fair_share, age))
    }

    fn own(&self) -> usize {
        (self.slot)().checked_rem(self.shards.len()).unwrap_or_default()
    }
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Cache").field(&self.statistics()).finish()
    }
}

/// A shard with its fair share evicts so many tokens of its own between two looks at another one: what others do not use comes
/// to it, and their locks are seldom taken.
const TURNS: u64 = 8;

#[cfg(test)]
mod tests;
