//! What a decision costs in process: `admit` on a cache hit, at several sizes, on one thread and on two; what
//! revocations take in memory, how they grow, and how quickly they are read at a start.
//!
//! `docs/benchmarks.md` says how to read the numbers. Every case asserts its outcome before it is timed.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a bench stops at the first surprise"
)]

mod caches;
mod gates;
mod measure;

use std::sync::Arc;
use std::time::{Duration, Instant};

use ds_gateway::auth::gate::Gate;
use ds_gateway::auth::identity::Identity;
use ds_gateway::auth::name::Name;
use ds_gateway::auth::password::Phc;
use ds_gateway::auth::time::Lived;
use ds_gateway::auth::token::TokenId;
use ds_gateway::auth::token_set::{Keep, RevokedToken};
use ds_gateway::clock::Clock;
use ds_gateway::config::StorePlace;
use ds_gateway::metrics::Metrics;
use ds_gateway::store::command::{Actor, Expiry, ImportUsers, ImportedUser, NewUser, RevokeToken};
use ds_gateway::store::{Opening, Store};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use self::gates::{NOW, admit, gate, revoke, tokens};
use self::measure::{STEPS, cpu_time, nanos, ns, spread, together};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    println!("{:52} {:>12}  bar", "", "value");
    hits();
    threads();
    revocations();
    loading();
    caches::compare();
    caches::misses();
}

fn row(what: &str, value: String, bar: &str) {
    println!("{what:52} {value:>12}  {bar}");
}

/// Nanoseconds of one `admit`: what the code costs, not what the machine was doing.
fn time(gate: &Gate, tokens: &[String], pick: impl Fn(u64) -> usize) -> f64 {
    assert!(tokens.iter().all(|token| admit(gate, token)), "every token is admitted");
    nanos(|step| assert!(admit(gate, &tokens[pick(step)])))
}

fn hits() {
    let gate = gate(4_000_000, 1);
    let all = tokens(&gate, 10_000);
    row("admit, hit, 100 hot of 10 k tokens", ns(time(&gate, &all, |step| step as usize % 100)), "≤ 150 ns");
    row("admit, hit, uniform over 10 k tokens", ns(time(&gate, &all, spread(10_000))), "≤ 400 ns");
    let all = tokens(&gate, 1_000_000);
    row("admit, hit, uniform over 1 M tokens", ns(time(&gate, &all, spread(1_000_000))), "");
    revoke(&gate, 1_000_000);
    let value = time(&gate, &all, spread(1_000_000));
    row("the same with 1 M revocations", ns(value), "≤ 1,200 ns");
    let uncached = gates::gate(0, 1);
    row("admit without the cache", ns(time(&uncached, &all[..1000], |step| step as usize % 1000)), "");
}

fn threads() {
    let gate = gate(100_000, 2);
    let all = tokens(&gate, 1000);
    revoke(&gate, 100_000);
    let one = rate(&gate, &all, 1);
    let two = rate(&gate, &all, 2);
    row("two threads against one", format!("{:.2} ×", two / one), "≥ 1.8 ×");
}

/// Decisions in a second of CPU time of so many threads together, the best of five rounds. CPU time, since a
/// neighbour may have a core of the two; threads that get in each other's way need more of it.
fn rate(gate: &Gate, tokens: &[String], threads: usize) -> f64 {
    together(threads, || {
        let began = cpu_time();
        (0..STEPS).for_each(|step| assert!(admit(gate, &tokens[step as usize % 1000])));
        STEPS as f64 / (cpu_time() - began).as_secs_f64()
    })
}

