//! Counts of attempts by key, in memory of one size whatever is counted: each count is a bucket that empties at a steady rate.
//!
//! A count-min sketch: a key has one cell in each row, and its count is the least of them. Keys that share a cell with others may
//! count more than they have, never less. Where a key lies is a secret, so that nobody can choose whom to share with.

use std::sync::atomic::{AtomicU32, Ordering};

use sha2::{Digest as _, Sha256};

/// Cells in each row, and rows: 4 MiB.
const CELLS: usize = 1 << 18;
const ROWS: usize = 4;

/// Time as the sketch counts it: sixteenths of a second since it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticks(pub(super) u32);

impl Ticks {
    /// In a second.
    pub(super) const PER_SECOND: u32 = 16;
}

/// How often something may be done: `burst` times at once, and once more each `every` ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limit {
    /// At least 1.
    pub(super) burst: u32,
    /// Ticks until one of them is forgotten.
    pub(super) every: u32,
}

impl Limit {
    /// A limit in seconds.
    pub(super) const fn new(burst: u32, every_seconds: u32) -> Self {
        Self { burst, every: every_seconds * Ticks::PER_SECOND }
    }
}

/// Where a key's count lies: a cell of each row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place([u32; ROWS]);

/// The counts. A cell holds when its bucket will be empty.
pub(super) struct Sketch {
    secret: [u8; 32],
    cells: Box<[AtomicU32]>,
}

impl Sketch {
    /// An empty one, with a secret that nobody knows.
    pub(super) fn new(secret: [u8; 32]) -> Self {
        Self { secret, cells: std::iter::repeat_with(AtomicU32::default).take(CELLS * ROWS).collect() }
    }

