//! Our cache beside others that could stand in its place: an exact library cache (quick_cache), a lock-free table
//! (papaya) and a table in 64 locked shards. All hash alike, so what differs is what a hit reads and writes.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ds_gateway::auth::cache::{Cache, CacheLimits};
use ds_gateway::auth::token::{TokenRules, Verified, verify};
use ds_gateway::thread_slot;
use fastrand::Rng;
use parking_lot::RwLock;

use super::gates::{gate, tokens};
use super::measure::{STEPS, cpu_time, nanos, ns, spread, together};

/// What a cache must be able to do.
trait Candidate: Send + Sync {
    fn find(&self, token: &[u8]) -> Option<Arc<Verified>>;
    fn keep(&self, token: &[u8], verified: &Arc<Verified>);
}

impl Candidate for Cache {
    fn find(&self, token: &[u8]) -> Option<Arc<Verified>> {
        Self::find(self, token)
    }

    fn keep(&self, token: &[u8], verified: &Arc<Verified>) {
        Self::keep(self, token, verified);
    }
}

type Quick = quick_cache::sync::Cache<Box<[u8]>, Arc<Verified>, quick_cache::UnitWeighter, End>;

impl Candidate for Quick {
    fn find(&self, token: &[u8]) -> Option<Arc<Verified>> {
        self.get(token)
    }

    fn keep(&self, token: &[u8], verified: &Arc<Verified>) {
        self.insert(token.into(), Arc::clone(verified));
    }
}

type LockFree = papaya::HashMap<Box<[u8]>, Arc<Verified>, End>;

/// It has no bound; it stands for what a hit would cost at best in one table for all threads.
impl Candidate for LockFree {
    fn find(&self, token: &[u8]) -> Option<Arc<Verified>> {
        self.pin().get(token).cloned()
    }

    fn keep(&self, token: &[u8], verified: &Arc<Verified>) {
        self.pin().insert(token.into(), Arc::clone(verified));
    }
}

type Shard = RwLock<HashMap<Box<[u8]>, Arc<Verified>, End>>;

/// It has no bound either.
struct Sharded(Vec<Shard>);

impl Sharded {
    fn of(&self, token: &[u8]) -> &Shard {
        &self.0[End.hash_one(token) as usize % self.0.len()]
    }
}

impl Candidate for Sharded {
    fn find(&self, token: &[u8]) -> Option<Arc<Verified>> {
        self.of(token).read().get(token).cloned()
    }

    fn keep(&self, token: &[u8], verified: &Arc<Verified>) {
        self.of(token).write().insert(token.into(), Arc::clone(verified));
    }
}

