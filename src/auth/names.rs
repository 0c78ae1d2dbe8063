//! A map from names that is cheap to copy and to change: the replica replaces the snapshot whole at each
//! change, and must not copy what did not change.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

/// Values by name, in shards that copies share until one of them changes its own.
#[derive(Clone, Debug)]
pub struct Names<V> {
    shards: Box<[Arc<Shard<V>>]>,
}

type Shard<V> = HashMap<Box<str>, V, Folded>;

impl<V> Default for Names<V> {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Arc::default()).collect() }
    }
}

impl<V: Clone> Names<V> {
    /// The value of that name.
    pub fn get(&self, name: &str) -> Option<&V> {
        self.shards.get(place(name))?.get(name)
    }

    /// The value of that name, to be changed; made if there is none.
    pub fn entry(&mut self, name: Box<str>) -> Option<&mut V>
    where
        V: Default,
    {
        let shard = self.shards.get_mut(place(&name))?;
        Some(Arc::make_mut(shard).entry(name).or_default())
    }

    /// Sets the value of that name; says which it had.
    pub fn insert(&mut self, name: Box<str>, value: V) -> Option<V> {
        let shard = self.shards.get_mut(place(&name))?;
        Arc::make_mut(shard).insert(name, value)
    }

    /// Forgets that name; says which value it had.
    pub fn remove(&mut self, name: &str) -> Option<V> {
        let shard = self.shards.get_mut(place(name)).filter(|shard| shard.contains_key(name))?;
        Arc::make_mut(shard).remove(name)
    }

    /// Forgets every name of one shard, `0..SHARDS`, whose value is not to be kept, and shows each of those.
    pub fn retain(&mut self, shard: usize, keep: impl Fn(&str, &V) -> bool, mut forgotten: impl FnMut(&V)) {
        let Some(shard) = self.shards.get_mut(shard) else { return };
        if shard.iter().any(|(name, value)| !keep(name, value)) {
            Arc::make_mut(shard).retain(|name, value| {
                let stays = keep(name, value);
                if !stays {
                    forgotten(value);
                }
                stays
            });
        }
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &V)> {
        self.shards.iter().flat_map(|shard| shard.iter()).map(|(name, value)| (&**name, value))
    }

    /// How many names there are.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.len()).sum()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn place(name: &str) -> usize {
    // The table inside uses the low bits, and tells names apart by the seven highest: of a shard, those must differ.
    (Folded.hash_one(name) >> 40) as usize % SHARDS
}

/// Quick and without a seed: the names are those that an operator gave, not those that a client sends.
#[derive(Clone, Copy, Debug, Default)]
struct Folded;

impl BuildHasher for Folded {
    type Hasher = FoldedHasher;

    fn build_hasher(&self) -> FoldedHasher {
        FoldedHasher(0)
    }
}

struct FoldedHasher(u64);

impl Hasher for FoldedHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (chunks, rest) = bytes.as_chunks::<8>();
        chunks.iter().for_each(|chunk| self.0 = fold(self.0, u64::from_le_bytes(*chunk)));
        let tail = rest.iter().fold(0, |tail, byte| tail << 8 | u64::from(*byte));
        self.0 = fold(self.0, tail ^ (bytes.len() as u64) << 56);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// One round of folded multiplication: both halves of a wide product, so that every bit counts.
pub(super) fn fold(state: u64, part: u64) -> u64 {
    /// The golden ratio in 64 bits, as in Fibonacci hashing.
    const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
    let wide = u128::from(state ^ part ^ MULTIPLIER) * u128::from(MULTIPLIER);
    (wide as u64) ^ ((wide >> 64) as u64)
}

/// Into how many parts the names are divided.
pub const SHARDS: usize = 64;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn copies_are_apart_and_share_what_did_not_change() {
        let mut one = Names::<u32>::default();
        for number in 0..1000 {
            one.insert(format!("user-{number}").into(), number);
        }
        let mut two = one.clone();
        *two.entry("user-7".into()).unwrap() = 77;
        two.remove("user-8");
        assert_eq!((one.get("user-7"), two.get("user-7")), (Some(&7), Some(&77)));
        assert_eq!((one.get("user-8"), two.get("user-8")), (Some(&8), None));
        assert_eq!((one.len(), two.len()), (1000, 999));
        let shared = one.shards.iter().zip(&two.shards).filter(|(one, two)| Arc::ptr_eq(one, two));
        assert!(shared.count() >= SHARDS - 2);
        (0..SHARDS).for_each(|shard| two.retain(shard, |_, value| value % 2 == 0, |_| ()));
        assert!(two.len() < 502 && one.len() == 1000);
    }

    #[test]
    fn names_are_spread() {
        let mut names = Names::<()>::default();
        for number in 0..6400 {
            names.insert(format!("{number}").into(), ());
        }
        let sizes = names.shards.iter().map(|shard| shard.len());
        assert!(sizes.clone().min() > Some(40) && sizes.max() < Some(200));
        // Within a shard the table tells names apart by the highest bits before it compares them.
        let tags = |shard: &Shard<()>| {
            shard.keys().map(|name| Folded.hash_one(name) >> 57).collect::<HashSet<u64>>().len()
        };
        assert!(names.shards.iter().all(|shard| tags(shard) > 20));
    }
}
