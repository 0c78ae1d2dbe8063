use super::*;
use crate::auth::name::Name;
use crate::auth::token::TokenId;
use crate::auth::token_set::Keep;
use proptest::prelude::*;

const RULES: TokenRules = TokenRules::DEFAULT;

fn token(user: &str, origin: Origin, iat: u64) -> Verified {
    let identity = Identity {
        user: Name::parse_user(user).unwrap(),
        email: "a@b".into(),
        organization: Name::parse("org").unwrap(),
    };
    Verified {
        id: TokenId([0; 16]),
        fields: identity.fields().unwrap(),
        identity,
        origin,
        issued_at: UnixTime(iat),
        expires_at: UnixTime(iat + 86_400),
        not_before: None,
        key: Fingerprint([0; 32]),
        generation: 0,
    }
}

fn mark(number: u64, second: u64, closed: bool) -> Mark {
    Mark { number, second: UnixTime(second), lived: Lived(second), closed, revocation: true }
}

#[test]
fn a_mark_ends_what_came_before_and_spares_what_came_after() {
    for (subject, denial) in [
        (Subject::Everybody, Denial::RevokedEverybody),
        (Subject::User("anna".into()), Denial::RevokedUser),
        (Subject::Organization("org".into()), Denial::RevokedOrganization),
    ] {
        let mut standing = Standing::default();
        standing.know("anna".into(), Account::Enabled);
        standing.raise(subject.clone(), mark(10, 1000, false));
        for (origin, iat, expected) in [
            (Origin::Ours { number: 9 }, 1000, Err(denial)),
            (Origin::Ours { number: 9 }, 2000, Err(denial)),
            (Origin::Ours { number: 11 }, 999, Err(denial)),
            (Origin::Ours { number: 11 }, 1000, Ok(())),
            (Origin::Foreign, 1005, Err(denial)),
            (Origin::Foreign, 1006, Ok(())),
        ] {
            let verdict = standing.check(&token("anna", origin, iat), &RULES);
            assert_eq!(verdict, expected, "{subject:?} {origin:?} {iat}");
        }
    }
}

#[test]
fn a_mark_on_another_changes_nothing() {
    let mut standing = Standing::default();
    standing.raise(Subject::User("bert".into()), mark(10, 1000, true));
    standing.raise(Subject::Organization("other".into()), mark(10, 1000, true));
    let ours = token("anna", Origin::Ours { number: 1 }, 1);
    assert_eq!(standing.check(&ours, &RULES), Ok(()));
}

#[test]
fn a_closed_mark_refuses_until_one_that_is_not_closed_follows() {
    let mut standing = Standing::default();
    standing.raise(Subject::User("anna".into()), mark(10, 1000, true));
    let later = token("anna", Origin::Ours { number: 99 }, 9999);
    assert_eq!(standing.check(&later, &RULES), Err(Denial::RevokedUser));
    standing.raise(Subject::User("anna".into()), mark(20, 1500, false));
    assert_eq!(standing.check(&later, &RULES), Ok(()));
    let earlier = token("anna", Origin::Ours { number: 15 }, 1500);
    assert_eq!(standing.check(&earlier, &RULES), Err(Denial::RevokedUser));
}

#[test]
fn a_foreign_token_needs_a_known_user_unless_the_rules_say_otherwise() {
    let foreign = token("anna", Origin::Foreign, 1000);
    let accept = TokenRules { unknown_users: UnknownUsers::Accept, ..RULES };
    let mut standing = Standing::default();
    assert_eq!(standing.check(&foreign, &RULES), Err(Denial::UserUnknown));
    assert_eq!(standing.check(&foreign, &accept), Ok(()));
    standing.know("anna".into(), Account::Enabled);
    assert_eq!(standing.check(&foreign, &RULES), Ok(()));
    standing.raise(Subject::User("anna".into()), mark(3, 10, true));
    assert_eq!(standing.check(&foreign, &accept), Err(Denial::RevokedUser));
}

#[test]
fn a_revoked_token_or_key_passes_no_more_and_its_neighbours_do() {
    let one = token("anna", Origin::Ours { number: 5 }, 1000);
    let other = Verified { id: TokenId([1; 16]), key: Fingerprint([1; 32]), ..one.clone() };
    let mut standing = Standing::default();
    let revoked = RevokedToken { id: one.id, keep: Keep::Expires(one.expires_at), lived: Lived(0) };
    standing.revoke_tokens([revoked]);
    assert_eq!(standing.check(&one, &RULES), Err(Denial::RevokedToken));
    assert_eq!(standing.check(&other, &RULES), Ok(()));
    standing.revoke_key(other.key);
    assert_eq!(standing.check(&other, &RULES), Err(Denial::RevokedKey));
    assert_eq!(standing.sizes(), Sizes { tokens: 1, users: 0, organizations: 0, keys: 1 });
}

