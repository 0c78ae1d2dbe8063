//! The gate under the orders in which its threads can take their steps, by loom: an acknowledged revocation is in
//! force for each request that starts after it, whatever enters the cache meanwhile, and no writer undoes another.
//!
//! `make model` runs these. Orders with more interruptions than [`PREEMPTIONS`] are left to `make test-long`, which sets
//! `LOOM_MAX_PREEMPTIONS=0`; loom reads the variable. All threads share one shard of the cache, which is harder than the shards of their own that
//! they have in a gateway; where shards take room from each other, they have those. Taking a pointer and replacing it are one step each here; that arc-swap keeps to this is its
//! own matter.

use core::time::Duration;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use loom::sync::atomic::AtomicBool;
use loom::thread::{self, JoinHandle};

use super::cache::{Cache, CacheLimits};
use super::denial::Denial;
use super::gate::{ClockReading, Gate, TokenField};
use super::identity::Identity;
use super::keys::{Algorithm, Key, KeySet};
use super::name::Name;
use super::revocation::{Cutoff, RevocationSnapshot, Subject};
use super::secret::Secret;
use super::time::{Lived, UnixTime};
use super::token::{TokenId, TokenRules, mint, verify};
use super::token_set::{Keep, RevokedToken};

const NOW: UnixTime = UnixTime(1_700_000_000);
const READING: ClockReading = ClockReading { now: NOW, uptime: Duration::ZERO };

fn key(kid: &str) -> Key {
    let secret = Secret::new(format!("{kid} 0123456789abcdefghijklmnopqrstuvwxyz").into_bytes());
    Key::new(kid, Algorithm::Hs256, &secret, false).unwrap()
}

fn gate(entries: usize) -> Arc<Gate> {
    gate_with(Cache::new(CacheLimits { entries, bytes: 1 << 20 }, 1, || 0, 0))
}

fn gate_with(cache: Cache) -> Arc<Gate> {
    let key_set = KeySet::new(vec![key("k")]).unwrap();
    Arc::new(Gate::new(
        key_set,
        TokenRules::DEFAULT,
        cache,
        Duration::MAX,
        RevocationSnapshot::default(),
        Duration::ZERO,
    ))
}

/// A token, made without a gate: it is the same in each order.
struct Token {
    text: String,
    id: TokenId,
    user: &'static str,
}

impl Token {
    fn of(user: &'static str, number: u64) -> Arc<Self> {
        let identity = Identity {
            user: Name::parse_user(user).unwrap(),
            email: "someone@example.com".into(),
            organization: Name::parse("Main Org.").unwrap(),
        };
        let minted = mint(&identity, number, [1; 16], NOW, &TokenRules::DEFAULT, &key("k")).unwrap();
        Arc::new(Self { text: minted.token, id: minted.id, user })
    }

    /// What the store would say of its revocation.
    fn revocation(&self) -> [RevokedToken; 1] {
        [RevokedToken { id: self.id, keep: Keep::Expires(NOW.plus(86_400)), lived: Lived(1) }]
    }

    fn revoke(&self, gate: &Gate) {
        gate.apply(|snapshot| snapshot.revoke_tokens(self.revocation()));
    }

    /// The verdict, and that a permit is this token's own.
    fn admit(&self, gate: &Gate) -> Result<(), Denial> {
        let permit = gate.admit(TokenField::One(self.text.as_bytes()), READING)?;
        assert_eq!(permit.identity().user.as_str(), self.user);
        Ok(())
    }
}

/// The acknowledgement that a client or a command waits for.
#[derive(Clone)]
struct Acknowledged(Arc<AtomicBool>);

impl Acknowledged {
    fn new() -> Self {
        Self(Arc::new(AtomicBool::new(false)))
    }

