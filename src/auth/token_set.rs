//! The set of revoked tokens: exact, small, and never in a reader's way.
//!
//! Tokens are filed by the hour in which they expire, and a question about a token knows that hour, so one bucket is
//! looked at. Those whose expiry nobody knew share one more bucket. Inside, TokenIds (bits of
//! SHA-256, so already spread evenly) lie sorted in 256 shards. A shard is replaced, never changed: a reader
//! sees the old or the new one and waits for neither. 16 bytes a token, at every size.
//!
//! What is forgotten is decided by the time that the store has lived through since the revocation, and by nothing
//! that a wall clock says: a bucket goes as a whole once the last revocation in it is old enough.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::shared::ArcSwap;
use super::time::{Lived, UnixTime};
use super::token::TokenId;

/// Revoked tokens. Clones share what they hold: the set only grows, until [`TokenSet::expire`].
#[derive(Clone, Debug, Default)]
pub struct TokenSet {
    /// By the hour of their expiry. Shared as a whole: only an hour that is new or gone makes a copy.
    dated: Arc<BTreeMap<u64, Arc<Dated>>>,
    /// Those whose expiry nobody knew: all of them for the question, and by the hour of their revocation, in
    /// lived time, for their end.
    undated: Option<Arc<Bucket>>,
    undated_acts: BTreeMap<u64, Arc<Vec<TokenId>>>,
}

/// The tokens that expire in one hour, and when the last of them was revoked.
#[derive(Debug, Default)]
struct Dated {
    bucket: Bucket,
    newest: AtomicU64,
}

/// A token that was revoked by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevokedToken {
    /// Which.
    pub id: TokenId,
    /// When it expires.
    pub keep: Keep,
    /// When it was revoked.
    pub lived: Lived,
}

/// When a revoked token expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Keep {
    /// It expires at that time.
    Expires(UnixTime),
    /// Its expiry is not known; by that time it has expired for certain.
    Until(UnixTime),
}

impl TokenSet {
    /// Was the token `id`, which expires at `expires_at`, revoked?
    pub fn contains(&self, id: TokenId, expires_at: UnixTime) -> bool {
        self.dated.get(&hour_of(expires_at)).is_some_and(|dated| dated.bucket.contains(id))
            || self.undated.as_ref().is_some_and(|bucket| bucket.contains(id))
    }

    /// Adds tokens. Adding one twice changes nothing.
    pub fn extend(&mut self, tokens: impl IntoIterator<Item = RevokedToken>) {
        let mut dated: HashMap<(u64, u8), (Vec<TokenId>, Lived)> = HashMap::new();
        let mut undated: HashMap<u8, Vec<TokenId>> = HashMap::new();
        for RevokedToken { id, keep, lived } in tokens {
            match keep {
                Keep::Expires(time) => {
                    let (ids, newest) = dated.entry((hour_of(time), shard_of(id))).or_default();
                    ids.push(id);
                    *newest = lived.max(*newest);
                }
                Keep::Until(_) => {
                    undated.entry(shard_of(id)).or_default().push(id);
                    Arc::make_mut(self.undated_acts.entry(lived.0 / 3600).or_default()).push(id);
                }
            }
        }
        for ((hour, shard), (ids, newest)) in dated {
            if !self.dated.contains_key(&hour) {
                Arc::make_mut(&mut self.dated).insert(hour, Arc::default());
            }
            let Some(dated) = self.dated.get(&hour) else { continue };
            dated.newest.fetch_max(newest.0, Ordering::Relaxed);
            dated.bucket.extend(shard, ids);
        }
        if !undated.is_empty() {
            let bucket = self.undated.get_or_insert_default();
            undated.into_iter().for_each(|(shard, ids)| bucket.extend(shard, ids));
        }
    }

    /// Takes out what was revoked before that. The memory is freed by the caller that drops the returned set, away
    /// from the readers.
    pub fn expire(&mut self, before: Lived) -> Self {
        let mut gone = Self::default();
        let is_old = |dated: &Dated| dated.newest.load(Ordering::Relaxed) < before.0;
        if self.dated.values().any(|dated| is_old(dated)) {
            let (old, kept) = self
                .dated
                .iter()
                .map(|(hour, dated)| (*hour, Arc::clone(dated)))
                .partition(|(_, dated): &(u64, Arc<Dated>)| is_old(dated));
            (gone.dated, self.dated) = (Arc::new(old), Arc::new(kept));
        }
        // An hour goes when its last second has passed.
        let kept = self.undated_acts.split_off(&(before.0 / 3600));
        gone.undated_acts = std::mem::replace(&mut self.undated_acts, kept);
        if !gone.undated_acts.is_empty() {
            gone.undated = self.undated.take();
            let stays: Vec<TokenId> =
                self.undated_acts.values().flat_map(|ids| ids.iter().copied()).collect();
            if !stays.is_empty() {
                self.undated = Some(Arc::new(Bucket::of(stays)));
            }
        }
        gone
    }

