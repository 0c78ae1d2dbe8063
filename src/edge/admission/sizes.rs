//! A multiset that knows which of its keys it has most of.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

/// How many there are of each, and which have most.
pub(super) struct Sizes<K> {
    sizes: HashMap<K, usize>,
    order: BTreeSet<(usize, K)>,
}

impl<K> Default for Sizes<K> {
    fn default() -> Self {
        Self { sizes: HashMap::new(), order: BTreeSet::new() }
    }
}

impl<K: Copy + Eq + Hash + Ord> Sizes<K> {
    pub(super) fn size(&self, key: K) -> usize {
        self.sizes.get(&key).copied().unwrap_or(0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sizes.is_empty()
    }

    pub(super) fn heaviest(&self) -> impl Iterator<Item = (usize, K)> {
        self.order.iter().rev().copied()
    }

    pub(super) fn add(&mut self, key: K) {
        let size = self.sizes.entry(key).or_default();
        self.order.remove(&(*size, key));
        *size += 1;
        self.order.insert((*size, key));
    }

    pub(super) fn subtract(&mut self, key: K) {
        let size = self.size(key);
        self.order.remove(&(size, key));
        if size <= 1 {
            self.sizes.remove(&key);
        } else {
            self.sizes.insert(key, size - 1);
            self.order.insert((size - 1, key));
        }
    }
}
