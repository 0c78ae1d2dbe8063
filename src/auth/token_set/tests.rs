use super::*;
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use std::collections::HashSet;

fn id(number: u64) -> TokenId {
    TokenId::of(&number.to_be_bytes())
}

fn revoked(id: TokenId, keep: Keep, lived: u64) -> RevokedToken {
    RevokedToken { id, keep, lived: Lived(lived) }
}

#[test]
fn what_was_added_is_found_and_nothing_else() {
    let mut set = TokenSet::default();
    let at = UnixTime(1_700_000_000);
    set.extend((0..20_000).map(|number| revoked(id(number), Keep::Expires(at), 0)));
    assert_eq!(set.len(), 20_000);
    for number in 0..20_000 {
        assert!(set.contains(id(number), at));
        assert!(!set.contains(id(number + 20_000), at));
    }
    // The hour is part of the question, and a token has one.
    assert!(!set.contains(id(1), at.plus(3600)));
    set.extend([revoked(id(77_777), Keep::Until(at), 0)]);
    assert!(set.contains(id(77_777), at) && set.contains(id(77_777), UnixTime(5)));
}

#[test]
fn a_token_goes_by_the_time_since_its_revocation_and_not_by_its_expiry() {
    let mut set = TokenSet::default();
    let hour = |number: u64| Keep::Expires(UnixTime(number * 3600));
    // Expired long ago and revoked lately, and the other way round; two in one hour of expiry.
    set.extend([revoked(id(1), hour(1), 9_000), revoked(id(2), hour(99), 1_000)]);
    set.extend([revoked(id(3), hour(5), 1_000), revoked(id(4), hour(5), 9_000)]);
    assert_eq!(set.expire(Lived(1_000)).len(), 0);
    assert_eq!((set.expire(Lived(1_001)).len(), set.len()), (1, 3));
    assert!(!set.contains(id(2), UnixTime(99 * 3600)));
    // A bucket stays as long as the newest of it.
    assert!(set.contains(id(3), UnixTime(5 * 3600)) && set.contains(id(4), UnixTime(5 * 3600)));
    assert_eq!((set.expire(Lived(9_001)).len(), set.len()), (3, 0));
}

#[test]
fn tokens_without_an_expiry_go_an_hour_at_a_time() {
    let mut set = TokenSet::default();
    let until = Keep::Until(UnixTime(5));
    set.extend([revoked(id(1), until, 100), revoked(id(2), until, 3_599), revoked(id(3), until, 3_600)]);
    set.expire(Lived(3_599));
    assert_eq!(set.len(), 3);
    set.expire(Lived(3_600));
    assert!(!set.contains(id(1), UnixTime(0)) && !set.contains(id(2), UnixTime(0)));
    assert!(set.contains(id(3), UnixTime(0)));
    set.expire(Lived(7_200));
    assert!(set.is_empty());
}

#[test]
fn ids_that_are_not_spread_are_found_too() {
    let mut set = TokenSet::default();
    let clustered = |number: u16| {
        let mut bytes = [0; 16];
        bytes[14..].copy_from_slice(&number.to_be_bytes());
        TokenId(bytes)
    };
    set.extend((0..5000).map(|number| revoked(clustered(number * 2), Keep::Expires(UnixTime(0)), 0)));
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
            set.extend(portion.iter().map(|&number| revoked(id(number), Keep::Expires(when(number)), 0)));
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
