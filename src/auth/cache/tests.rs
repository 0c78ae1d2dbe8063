use super::shard::PATIENCE;
use super::*;
use crate::auth::identity::Identity;
use crate::auth::keys::Fingerprint;
use crate::auth::name::Name;
use crate::auth::time::UnixTime;
use crate::auth::token::{Origin, TokenId};
use proptest::prelude::*;
use std::cell::Cell;
use std::thread;

thread_local! {
    /// The shard that this thread uses.
    static SLOT: Cell<usize> = const { Cell::new(0) };
}

fn verified(number: u64) -> Arc<Verified> {
    let identity = Identity {
        user: Name::parse_user("anna").unwrap(),
        email: "a@b".into(),
        organization: Name::parse("org").unwrap(),
    };
    Arc::new(Verified {
        id: TokenId::of(&number.to_be_bytes()),
        folded_email: None,
        fields: identity.fields().unwrap(),
        identity,
        origin: Origin::Ours { sequence: number },
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
    shared(entries, bytes, 1)
}

fn shared(entries: usize, bytes: usize, shards: usize) -> Cache {
    Cache::new(CacheLimits { entries, bytes }, shards, || SLOT.get(), 7)
}

impl Cache {
    /// What the gate does with a token that holds, as the worker of a shard: was it known?
    fn ask(&self, shard: usize, token: &[u8], number: u64) -> bool {
        SLOT.set(shard);
        match self.find(token) {
            Some(found) => assert_eq!(found, verified(number)),
            None => {
                self.keep(token, &verified(number));
                return false;
            }
        }
        true
    }

    fn find_in(&self, shard: usize, token: &[u8]) -> Option<Arc<Verified>> {
        SLOT.set(shard);
        self.find(token)
    }

    fn sizes(&self) -> Vec<Size> {
        self.shards.iter().map(|Padded(shard)| shard.lock().size()).collect()
    }

    fn evictions(&self) -> Vec<u64> {
        self.shards.iter().map(|Padded(shard)| shard.lock().evictions).collect()
    }

    fn entries(&self) -> Vec<usize> {
        self.sizes().iter().map(|size| size.entries).collect()
    }

    fn taken(&self) -> Size {
        self.total.0.lock().taken()
    }
}

fn sum(sizes: &[Size]) -> Size {
    sizes.iter().fold(Size::NONE, |sum, size| sum + *size)
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
        CacheStatistics { entries: 1, bytes: Size::of(&token(1)).bytes, hits: 1, misses: 3, evictions: 0 };
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
fn tokens_that_come_once_do_not_drive_out_those_in_use() {
    let cache = cache(100, 1 << 20);
    let in_use = || (0..90).map(token);
    (0..90).for_each(|number| cache.keep(&token(number), &verified(number)));
    for number in 90..5000 {
        cache.keep(&token(number), &verified(number));
        if number % 10 == 0 {
            assert!(in_use().all(|token| cache.find(&token).is_some()), "{number}");
        }
    }
}

#[test]
fn where_all_are_in_use_a_new_one_finds_room_all_the_same() {
    let entries = 2 * PATIENCE as u64;
    let cache = cache(2 * PATIENCE, 1 << 30);
    (0..entries).for_each(|number| cache.keep(&token(number), &verified(number)));
    for number in entries..entries + 5 {
        assert!(
            (0..entries).filter(|&number| cache.find(&token(number)).is_some()).count() >= 2 * PATIENCE - 5
        );
        cache.keep(&token(number), &verified(number));
        assert_eq!(cache.find(&token(number)), Some(verified(number)));
    }
    assert_eq!(cache.statistics().evictions, 5);
}

#[test]
fn bytes_are_bounded_too() {
    let each = Size::of(&token(0)).bytes;
    let cache = cache(1000, 10 * each);
    (0..200).for_each(|number| cache.keep(&token(number), &verified(number)));
    assert!(cache.statistics().bytes <= 10 * each, "{cache:?}");
    cache.keep(&vec![b'x'; 100_000], &verified(0));
    assert!(cache.statistics().bytes <= 10 * each, "{cache:?}");
}

#[test]
fn memory_is_taken_as_tokens_come_and_given_back_when_they_have_gone() {
    let cache = shared(10_000, 1 << 30, 2);
    let capacity = |shard: usize| cache.shards[shard].0.lock().capacity();
    assert_eq!((capacity(0), capacity(1)), (0, 0));
    (0..10_000).for_each(|number| assert!(!cache.ask(0, &token(number), number)));
    assert!((10_000..40_000).contains(&capacity(0)), "{}", capacity(0));
    assert_eq!(capacity(1), 0);
    (10_000..60_000).for_each(|number| assert!(!cache.ask(1, &token(number), number)));
    assert!(cache.entries()[0] < 8, "{cache:?}");
    assert!(capacity(0) < 200, "{}", capacity(0));
}

#[test]
fn a_worker_has_the_whole_cache_while_it_is_alone() {
    let cache = shared(1000, 1 << 30, 64);
    (0..1000).for_each(|number| assert!(!cache.ask(5, &token(number), number)));
    (0..1000).for_each(|number| assert!(cache.ask(5, &token(number), number)));
    assert_eq!(cache.statistics().evictions, 0);
}

#[test]
fn one_token_takes_room_in_each_shard_that_has_it() {
    let cache = shared(100, 1 << 20, 4);
    (0..4).for_each(|shard| assert!(!cache.ask(shard, &token(1), 1)));
    (0..4).for_each(|shard| assert!(cache.ask(shard, &token(1), 1)));
    assert_eq!(cache.statistics().entries, 4);
}

#[test]
fn a_worker_that_begins_late_gets_its_fair_share_from_the_one_that_has_more() {
    let cache = shared(400, 1 << 30, 4);
    (0..400).for_each(|number| assert!(!cache.ask(0, &token(number), number)));
    for number in 1000..1100 {
        // All of the first one's tokens are in use.
        (0..400).for_each(|number| drop(cache.find_in(0, &token(number))));
        cache.ask(1, &token(number), number);
    }
    assert_eq!(cache.entries(), [300, 100, 0, 0]);
    (1000..1100).for_each(|number| assert!(cache.ask(1, &token(number), number)));
}

#[test]
fn a_busy_worker_gets_what_idle_ones_hold() {
    let cache = shared(400, 1 << 30, 4);
    for shard in 0..4_u64 {
        (shard * 1000..shard * 1000 + 100)
            .for_each(|number| assert!(!cache.ask(shard as usize, &token(number), number)));
    }
    assert_eq!(cache.entries(), [100; 4]);
    // Three times its fair share, again and again.
    let round = || (0..300).filter(|number| cache.ask(0, &token(*number), *number)).count();
    let rounds: Vec<usize> = (0..20).map(|_| round()).collect();
    assert_eq!(rounds.last(), Some(&300), "{rounds:?}");
    // An idle one that comes back has its fair share at once, though the other goes on.
    for number in 5000..5100 {
        cache.ask(3, &token(number), number);
        cache.ask(0, &token(number), number);
    }
    let found = (5000..5100).filter(|number| cache.ask(3, &token(*number), *number)).count();
    assert_eq!(found, 100, "{cache:?}");
}

#[test]
fn a_worker_that_is_in_use_keeps_its_fair_share_while_others_want_more() {
    let cache = shared(200, 1 << 30, 2);
    (0..100).for_each(|number| assert!(!cache.ask(0, &token(number), number)));
    for number in 1000..10_000 {
        cache.ask(1, &token(number), number);
        // Seldom, and always the same one of its tokens: the others are cold.
        if number % 50 == 0 {
            assert!(cache.ask(0, &token(0), 0));
        }
    }
    assert_eq!(cache.entries(), [100, 100]);
}

#[test]
fn tokens_that_come_once_take_nothing_that_others_use_above_their_fair_share() {
    let cache = shared(200, 1 << 30, 2);
    (0..180).for_each(|number| assert!(!cache.ask(0, &token(number), number)));
    for number in 1000..10_000 {
        cache.ask(1, &token(number), number);
        if number < 1080 || number % 10 == 0 {
            (0..100).for_each(|number| assert!(cache.ask(0, &token(number), number), "{number}"));
        }
    }
}

#[test]
fn one_that_is_longer_than_a_fair_share_lets_nobody_go() {
    let each = Size::of(&token(0)).bytes;
    let cache = shared(1000, 20 * each, 2);
    let long = vec![b'x'; 6 * each];
    assert!(!cache.ask(0, &long, 0));
    assert!(cache.ask(0, &long, 0), "there is room");
    let cache = shared(1000, 20 * each, 2);
    for shard in [0, 1] {
        (0..10).for_each(|number| assert!(!cache.ask(shard, &token(number), number)));
    }
    assert!(!cache.ask(0, &long, 0) && !cache.ask(0, &long, 0));
    assert_eq!((cache.entries(), cache.statistics().evictions), (vec![10, 10], 0));
}

#[test]
fn a_long_token_gets_its_room_from_those_that_have_more_than_their_share() {
    let each = Size::of(&token(0)).bytes;
    let cache = shared(1000, 40 * each, 4);
    (0..33).for_each(|number| assert!(!cache.ask(0, &token(number), number)));
    (0..7).for_each(|number| assert!(!cache.ask(1, &token(number), number)));
    // It is as long as five, and the second shard has three of its share left.
    let long = vec![b'x'; (5 * each - 512) / 2];
    assert!(!cache.ask(1, &long, 0) && cache.ask(1, &long, 0));
    assert!(cache.evictions()[1] <= 3, "{:?}", cache.evictions());
    assert!(cache.evictions()[0] >= 2, "{:?}", cache.evictions());
}

#[test]
fn threads_never_exceed_the_total_and_account_for_all_of_it() {
    let each = Size::of(&token(0)).bytes;
    let limits = CacheLimits { entries: 50, bytes: 40 * each };
    let cache = Cache::new(limits, 3, || SLOT.get(), 7);
    thread::scope(|scope| {
        // Two of them in one shard.
        for slot in 0..4 {
            let cache = &cache;
            scope.spawn(move || {
                for step in 0..5000_u64 {
                    let number = step * (slot + 3) % 60;
                    cache.ask(slot as usize, &token(number), number);
                    assert!(cache.taken().fits(limits), "{:?}", cache.taken());
                }
            });
        }
    });
    assert_eq!(cache.taken(), sum(&cache.sizes()));
    assert!(cache.statistics().entries > 30, "{cache:?}");
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
            let [table, order] = cache.shards[0].0.lock().recount();
            prop_assert_eq!(table, order);
            prop_assert_eq!(statistics.bytes, table.bytes);
            prop_assert_eq!(statistics.entries, table.entries);
        }
    }
    /// Whatever workers ask for, in any order: the total holds and is accounted for; one that has less than its fair share gets
    /// room without an eviction of its own; and nobody loses of its fair share, unless it is idle.
    #[test]
    fn the_total_holds_and_is_shared_fairly(
        steps in prop::collection::vec((0usize..4, 0u64..40, 0usize..3), 0..400),
        shards in 1usize..5,
        entries in 0usize..30,
        tokens_of_bytes in 1usize..30,
    ) {
        let long = |number: u64| [&vec![b'x'; 200 * (number as usize % 3)], &token(number)[..]].concat();
        let largest = Size::of(&long(2)).bytes;
        let limits = CacheLimits { entries, bytes: tokens_of_bytes * Size::of(&token(0)).bytes };
        let cache = Cache::new(limits, shards, || SLOT.get(), 7);
        let mut asked_at = vec![0; shards];
        for (shard, number, times) in steps {
            let shard = shard % shards;
            for _ in 0..times {
                let (before, evicted, wanted) = (cache.sizes(), cache.evictions(), Size::of(&long(number)));
                let was_known = cache.ask(shard, &long(number), number);
                let (after, all_evicted) = (cache.sizes(), evicted.iter().sum::<u64>());
                prop_assert_eq!(sum(&after), cache.taken());
                prop_assert!(sum(&after).fits(limits));
                for Padded(shard) in &cache.shards {
                    let shard = shard.lock();
                    prop_assert_eq!(shard.recount(), [shard.size(); 2]);
                }
                if !was_known && (before[shard] + wanted).fits(cache.fair_share) {
                    prop_assert_eq!(after[shard], before[shard] + wanted);
                    prop_assert_eq!(cache.evictions()[shard], evicted[shard]);
                }
                for other in (0..shards).filter(|other| *other != shard && before[*other] != after[*other]) {
                    let is_idle = all_evicted - asked_at[other] >= sum(&before).entries as u64;
                    let has_its_share = after[other].entries >= cache.fair_share.entries
                        || after[other].bytes + largest > cache.fair_share.bytes;
                    prop_assert!(is_idle || has_its_share, "{:?} {:?}", before, after);
                }
                asked_at[shard] = cache.evictions().iter().sum();
            }
        }
    }
}
