//! Verified identities, kept so that a token is verified once and not at each request.
//!
//! It holds what never changes for a token, never a verdict: `exp`, marks and the set of revoked tokens are
//! asked on every hit, so that an entry cannot outlive a revocation. Only verified tokens enter; garbage
//! costs its sender and nobody else.
//!
//! There is a part for each thread. A hit takes a lock that no other thread wants and counts a reference
//! that no other thread holds: nothing is written that another core reads.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use super::lane;
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
    parts: Box<[Padded]>,
}

/// Apart from its neighbours' cache lines.
#[repr(align(128))]
struct Padded(Mutex<Part>);

impl Cache {
    /// A cache for `threads` threads; `seed` makes the places of entries unpredictable.
    pub fn new(limits: CacheLimits, threads: usize, seed: u64) -> Self {
        let threads = threads.max(1);
        let limits = CacheLimits { entries: limits.entries / threads, bytes: limits.bytes / threads };
        let part = || Padded(Mutex::new(Part::new(limits, Tail { seed })));
        Self { parts: (0..threads).map(|_| part()).collect() }
    }

    /// What is known of this very token.
    pub fn find(&self, token: &[u8]) -> Option<Arc<Verified>> {
        self.part()?.lock().find(token)
    }

    /// Keeps what was verified of a token, for this thread.
    pub fn keep(&self, token: &[u8], verified: &Arc<Verified>) {
        if let Some(part) = self.part() {
            part.lock().keep(token, verified);
        }
    }

    /// Forgets everything: keys or rules have changed.
    pub fn clear(&self) {
        for Padded(part) in &self.parts {
            part.lock().clear();
        }
    }

    /// What it did so far.
    pub fn statistics(&self) -> CacheStatistics {
        let mut sum = CacheStatistics::default();
        for Padded(part) in &self.parts {
            let part = part.lock();
            sum.entries += part.young.len() + part.old.len();
            sum.bytes += part.young_bytes + part.old_bytes;
            sum.hits += part.hits;
            sum.misses += part.misses;
            sum.evictions += part.evictions;
        }
        sum
    }

    fn part(&self) -> Option<&Mutex<Part>> {
        let lane = lane::of_this_thread().checked_rem(self.parts.len())?;
        self.parts.get(lane).map(|Padded(part)| part)
    }
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Cache").field(&self.statistics()).finish()
    }
}

type Entries = HashMap<Box<[u8]>, Arc<Verified>, Tail>;

/// One thread's entries, in two generations: what is asked for moves to the young one; when that is half of
/// what may be kept, the old one goes and the young one grows old.
struct Part {
    limits: CacheLimits,
    young: Entries,
    young_bytes: usize,
    old: Entries,
    old_bytes: usize,
    hits: u64,
    misses: u64,
    evictions: u64,
}

impl Part {
    fn new(limits: CacheLimits, hasher: Tail) -> Self {
        Self {
            limits,
            young: HashMap::with_hasher(hasher),
            young_bytes: 0,
            old: HashMap::with_hasher(hasher),
            old_bytes: 0,
            hits: 0,
            misses: 0,
            evictions: 0,
        }
    }

    fn find(&mut self, token: &[u8]) -> Option<Arc<Verified>> {
        if let Some(verified) = self.young.get(token) {
            self.hits += 1;
            return Some(Arc::clone(verified));
        }
        let Some((token, verified)) = self.old.remove_entry(token) else {
            self.misses += 1;
            return None;
        };
        self.hits += 1;
        self.old_bytes -= weight(&token);
        self.insert(token, Arc::clone(&verified));
        Some(verified)
    }

    fn keep(&mut self, token: &[u8], verified: &Arc<Verified>) {
        // An entry that would fill a generation alone is not worth its room.
        if self.limits.entries >= 2 && 2 * weight(token) <= self.limits.bytes {
            self.insert(token.into(), Arc::clone(verified));
        }
    }

    fn insert(&mut self, token: Box<[u8]>, verified: Arc<Verified>) {
        let weight = weight(&token);
        let is_full = 2 * (self.young.len() + 1) > self.limits.entries
            || 2 * (self.young_bytes + weight) > self.limits.bytes;
        if is_full {
            self.evictions += self.old.len() as u64;
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
            self.old_bytes = std::mem::take(&mut self.young_bytes);
        }
        if self.young.insert(token, verified).is_none() {
            self.young_bytes += weight;
        }
    }

    fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
        self.young_bytes = 0;
        self.old_bytes = 0;
    }
}

/// What an entry takes: the token, its identity about as long again, and the tables' own.
fn weight(token: &[u8]) -> usize {
    2 * token.len() + 256
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
mod tests {
    use super::*;
    use crate::auth::identity::Identity;
    use crate::auth::keys::Fingerprint;
    use crate::auth::name::Name;
    use crate::auth::time::UnixTime;
    use crate::auth::token::{Origin, TokenId};
    use proptest::prelude::*;

    fn verified(number: u64) -> Arc<Verified> {
        Arc::new(Verified {
            id: TokenId::of(&number.to_be_bytes()),
            identity: Identity {
                user: Name::parse_user("anna").unwrap(),
                email: "a@b".into(),
                organization: Name::parse("org").unwrap(),
            },
            origin: Origin::Ours { number },
            issued_at: UnixTime(number),
            expires_at: UnixTime(number + 1),
            not_before: None,
            key: Fingerprint([0; 32]),
            generation: 0,
        })
    }

    fn token(number: u64) -> Vec<u8> {
        format!("header.claims-{number}.signature-{number:032}").into_bytes()
    }

    fn cache(entries: usize, bytes: usize) -> Cache {
        Cache::new(CacheLimits { entries, bytes }, 1, 7)
    }

    #[test]
    fn an_entry_is_found_by_all_of_its_bytes() {
        let cache = cache(100, 1 << 20);
        cache.keep(&token(1), &verified(1));
        assert_eq!(cache.find(&token(1)), Some(verified(1)));
        // The same end, and so the same place.
        let mut forged = token(1);
        forged[0] = b'H';
        assert_eq!(cache.find(&forged), None);
        assert_eq!(cache.find(b""), None);
        assert_eq!(cache.find(&token(2)), None);
        let expected =
            CacheStatistics { entries: 1, bytes: weight(&token(1)), hits: 1, misses: 3, evictions: 0 };
        assert_eq!(cache.statistics(), expected);
    }

    #[test]
    fn what_is_asked_for_stays_and_what_is_not_goes() {
        let cache = cache(100, 1 << 20);
        for number in 0..1000 {
            cache.keep(&token(number), &verified(number));
            assert_eq!(cache.find(&token(0)), Some(verified(0)), "{number}");
        }
        let statistics = cache.statistics();
        assert!(statistics.entries <= 100, "{statistics:?}");
        assert!(statistics.evictions >= 900, "{statistics:?}");
        assert_eq!(cache.find(&token(1)), None);
    }

    #[test]
    fn bytes_are_bounded_too() {
        let each = weight(&token(0));
        let cache = cache(1000, 10 * each);
        (0..200).for_each(|number| cache.keep(&token(number), &verified(number)));
        assert!(cache.statistics().bytes <= 10 * each, "{cache:?}");
        cache.keep(&vec![b'x'; 100_000], &verified(0));
        assert!(cache.statistics().bytes <= 10 * each, "{cache:?}");
    }

    #[test]
    fn nothing_is_left_after_a_clearing() {
        let cache = cache(100, 1 << 20);
        (0..80).for_each(|number| cache.keep(&token(number), &verified(number)));
        cache.clear();
        assert_eq!((cache.statistics().entries, cache.statistics().bytes), (0, 0));
        assert_eq!(cache.find(&token(79)), None);
    }

    proptest! {
        /// Whatever is kept and asked for: an answer is the token's own, and the bounds hold.
        #[test]
        fn it_never_lies_and_never_grows(
            steps in prop::collection::vec((any::<bool>(), 0u64..60), 0..400),
            entries in 0usize..40,
        ) {
            let cache = cache(entries, 1 << 20);
            for (keep, number) in steps {
                if keep {
                    cache.keep(&token(number), &verified(number));
                } else if let Some(found) = cache.find(&token(number)) {
                    prop_assert_eq!(found, verified(number));
                }
                let statistics = cache.statistics();
                prop_assert!(statistics.entries <= entries);
                let weight: usize = {
                    let part = cache.parts[0].0.lock();
                    part.young.keys().chain(part.old.keys()).map(|token| weight(token)).sum()
                };
                prop_assert_eq!(statistics.bytes, weight);
            }
        }
    }
}