#[test]
fn what_no_token_can_ask_about_is_forgotten_and_the_rest_is_not() {
    const BEFORE: Lived = Lived(1_000_001);
    let mut standing = Standing::default();
    let old = BEFORE.0 - 1;
    standing.raise(Subject::User("removed long ago".into()), mark(1, old, true));
    standing.raise(Subject::User("removed lately".into()), mark(2, old + 1, true));
    standing.raise(Subject::User("changed long ago".into()), mark(3, old, false));
    standing.raise(Subject::Organization("long ago".into()), mark(4, old, false));
    standing.raise(Subject::Everybody, mark(5, old, false));
    standing.raise(Subject::User("disabled long ago".into()), mark(6, old, true));
    standing.know("disabled long ago".into(), Account::Disabled);
    // By the time of the act, and not by that of the expiry.
    let keep = Keep::Expires(UnixTime(77));
    standing.revoke_tokens([RevokedToken { id: TokenId([0; 16]), keep, lived: Lived(old) }]);
    let keep = Keep::Expires(UnixTime(7_777));
    standing.revoke_tokens([RevokedToken { id: TokenId([1; 16]), keep, lived: Lived(old + 1) }]);
    standing.expire_below(5, BEFORE);
    let gone: usize = (0..Standing::SLICES).map(|slice| standing.forget(slice).len()).sum();
    assert_eq!(gone, 1);
    assert_eq!(standing.sizes(), Sizes { tokens: 1, users: 2, organizations: 0, keys: 0 });
}

#[test]
fn mark_of_a_new_user_is_no_revocation() {
    let new = |number| Mark { revocation: false, ..mark(number, 1000, false) };
    let mut standing = Standing::default();
    for (name, mark, expected) in [
        ("anna", new(1), 0),
        ("bert", new(2), 0),
        ("anna", mark(3, 1000, false), 1),
        ("anna", new(1), 1),
        ("anna", mark(4, 1000, true), 1),
        ("bert", mark(5, 1000, false), 2),
        // The rows about the one before her were deleted.
        ("anna", new(6), 1),
    ] {
        standing.raise(Subject::User(name.into()), mark);
        assert_eq!(standing.sizes().users, expected, "{name} {mark:?}");
    }
    standing.expire_below(9, Lived(2000));
    (0..Standing::SLICES).for_each(|slice| drop(standing.forget(slice)));
    assert_eq!(standing.sizes().users, 0);
}

#[test]
fn a_token_below_the_expired_sequence_is_expired_whatever_its_exp_says() {
    let mut standing = Standing::default();
    standing.expire_below(10, Lived(0));
    standing.expire_below(5, Lived(0));
    for (origin, expected) in
        [(Origin::Ours { number: 9 }, Err(Denial::TokenExpired)), (Origin::Ours { number: 10 }, Ok(()))]
    {
        assert_eq!(standing.check(&token("anna", origin, u64::MAX / 2), &RULES), expected);
    }
}

#[test]
fn users_counts_those_that_are_enabled_whatever_they_were() {
    let mut standing = Standing::default();
    let user = |number: u64| format!("user {number}").into_boxed_str();
    for (number, change, expected) in [
        (1, Some(Account::Enabled), 1),
        (1, Some(Account::Enabled), 1),
        (2, Some(Account::Disabled), 1),
        (2, Some(Account::Enabled), 2),
        (1, Some(Account::Disabled), 1),
        (1, None, 1),
        (2, None, 0),
        (2, None, 0),
        (2, Some(Account::Enabled), 1),
    ] {
        match change {
            Some(account) => standing.know(user(number), account),
            None => standing.raise(Subject::User(user(number)), mark(number, 0, true)),
        }
        assert_eq!(standing.users(), expected, "{number} {change:?}");
    }
}

proptest! {
    /// Whatever the order and the repetition in which marks are read, the last number decides.
    #[test]
    fn marks_unite_in_any_order(
        marks in prop::collection::vec((1u64..50, 0u64..2000, any::<bool>()), 1..12),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..24),
        number in 1u64..60,
        iat in 0u64..2500,
    ) {
        // One transaction sets one mark: equal numbers are the same mark.
        let marks: std::collections::BTreeMap<u64, Mark> =
            marks.into_iter().map(|(n, s, c)| (n, mark(n, s, c))).collect();
        let marks: Vec<Mark> = marks.into_values().collect();
        let user = || Subject::User("anna".into());
        let mut straight = Standing::default();
        marks.iter().for_each(|&mark| straight.raise(user(), mark));
        let mut shuffled = Standing::default();
        order.iter().for_each(|at| shuffled.raise(user(), marks[at.index(marks.len())]));
        marks.iter().rev().for_each(|&mark| shuffled.raise(user(), mark));
        let ours = token("anna", Origin::Ours { number }, iat);
        let verdict = straight.check(&ours, &RULES);
        prop_assert_eq!(verdict, shuffled.check(&ours, &RULES));

        // The naive model: closed last, or any mark that came later.
        let refused = marks.last().is_some_and(|last| last.closed)
            || marks.iter().any(|mark| number < mark.number || UnixTime(iat) < mark.second);
        prop_assert_eq!(verdict.is_err(), refused);
    }
}