    fn give(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn is_given(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// What was seen over all orders: that each thing which can happen did.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<BTreeSet<String>>>);

impl Seen {
    fn note(&self, what: impl std::fmt::Debug) {
        self.0.lock().unwrap().insert(format!("{what:?}"));
    }

    #[track_caller]
    fn all(&self, expected: &[&str]) {
        let seen = self.0.lock().unwrap();
        assert_eq!(seen.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    }
}

fn in_every_order(scene: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = match builder.preemption_bound {
        None => Some(PREEMPTIONS),
        Some(0) => None,
        bound => bound,
    };
    builder.max_branches = 100_000;
    let (scene, orders) = (Arc::new(scene), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&orders);
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        let scene = Arc::clone(&scene);
        spawn(move || scene()).join().unwrap();
    });
    assert!(orders.load(Ordering::Relaxed) > 100, "the threads of a scene meet in many orders");
}

/// A thread of a model, with a stack on which a token can be verified without optimisation.
fn spawn(work: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    thread::Builder::new().stack_size(STACK).spawn(work).unwrap()
}

/// How often threads are interrupted in one order, unless told otherwise: seconds instead of minutes. By loom's own
/// documentation two or three show most races.
const PREEMPTIONS: usize = 4;

/// In words.
const STACK: usize = 64 * 1024;

/// Two requests of one thread, the first of which brings the token into the cache, beside the end of that token.
fn no_request_after_the_acknowledgement(end: fn(&Token, &Gate), denial: Denial) {
    let token = Token::of("anna", 5);
    let seen = Seen::default();
    let noted = seen.clone();
    in_every_order(move || {
        let (gate, over) = (gate(4), Acknowledged::new());
        let request = {
            let (gate, token, over, seen) =
                (Arc::clone(&gate), Arc::clone(&token), over.clone(), noted.clone());
            spawn(move || {
                for _ in 0..2 {
                    let is_over = over.is_given();
                    let verdict = token.admit(&gate);
                    assert!(verdict == Ok(()) || verdict == Err(denial), "{verdict:?}");
                    assert!(
                        !(is_over && verdict.is_ok()),
                        "a request after the acknowledgement was admitted"
                    );
                    seen.note((is_over, verdict.is_ok()));
                }
            })
        };
        end(&token, &gate);
        over.give();
        assert_eq!(token.admit(&gate), Err(denial));
        request.join().unwrap();
        assert_eq!(token.admit(&gate), Err(denial));
    });
    seen.all(&["(false, false)", "(false, true)", "(true, false)"]);
}

#[test]
fn a_token_that_enters_the_cache_while_it_is_revoked_is_refused_after_the_acknowledgement() {
    no_request_after_the_acknowledgement(Token::revoke, Denial::RevokedToken);
}

#[test]
fn so_it_is_when_a_cutoff_ends_it() {
    let end = |_: &Token, gate: &Gate| {
        let cutoff = Cutoff { sequence: 9, time: NOW, lived: Lived(0), blocked: false, revocation: true };
        gate.apply_cutoffs(&[(Subject::User("anna".into()), cutoff)]);
    };
    no_request_after_the_acknowledgement(end, Denial::RevokedUser);
}

#[test]
fn so_it_is_when_its_key_is_revoked_or_leaves_the_key_set() {
    let revoke = |_: &Token, gate: &Gate| {
        let fingerprint = key("k").fingerprint();
        gate.apply(|snapshot| snapshot.revoke_key(fingerprint));
    };
    no_request_after_the_acknowledgement(revoke, Denial::RevokedKey);
    // What was verified under the old key set may still be on its way into the cache.
    let replace = |_: &Token, gate: &Gate| gate.replace_keys(KeySet::new(vec![key("other")]).unwrap());
    no_request_after_the_acknowledgement(replace, Denial::TokenKey);
}

#[test]
fn no_writer_undoes_another() {
    let [one, other, third] =
        [("anna", 5), ("bert", 6), ("carl", 7)].map(|(user, number)| Token::of(user, number));
    in_every_order(move || {
        let gate = gate(0);
        // What a DELETE does …
        let delete = {
            let (gate, one) = (Arc::clone(&gate), Arc::clone(&one));
            spawn(move || {
                one.revoke(&gate);
                assert_eq!(one.admit(&gate), Err(Denial::RevokedToken));
            })
        };
        // … beside the replica, which reads another token's revocation and a cutoff, …
        let replica = {
            let (gate, other) = (Arc::clone(&gate), Arc::clone(&other));
            spawn(move || {
                let cutoff =
                    Cutoff { sequence: 9, time: NOW, lived: Lived(0), blocked: false, revocation: true };
                let read = gate.update(|snapshot| {
                    snapshot.revoke_tokens(other.revocation());
                    snapshot.apply_cutoff(Subject::User("carl".into()), cutoff);
                    snapshot.advance(9);
                    Ok::<_, ()>(())
                });
                assert_eq!(read, Ok(()));
            })
        };
        // … while what has expired is thrown away.
        drop(gate.apply(|snapshot| snapshot.expire(0)));
        delete.join().unwrap();
        replica.join().unwrap();
        assert_eq!(one.admit(&gate), Err(Denial::RevokedToken));
        assert_eq!(other.admit(&gate), Err(Denial::RevokedToken));
        assert_eq!(third.admit(&gate), Err(Denial::RevokedUser));
        assert_eq!(gate.sequence(), 9);
    });
}

#[test]
fn a_cache_too_small_for_its_tokens_gives_each_its_own() {
    let tokens = [Token::of("anna", 5), Token::of("bert", 6)];
    let seen = Seen::default();
    let noted = seen.clone();
    in_every_order(move || {
        let gate = gate(1);
        let threads = tokens.clone().map(|token| {
            let gate = Arc::clone(&gate);
            spawn(move || {
                assert_eq!(token.admit(&gate), Ok(()));
                assert_eq!(token.admit(&gate), Ok(()));
            })
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let statistics = gate.cache().statistics();
        assert_eq!(statistics.entries, 1);
        noted.note(statistics.evictions);
    });
    seen.all(&["1", "2", "3"]);
}

loom::thread_local! {
    /// The shard that a thread uses.
    static SHARD: Cell<usize> = Cell::new(0);
}

/// Threads with shards of their own, each with tokens of its own, and one token of room for all.
#[test]
fn shards_that_take_room_from_each_other_wait_for_nobody_and_share_one_total() {
    let tokens = [Token::of("anna", 5), Token::of("bert", 6)];
    let seen = Seen::default();
    let noted = seen.clone();
    in_every_order(move || {
        let slot = || SHARD.with(Cell::get);
        let gate = gate_with(Cache::new(CacheLimits { entries: 1, bytes: 1 << 20 }, 2, slot, 0));
        let threads = [0, 1].map(|shard| {
            let (gate, token) = (Arc::clone(&gate), Arc::clone(&tokens[shard]));
            spawn(move || {
                SHARD.with(|own| own.set(shard));
                assert_eq!(token.admit(&gate), Ok(()));
                assert_eq!(token.admit(&gate), Ok(()));
            })
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let statistics = gate.cache().statistics();
        assert!(statistics.entries <= 1, "{statistics:?}");
        noted.note((statistics.entries, statistics.evictions));
    });
    seen.all(&["(1, 1)", "(1, 2)", "(1, 3)"]);
}

/// Both may find room for it, and one of them finds it kept already.
#[test]
fn two_threads_that_bring_one_token_into_a_shard_take_room_for_it_once() {
    let token = Token::of("anna", 5);
    let key_set = KeySet::new(vec![key("k")]).unwrap();
    let verified = Arc::new(verify(token.text.as_bytes(), &key_set, &TokenRules::DEFAULT).unwrap());
    let seen = Seen::default();
    let noted = seen.clone();
    in_every_order(move || {
        let slot = || SHARD.with(Cell::get);
        let cache = Arc::new(Cache::new(CacheLimits { entries: 4, bytes: 1 << 20 }, 3, slot, 0));
        let keep = {
            let (cache, verified) = (Arc::clone(&cache), Arc::clone(&verified));
            move |shard: usize, token: &str| {
                SHARD.with(|own| own.set(shard));
                cache.keep(token.as_bytes(), &verified);
            }
        };
        [(1, "a"), (1, "b"), (2, "c"), (2, "d")].into_iter().for_each(|(shard, token)| keep(shard, token));
        let threads = [keep.clone(), keep.clone()].map(|keep| spawn(move || keep(0, "one")));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        noted.note(cache.statistics().entries);
        keep(0, "other");
        assert_eq!(cache.statistics().entries, 4, "nothing of the total is lost");
    });
    seen.all(&["3", "4"]);
}
