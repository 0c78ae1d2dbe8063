use super::*;
use crate::auth::identity::Identity;
use crate::auth::keys::Fingerprint;
use crate::auth::name::Name;
use crate::auth::time::UnixTime;
use crate::auth::token::{Origin, TokenId};
use proptest::prelude::*;

fn verified(number: u64) -> Arc<Verified> {
    let identity = Identity {
        user: Name::parse_user("anna").unwrap(),
        email: "a@b".into(),
        organization: Name::parse("org").unwrap(),
    };
    Arc::new(Verified {
        id: TokenId::of(&number.to_be_bytes()),
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
    Cache::new(CacheLimits { entries, bytes }, 1, || 0, 7)
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
    let expected = CacheStatistics { entries: 1, bytes: weight(&token(1)), hits: 1, misses: 3, evictions: 0 };
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
                let shard = cache.shards[0].0.lock();
                prop_assert_eq!(shard.entries.len(), shard.ahead.len() + shard.passed.len());
                shard.entries.keys().map(|token| weight(token)).sum()
            };
            prop_assert_eq!(statistics.bytes, weight);
        }
    }
}