    /// Those that the other set does not have. Of an expiry the hour is right, and of the time of a revocation that it was not later.
    pub fn difference(&self, other: &Self) -> Vec<RevokedToken> {
        let dated = self.dated.iter().flat_map(|(hour, dated)| {
            let expiry = UnixTime(hour * 3600 + 3599);
            let lived = Lived(dated.newest.load(Ordering::Relaxed));
            let missing = dated.bucket.ids().filter(move |id| !other.contains(*id, expiry));
            missing.map(move |id| RevokedToken { id, keep: Keep::Expires(expiry), lived })
        });
        let is_there = |id| other.undated.as_ref().is_some_and(|bucket| bucket.contains(id));
        let undated = self.undated_acts.iter().flat_map(|(hour, ids)| {
            let lived = Lived(hour * 3600 + 3599);
            let missing = ids.iter().filter(|id| !is_there(**id));
            missing.map(move |id| RevokedToken { id: *id, keep: Keep::Until(UnixTime(u64::MAX)), lived })
        });
        dated.chain(undated).collect()
    }

    /// How many tokens there are.
    pub fn len(&self) -> usize {
        self.dated.values().map(|dated| dated.bucket.len()).sum::<usize>()
            + self.undated.as_ref().map_or(0, |bucket| bucket.len())
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Tokens in sorted shards.
#[derive(Debug)]
struct Bucket {
    shards: Box<[ArcSwap<Vec<TokenId>>]>,
    /// In all shards.
    len: AtomicUsize,
}

impl Default for Bucket {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| ArcSwap::default()).collect(), len: AtomicUsize::new(0) }
    }
}

impl Bucket {
    fn of(ids: Vec<TokenId>) -> Self {
        let bucket = Self::default();
        let mut shards: HashMap<u8, Vec<TokenId>> = HashMap::new();
        ids.into_iter().for_each(|id| shards.entry(shard_of(id)).or_default().push(id));
        shards.into_iter().for_each(|(shard, ids)| bucket.extend(shard, ids));
        bucket
    }

    fn ids(&self) -> impl Iterator<Item = TokenId> {
        let shards = self.shards.iter().map(|shard| shard.load_full());
        shards.flat_map(|shard| (0..shard.len()).filter_map(move |place| shard.get(place).copied()))
    }

    fn contains(&self, id: TokenId) -> bool {
        let shard = self.shards.get(usize::from(shard_of(id)));
        shard.is_some_and(|shard| search(&shard.load(), id))
    }

    /// There is one writer, so nothing is lost between the reading and the replacing.
    fn extend(&self, shard: u8, mut ids: Vec<TokenId>) {
        let Some(shard) = self.shards.get(usize::from(shard)) else {
            return;
        };
        ids.sort_unstable();
        let old = shard.load();
        let mut new = Vec::with_capacity(old.len() + ids.len());
        let (mut left, mut right) = (old.iter().copied().peekable(), ids.into_iter().peekable());
        loop {
            let next = match (left.peek(), right.peek()) {
                (Some(one), Some(other)) if one <= other => left.next(),
                (Some(_), None) => left.next(),
                (_, Some(_)) => right.next(),
                (None, None) => break,
            };
            if next != new.last().copied() {
                new.extend(next);
            }
        }
        new.shrink_to_fit();
        self.len.fetch_add(new.len() - old.len(), Ordering::Relaxed);
        shard.store(Arc::new(new));
    }

    fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }
}

/// Where would an evenly spread id lie? Looks there first, and from there in growing steps: the memory that it
/// touches lies together.
fn search(sorted: &[TokenId], id: TokenId) -> bool {
    // The shard is chosen by the first byte, so the spread is in what follows it.
    let [_, spread @ .., _, _, _, _, _, _, _] = id.0;
    let guess = (u128::from(u64::from_be_bytes(spread)) * sorted.len() as u128) >> 64;
    let (left, right) = sorted.split_at(usize::try_from(guess).unwrap_or_default().min(sorted.len()));
    if right.first().is_some_and(|first| *first <= id) {
        let mut reach = FIRST_REACH;
        while right.get(reach).is_some_and(|far| *far < id) {
            reach *= 2;
        }
        return right.get(..right.len().min(reach + 1)).unwrap_or_default().binary_search(&id).is_ok();
    }
    let mut reach = FIRST_REACH;
    while left.len() > reach && left.get(left.len() - reach).is_some_and(|far| *far > id) {
        reach *= 2;
    }
    left.get(left.len().saturating_sub(reach)..).unwrap_or_default().binary_search(&id).is_ok()
}

/// Ids in four cache lines.
const FIRST_REACH: usize = 16;

fn hour_of(reading: UnixTime) -> u64 {
    reading.0 / 3600
}

fn shard_of(id: TokenId) -> u8 {
    id.0[0]
}

const SHARDS: usize = 256;

#[cfg(test)]
mod tests;