fn revocations() {
    for (count, name) in [(1_000_000, "1 M"), (10_000_000, "10 M")] {
        let gate = gate(0, 1);
        let before = allocated();
        revoke(&gate, count);
        let bytes = (allocated() - before) as f64 / count as f64;
        assert_eq!(gate.snapshot().sizes().tokens as u64, count);
        row(&format!("memory per revocation at {name}"), format!("{bytes:.1} B"), "≤ 40 B");
        let mut worst = Duration::ZERO;
        for number in 0..1000 {
            let id = TokenId::of(&(count + number).to_be_bytes());
            let began = Instant::now();
            let keep = Keep::Expires(NOW.plus(86_400));
            gate.apply(|snapshot| snapshot.revoke_tokens([RevokedToken { id, keep, lived: Lived(0) }]));
            worst = worst.max(began.elapsed());
        }
        row(&format!("one more at {name}, the worst of 1,000"), format!("{worst:.0?}"), "readers never wait");
        let began = Instant::now();
        let gone = gate.apply(|snapshot| {
            snapshot.expire_below(0, Lived(1));
            snapshot.expire(0)
        });
        row(&format!("forgetting {name} that have expired"), format!("{:.0?}", began.elapsed()), "");
        assert_eq!((gone.len() as u64, gate.snapshot().sizes().tokens), (count + 1000, 0));
    }
}

/// What a start does with a store that is there: open it, check the file, read it.
fn loading() {
    for (what, of_each, fill) in [
        ("start with 1 M revocations, rows a second", 1, fill_tokens as fn(&Runtime, &Store)),
        ("start with 1 M users and their cutoffs, rows a second", 2, fill_users),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.db");
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        let store =
            Store::create(&StorePlace::Sqlite(path.clone()), Clock::start(), Arc::new(Metrics::new()))
                .unwrap();
        fill(&runtime, &store);
        drop(store);
        let best = (0..5)
            .map(|_| {
                let began = Instant::now();
                let store = Store::open(
                    &StorePlace::Sqlite(path.clone()),
                    Opening::Run,
                    Clock::start(),
                    Arc::new(Metrics::new()),
                )
                .unwrap();
                let snapshot = runtime.block_on(store.load()).unwrap();
                let took = began.elapsed();
                assert!([snapshot.sizes().tokens, snapshot.users()].contains(&(LOADED as usize)));
                (of_each * LOADED) as f64 / took.as_secs_f64()
            })
            .fold(0.0, f64::max);
        row(what, format!("{:.2} M/s", best / 1e6), "≥ 1 M/s");
    }
}

/// Adds [`LOADED`] users.
fn fill_users(runtime: &Runtime, store: &Store) {
    let phc = Phc::parse(PHC).unwrap();
    let user = |number: u64| ImportedUser {
        user: NewUser {
            identity: Identity {
                user: Name::parse_user(&format!("user-{number}")).unwrap(),
                email: "bench@example.com".into(),
                organization: Name::parse("Main Org.").unwrap(),
            },
            phc: phc.clone(),
        },
        disabled: None,
    };
    let mut next = 0;
    while next < LOADED {
        // It takes as many as a slice of time holds.
        let import =
            ImportUsers { users: (next..LOADED.min(next + 1000)).map(user).collect(), update: false };
        let outcome = runtime.block_on(store.execute(import, Actor::operator("bench", "bench"))).unwrap();
        assert!(outcome.added > 0);
        next += outcome.added as u64;
    }
}

/// Revokes [`LOADED`] tokens, as many at once as the store's queue holds.
fn fill_tokens(runtime: &Runtime, store: &Store) {
    let expiry = Expiry::At(NOW.plus(86_400));
    for first in (0..LOADED).step_by(1000) {
        runtime.block_on(async {
            let mut revocations = JoinSet::new();
            for number in first..first + 1000 {
                let (store, id) = (store.clone(), TokenId::of(&number.to_be_bytes()));
                let revoke = RevokeToken { id, expiry, user: None };
                revocations
                    .spawn(async move { store.execute(revoke, Actor::operator("bench", "bench")).await });
            }
            revocations.join_all().await.into_iter().for_each(|revoked| assert!(revoked.is_ok()));
        });
    }
}

/// Bytes that the allocator has given out.
fn allocated() -> usize {
    tikv_jemalloc_ctl::epoch::advance().unwrap();
    tikv_jemalloc_ctl::stats::allocated::read().unwrap()
}

/// Of some password; nobody asks which.
const PHC: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$TIQ1OhX3+2EnmvH2q6HF6g$9WP22MaQIB8IK9jTGde98akJ57FeIv0y81l4YicJfFM";

/// Revocations, or users, that a start reads.
const LOADED: u64 = 1_000_000;
