//! The set of revoked tokens: exact, small, and never in a reader's way.
//!
//! Tokens are filed by the hour in which they expire, and a question about a token knows that hour, so one
//! drawer is looked at and a drawer is thrown away whole once its tokens are dead. Inside, TokenIds (bits of
//! SHA-256, so already spread evenly) lie sorted in 256 shards. A shard is replaced, never changed: a reader
//! sees the old or the new one and waits for neither. 16 bytes a token, at every size.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::shared::ArcSwap;
use super::time::UnixTime;
use super::token::TokenId;

/// Revoked tokens. Clones share what they hold: the set only grows, until [`TokenSet::expire`].
#[derive(Clone, Debug, Default)]
pub struct TokenSet {
    /// By the hour of their expiry.
    dated: BTreeMap<u64, Arc<Drawer>>,
    /// Those whose expiry nobody knew, by the hour until which they are kept.
    undated: BTreeMap<u64, Arc<Drawer>>,
}

/// How long a revoked token is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Keep {
    /// It expires at that moment.
    Expires(UnixTime),
    /// Its expiry is not known; by that moment it has expired for certain.
    Until(UnixTime),
}

impl TokenSet {
    /// Was the token `id`, which expires at `expires_at`, revoked?
    pub fn contains(&self, id: TokenId, expires_at: UnixTime) -> bool {
        self.dated.get(&hour_of(expires_at)).is_some_and(|drawer| drawer.contains(id))
            || self.undated.values().any(|drawer| drawer.contains(id))
    }

    /// Adds tokens. Adding one twice changes nothing.
    pub fn extend(&mut self, tokens: impl IntoIterator<Item = (TokenId, Keep)>) {
        let mut filed: HashMap<(Keep, u8), Vec<TokenId>> = HashMap::new();
        for (id, keep) in tokens {
            let hour = match keep {
                Keep::Expires(moment) => Keep::Expires(UnixTime(hour_of(moment))),
                Keep::Until(moment) => Keep::Until(UnixTime(hour_of(moment))),
            };
            filed.entry((hour, shard_of(id))).or_default().push(id);
        }
        for ((hour, shard), ids) in filed {
            let (drawers, hour) = match hour {
                Keep::Expires(hour) => (&mut self.dated, hour),
                Keep::Until(hour) => (&mut self.undated, hour),
            };
            drawers.entry(hour.0).or_default().extend(shard, ids);
        }
    }

    /// Throws away what expired a day before `now`, and what need not be kept longer. A day, since a clock may
    /// have been ahead. The memory is freed by whoever drops the returned set, away from the readers.
    pub fn expire(&mut self, now: UnixTime) -> Self {
        let kept = self.dated.split_off(&hour_of(now.minus(24 * 3600)));
        let undated = self.undated.split_off(&hour_of(now));
        Self {
            dated: std::mem::replace(&mut self.dated, kept),
            undated: std::mem::replace(&mut self.undated, undated),
        }
    }

    /// How many tokens there are.
    pub fn len(&self) -> usize {
        self.dated.values().chain(self.undated.values()).map(|drawer| drawer.len()).sum()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The tokens that expire in one hour.
#[derive(Debug)]
struct Drawer {
    shards: Box<[ArcSwap<Vec<TokenId>>]>,
}

impl Default for Drawer {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| ArcSwap::default()).collect() }
    }
}

impl Drawer {
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
        shard.store(Arc::new(new));
    }

    fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.load().len()).sum()
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

fn hour_of(moment: UnixTime) -> u64 {
    moment.0 / 3600
}

fn shard_of(id: TokenId) -> u8 {
    id.0[0]
}

const SHARDS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sha2::{Digest, Sha256};
    use std::collections::HashSet;

    fn id(number: u64) -> TokenId {
        TokenId::of(&number.to_be_bytes())
    }

    #[test]
    fn what_was_added_is_found_and_nothing_else() {
        let mut set = TokenSet::default();
        let at = UnixTime(1_700_000_000);
        set.extend((0..20_000).map(|number| (id(number), Keep::Expires(at))));
        assert_eq!(set.len(), 20_000);
        for number in 0..20_000 {
            assert!(set.contains(id(number), at));
            assert!(!set.contains(id(number + 20_000), at));
        }
        // The hour is part of the question, and a token has one.
        assert!(!set.contains(id(1), at.plus(3600)));
        set.extend([(id(77_777), Keep::Until(at))]);
        assert!(set.contains(id(77_777), at) && set.contains(id(77_777), UnixTime(5)));
    }

    #[test]
    fn what_expired_goes_and_the_rest_stays() {
        const DAY: u64 = 24 * 3600;
        let mut set = TokenSet::default();
        set.extend((0..100).map(|number| (id(number), Keep::Expires(UnixTime(DAY + number * 360)))));
        set.extend([(id(1000), Keep::Until(UnixTime(2 * DAY + 9 * 3600)))]);
        let gone = set.expire(UnixTime(2 * DAY + 5 * 3600));
        assert_eq!((gone.len(), set.len()), (50, 51));
        assert!(!set.contains(id(49), UnixTime(DAY + 49 * 360)));
        assert!(set.contains(id(50), UnixTime(DAY + 50 * 360)));
        assert!(set.contains(id(1000), UnixTime(0)));
        set.expire(UnixTime(2 * DAY + 10 * 3600));
        assert!(!set.contains(id(1000), UnixTime(0)));
    }

    #[test]
    fn ids_that_are_not_spread_are_found_too() {
        let mut set = TokenSet::default();
        let clustered = |number: u16| {
            let mut bytes = [0; 16];
            bytes[14..].copy_from_slice(&number.to_be_bytes());
            TokenId(bytes)
        };
        set.extend((0..5000).map(|number| (clustered(number * 2), Keep::Expires(UnixTime(0)))));
        for number in 0..10_000 {
            assert_eq!(set.contains(clustered(number), UnixTime(0)), number % 2 == 0, "{number}");
        }
    }

    proptest! {
        /// In any order, in any portions, with repetition: the set is what a naive set is.
        #[test]
        fn it_is_a_set(portions in prop::collection::vec(prop::collection::vec(0u64..400, 0..60), 0..12)) {
            let mut set = TokenSet::default();
            let mut naive = HashSet::new();
            let when = |number: u64| UnixTime(number % 7 * 3600);
            for portion in portions {
                set.extend(portion.iter().map(|&number| (id(number), Keep::Expires(when(number)))));
                naive.extend(portion);
            }
            prop_assert_eq!(set.len(), naive.len());
            for number in 0..400 {
                prop_assert_eq!(set.contains(id(number), when(number)), naive.contains(&number));
            }
        }
    }

    #[test]
    fn a_token_id_is_spread_over_all_shards() {
        let digest = Sha256::digest(b"x");
        assert_eq!(TokenId::of(b"x").0[..], digest[..16]);
        let shards: HashSet<u8> = (0..5000).map(|number| shard_of(id(number))).collect();
        assert_eq!(shards.len(), SHARDS);
    }
}