fn candidates(entries: usize, threads: usize) -> [(&'static str, Box<dyn Candidate>); 4] {
    let limits = CacheLimits { entries, bytes: 8 << 30 };
    let shards = (0..64).map(|_| RwLock::default()).collect();
    [
        ("ours", Box::new(Cache::new(limits, threads, thread_slot::current, 42))),
        (
            "quick_cache",
            Box::new(Quick::with(
                entries,
                entries as u64,
                quick_cache::UnitWeighter,
                End,
                quick_cache::sync::DefaultLifecycle::default(),
            )),
        ),
        ("papaya, unbounded", Box::new(LockFree::with_hasher(End))),
        ("64 locked shards, unbounded", Box::new(Sharded(shards))),
    ]
}

/// Prints one table.
pub(super) fn compare() {
    let gate = gate(0, 1);
    let known: Vec<(Vec<u8>, Arc<Verified>)> = tokens(&gate, LIVE)
        .into_iter()
        .map(|token| {
            let verified = verify(token.as_bytes(), &gate.keys(), &TokenRules::DEFAULT).unwrap();
            (token.into_bytes(), Arc::new(verified))
        })
        .collect();
    println!(
        "\n{:28} {:>9} {:>13} {:>12} {:>14} {:>15}",
        "a hit of the cache", "100 hot", "100 k tokens", "2 threads", "small, zipf", "small, one time"
    );
    for index in 0..4 {
        let roomy = |threads| candidates(4 * known.len(), threads).into_iter().nth(index).unwrap();
        let (name, cache) = roomy(1);
        known.iter().for_each(|(token, verified)| cache.keep(token, verified));
        let hit = |at: usize| assert!(is_found(&*cache, &known[at]));
        let hot = nanos(|step| hit(step as usize % 100));
        let spread = spread(known.len());
        let all = nanos(|step| hit(spread(step)));
        let (_, cache) = roomy(2);
        let two = rate(&*cache, &known[..1000], 2) / rate(&*cache, &known[..1000], 1);
        let small = || candidates(known.len() / 10, 1).into_iter().nth(index).unwrap().1;
        let hits = hit_ratio(&*small(), &known, 0.0);
        let scanned = hit_ratio(&*small(), &known, 0.3);
        let percent = |ratio: f64| format!("{:.1} %", 100.0 * ratio);
        println!(
            "{name:28} {:>9} {:>13} {:>12} {:>14} {:>15}",
            ns(hot),
            ns(all),
            format!("{two:.2} ×"),
            percent(hits),
            percent(scanned)
        );
    }
}

/// Prints what a token costs that comes into our cache: where it is full, with one thread and with two, and where it grows.
pub(super) fn misses() {
    let gate = gate(0, 1);
    let verified = |token: &String| verify(token.as_bytes(), &gate.keys(), &TokenRules::DEFAULT).unwrap();
    let known: Vec<(String, Arc<Verified>)> = tokens(&gate, LIVE)
        .into_iter()
        .map(|token| {
            let verified = Arc::new(verified(&token));
            (token, verified)
        })
        .collect();
    let cache = |entries: usize, threads: usize| {
        let limits = CacheLimits { entries, bytes: 8 << 30 };
        Cache::new(limits, threads, thread_slot::current, 42)
    };
    let keep = |cache: &Cache, at: usize| {
        let (token, verified) = &known[at % known.len()];
        cache.keep(token.as_bytes(), verified);
    };
    let full = |threads| {
        let cache = cache(known.len() / 10, threads);
        let rate = |threads| {
            together(threads, || {
                let began = cpu_time();
                (0..STEPS).for_each(|step| keep(&cache, step as usize));
                STEPS as f64 / (cpu_time() - began).as_secs_f64()
            })
        };
        let rate = rate(threads);
        let statistics = cache.statistics();
        assert_eq!((statistics.entries, statistics.hits), (known.len() / 10, 0));
        1e9 / (rate / threads as f64)
    };
    println!(
        "a token that comes into a full cache: {} with one thread, {} with two",
        ns(full(1)),
        ns(full(2))
    );
    // What the table takes, not what the machine was doing: of each token the best of nine rounds.
    let mut best = vec![Duration::MAX; known.len()];
    for _ in 0..9 {
        let cache = cache(known.len(), 1);
        for (at, best) in best.iter_mut().enumerate() {
            let began = Instant::now();
            keep(&cache, at);
            *best = began.elapsed().min(*best);
        }
    }
    let worst = best.iter().max().unwrap();
    println!("the worst of 100,000 tokens that come into an empty one: {worst:.0?}");
}

type Known = [(Vec<u8>, Arc<Verified>)];

fn is_found(cache: &dyn Candidate, (token, verified): &(Vec<u8>, Arc<Verified>)) -> bool {
    cache.find(black_box(token)).is_some_and(|found| found.id == verified.id)
}

/// Hits in a second of CPU time of so many threads together, the best of five rounds; see `rate` of `main`.
fn rate(cache: &dyn Candidate, known: &Known, threads: usize) -> f64 {
    together(threads, || {
        // Each thread verifies for itself.
        let verified = |verified: &Arc<Verified>| Arc::new(Verified::clone(verified));
        known.iter().for_each(|(token, known)| cache.keep(token, &verified(known)));
        let began = cpu_time();
        (0..STEPS).for_each(|step| assert!(is_found(cache, &known[step as usize % known.len()])));
        STEPS as f64 / (cpu_time() - began).as_secs_f64()
    })
}

/// Of requests whose tokens follow Zipf's law over all that are known, the share that a cache of a tenth answers; so
/// many of the requests bring a token that is never seen again.
fn hit_ratio(cache: &dyn Candidate, known: &Known, strangers: f64) -> f64 {
    let mut random = Rng::with_seed(7);
    let (regular, once) = known.split_at(known.len() / 2);
    let mut weights: Vec<f64> = (1..=regular.len()).map(|rank| 1.0 / rank as f64).collect();
    for rank in 1..weights.len() {
        weights[rank] += weights[rank - 1];
    }
    let sum = weights[weights.len() - 1];
    let (mut hits, mut asked, mut strange) = (0, 0, once.iter().cycle());
    for step in 0..STEPS {
        if random.f64() < strangers {
            let (token, verified) = strange.next().unwrap();
            if cache.find(token).is_none() {
                cache.keep(token, verified);
            }
            continue;
        }
        let drawn = random.f64() * sum;
        let entry @ (token, verified) = &regular[weights.partition_point(|weight| *weight < drawn)];
        let is_hit = is_found(cache, entry);
        if !is_hit {
            cache.keep(token, verified);
        }
        // The first fifth fills it.
        if step > STEPS / 5 {
            asked += 1;
            hits += u64::from(is_hit);
        }
    }
    hits as f64 / f64::from(asked)
}

/// Hashes by the last sixteen bytes, as our cache does.
#[derive(Clone, Copy, Default)]
struct End;

impl BuildHasher for End {
    type Hasher = EndHasher;

    fn build_hasher(&self) -> EndHasher {
        EndHasher(42)
    }
}

struct EndHasher(u64);

impl Hasher for EndHasher {
    fn write(&mut self, bytes: &[u8]) {
        const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
        if let Some(tail) = bytes.last_chunk::<16>() {
            for part in tail.chunks_exact(8) {
                let wide =
                    u128::from(self.0 ^ u64::from_le_bytes(part.try_into().unwrap())) * u128::from(ODD);
                self.0 = wide as u64 ^ (wide >> 64) as u64;
            }
        }
    }

    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Tokens that are live.
const LIVE: u64 = 100_000;