    /// The place of a key of several parts.
    pub(super) fn place(&self, parts: &[&[u8]]) -> Place {
        let mut hasher = Sha256::new();
        hasher.update(self.secret);
        for part in parts {
            // So that two keys whose parts are cut differently differ.
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        let digest = hasher.finalize();
        let mut numbers = digest.chunks_exact(8).map(|bytes| {
            bytes.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte)) as usize % CELLS
        });
        Place(std::array::from_fn(|row| (row * CELLS + numbers.next().unwrap_or_default()) as u32))
    }

    fn cells(&self, place: Place) -> impl Iterator<Item = &AtomicU32> {
        place.0.into_iter().filter_map(|cell| self.cells.get(cell as usize))
    }

    /// When this key's bucket will be empty.
    fn empty_at(&self, place: Place) -> u32 {
        self.cells(place).map(|cell| cell.load(Ordering::Relaxed)).min().unwrap_or_default()
    }

    /// How many of this key are counted now, rounded up.
    pub(super) fn count(&self, place: Place, limit: Limit, now: Ticks) -> u32 {
        self.empty_at(place).saturating_sub(now.0).div_ceil(limit.every)
    }

    /// How many ticks until one more is within the limit; zero if it is now.
    pub(super) fn wait(&self, place: Place, limit: Limit, now: Ticks) -> u32 {
        let full = limit.every.saturating_mul(limit.burst - 1);
        self.empty_at(place).saturating_sub(now.0).saturating_sub(full)
    }

    /// Counts so many more. Not by two threads at once: one of them might not count.
    pub(super) fn add(&self, place: Place, limit: Limit, count: u32, now: Ticks) {
        let more = limit.every.saturating_mul(count);
        let empty_at = self.empty_at(place).max(now.0).saturating_add(more);
        for cell in self.cells(place) {
            cell.fetch_max(empty_at, Ordering::Relaxed);
        }
    }

    /// Takes back what was added: the cells that hold this key's count and no larger one.
    pub(super) fn take_back(&self, place: Place, limit: Limit, count: u32) {
        let less = limit.every.saturating_mul(count);
        self.set_least(place, |empty_at| empty_at.saturating_sub(less));
    }

    /// Empties this key's bucket.
    pub(super) fn clear(&self, place: Place) {
        self.set_least(place, |_| 0);
    }

    fn set_least(&self, place: Place, change: impl Fn(u32) -> u32) {
        let least = self.empty_at(place);
        for cell in self.cells(place) {
            // A larger count is another key's too.
            let _ = cell.compare_exchange(least, change(least), Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// All that is not empty, as bytes that [`Sketch::restore`] reads.
    pub(super) fn dump(&self, now: Ticks) -> Vec<u8> {
        let mut bytes = [MAGIC.as_slice(), &self.secret].concat();
        for (number, cell) in self.cells.iter().enumerate() {
            let left = cell.load(Ordering::Relaxed).saturating_sub(now.0);
            if left > 0 {
                bytes.extend((number as u32).to_le_bytes());
                bytes.extend(left.to_le_bytes());
            }
        }
        let digest = Sha256::digest(&bytes);
        bytes.extend(digest);
        bytes
    }

    /// What was dumped, as if no time had passed since; `None` if these are no such bytes.
    pub(super) fn restore(bytes: &[u8], now: Ticks) -> Option<Self> {
        let (bytes, digest) = bytes.split_last_chunk::<32>()?;
        if Sha256::digest(bytes).as_slice() != digest {
            return None;
        }
        let (secret, cells) = bytes.strip_prefix(MAGIC)?.split_first_chunk::<32>()?;
        let sketch = Self::new(*secret);
        for pair in cells.chunks(8) {
            let (number, left) = pair.split_first_chunk::<4>()?;
            let (number, left) = (u32::from_le_bytes(*number), u32::from_le_bytes(left.try_into().ok()?));
            let cell = sketch.cells.get(number as usize)?;
            cell.store(now.0.saturating_add(left), Ordering::Relaxed);
        }
        Some(sketch)
    }

    /// Has at least what was dumped of one with the same secret; whether these are such bytes.
    pub(super) fn take_over(&self, bytes: &[u8], now: Ticks) -> bool {
        let Some(other) = Self::restore(bytes, now).filter(|other| other.secret == self.secret) else {
            return false;
        };
        for (cell, other) in self.cells.iter().zip(&other.cells) {
            let empty_at = other.load(Ordering::Relaxed);
            // Most are empty, and need no write.
            if empty_at > 0 {
                cell.fetch_max(empty_at, Ordering::Relaxed);
            }
        }
        true
    }
}

/// What a dump begins with, its version included.
const MAGIC: &[u8; 16] = b"ds-gateway login";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    const LIMIT: Limit = Limit::new(5, 10);

    fn second(seconds: u32) -> Ticks {
        Ticks(seconds * Ticks::PER_SECOND)
    }

    #[test]
    fn a_bucket_fills_and_empties() {
        let sketch = Sketch::new([1; 32]);
        let place = sketch.place(&[b"anna"]);
        for count in 0..5 {
            assert_eq!(
                (sketch.count(place, LIMIT, second(0)), sketch.wait(place, LIMIT, second(0))),
                (count, 0)
            );
            sketch.add(place, LIMIT, 1, second(0));
        }
        assert_eq!(sketch.wait(place, LIMIT, second(0)), 10 * Ticks::PER_SECOND);
        assert_eq!(sketch.wait(place, LIMIT, second(9)), Ticks::PER_SECOND);
        assert_eq!(sketch.wait(place, LIMIT, second(10)), 0);
        assert_eq!(sketch.count(place, LIMIT, second(50)), 0);
        sketch.take_back(place, LIMIT, 2);
        assert_eq!(sketch.count(place, LIMIT, second(0)), 3);
        sketch.clear(place);
        assert_eq!(sketch.count(place, LIMIT, second(0)), 0);
        assert_ne!(place, sketch.place(&[b"an", b"na"]));
        assert_ne!(place, Sketch::new([2; 32]).place(&[b"anna"]), "another secret, another place");
    }

    #[test]
    fn what_is_dumped_is_restored_and_nothing_else_is() {
        let sketch = Sketch::new([1; 32]);
        let place = sketch.place(&[b"anna"]);
        sketch.add(place, LIMIT, 3, second(100));
        let dump = sketch.dump(second(110));
        assert!(dump.len() < 200, "only what is counted");
        let restored = Sketch::restore(&dump, second(7)).expect("a dump");
        assert_eq!(restored.place(&[b"anna"]), place);
        assert_eq!(restored.count(place, LIMIT, second(7)), 2);
        for cut in 0..dump.len() {
            assert!(Sketch::restore(&dump[..cut], second(0)).is_none());
        }
        let mut other = dump;
        other[60] ^= 1;
        assert!(Sketch::restore(&other, second(0)).is_none());
    }

    proptest! {
        /// Never less than was added and has not been forgotten, whatever shares its cells; exact where nothing does.
        #[test]
        fn no_key_counts_less_than_it_has(steps in prop::collection::vec((0_u8..40, 0_u32..30, 1_u32..3), 1..200)) {
            let sketch = Sketch::new([3; 32]);
            let mut exact: HashMap<u8, u32> = HashMap::new();
            let mut now = 0;
            for (key, pause, count) in steps {
                now += pause;
                let place = sketch.place(&[&[key]]);
                sketch.add(place, LIMIT, count, Ticks(now));
                let empty_at = exact.entry(key).or_default();
                *empty_at = (*empty_at).max(now) + count * LIMIT.every;
                prop_assert_eq!(sketch.count(place, LIMIT, Ticks(now)), (*empty_at - now).div_ceil(LIMIT.every));
            }
        }
    }

    #[test]
    fn what_another_process_has_counted_is_taken_over_and_nothing_is_forgotten() {
        let limit = Limit::new(10, 60);
        let (ours, theirs) = (Sketch::new([7; 32]), Sketch::new([7; 32]));
        let [both, here, there] = ["both", "here", "there"].map(|key| ours.place(&[key.as_bytes()]));
        // Their time is another one.
        let (now, then) = (Ticks(1000), Ticks(50));
        for (sketch, place, count, time) in [
            (&ours, both, 2, now),
            (&ours, here, 3, now),
            (&theirs, both, 5, then),
            (&theirs, there, 4, then),
        ] {
            sketch.add(place, limit, count, time);
        }
        for _ in 0..2 {
            assert!(ours.take_over(&theirs.dump(then), now));
            assert_eq!([both, here, there].map(|place| ours.count(place, limit, now)), [5, 3, 4]);
        }
        let stranger = Sketch::new([8; 32]);
        assert!(!ours.take_over(&stranger.dump(then), now), "its places are others");
        assert!(!ours.take_over(b"anything", now));
    }
}
