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
        folded_email: None,
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

fn cutoff(number: u64, second: u64, closed: bool) -> Cutoff {
    Cutoff {
        sequence: number,
        time: UnixTime(second),
        lived: Lived(second),
        blocked: closed,
        revocation: true,
    }
}

#[test]
fn cutoff_rejects_earlier_tokens_and_spares_later_ones() {
    for (subject, denial) in [
        (Subject::Everybody, Denial::RevokedEverybody),
        (Subject::User("anna".into()), Denial::RevokedUser),
        (Subject::Organization("org".into()), Denial::RevokedOrganization),
        (Subject::Email("a@b".into()), Denial::RevokedEmail),
    ] {
        let mut snapshot = RevocationSnapshot::default();
        snapshot.set_account("anna".into(), Account::Enabled);
        snapshot.apply_cutoff(subject.clone(), cutoff(10, 1000, false));
        for (origin, iat, expected) in [
            (Origin::Ours { sequence: 9 }, 1000, Err(denial)),
            (Origin::Ours { sequence: 9 }, 2000, Err(denial)),
            (Origin::Ours { sequence: 11 }, 999, Err(denial)),
            (Origin::Ours { sequence: 11 }, 1000, Ok(())),
            (Origin::Foreign, 1005, Err(denial)),
            (Origin::Foreign, 1006, Ok(())),
        ] {
            let verdict = snapshot.check(&token("anna", origin, iat), &RULES);
            assert_eq!(verdict, expected, "{subject:?} {origin:?} {iat}");
        }
    }
}

#[test]
fn cutoff_on_another_subject_changes_nothing() {
    let mut snapshot = RevocationSnapshot::default();
    snapshot.apply_cutoff(Subject::User("bert".into()), cutoff(10, 1000, true));
    snapshot.apply_cutoff(Subject::Organization("other".into()), cutoff(10, 1000, true));
    let ours = token("anna", Origin::Ours { sequence: 1 }, 1);
    assert_eq!(snapshot.check(&ours, &RULES), Ok(()));
}

#[test]
fn blocking_cutoff_rejects_until_one_that_does_not_block_follows() {
    let mut snapshot = RevocationSnapshot::default();
    snapshot.apply_cutoff(Subject::User("anna".into()), cutoff(10, 1000, true));
    let later = token("anna", Origin::Ours { sequence: 99 }, 9999);
    assert_eq!(snapshot.check(&later, &RULES), Err(Denial::RevokedUser));
    snapshot.apply_cutoff(Subject::User("anna".into()), cutoff(20, 1500, false));
    assert_eq!(snapshot.check(&later, &RULES), Ok(()));
    let earlier = token("anna", Origin::Ours { sequence: 15 }, 1500);
    assert_eq!(snapshot.check(&earlier, &RULES), Err(Denial::RevokedUser));
}

#[test]
fn a_foreign_token_needs_a_known_user_unless_the_rules_say_otherwise() {
    let foreign = token("anna", Origin::Foreign, 1000);
    let accept = TokenRules { unknown_users: UnknownUsers::Accept, ..RULES };
    let mut snapshot = RevocationSnapshot::default();
    assert_eq!(snapshot.check(&foreign, &RULES), Err(Denial::UserUnknown));
    assert_eq!(snapshot.check(&foreign, &accept), Ok(()));
    snapshot.set_account("anna".into(), Account::Enabled);
    assert_eq!(snapshot.check(&foreign, &RULES), Ok(()));
    snapshot.apply_cutoff(Subject::User("anna".into()), cutoff(3, 10, true));
    assert_eq!(snapshot.check(&foreign, &accept), Err(Denial::RevokedUser));
}

#[test]
fn a_revoked_token_or_key_passes_no_more_and_its_neighbours_do() {
    let one = token("anna", Origin::Ours { sequence: 5 }, 1000);
    let other = Verified { id: TokenId([1; 16]), key: Fingerprint([1; 32]), ..one.clone() };
    let mut snapshot = RevocationSnapshot::default();
    let revoked = RevokedToken { id: one.id, keep: Keep::Expires(one.expires_at), lived: Lived(0) };
    snapshot.revoke_tokens([revoked]);
    assert_eq!(snapshot.check(&one, &RULES), Err(Denial::RevokedToken));
    assert_eq!(snapshot.check(&other, &RULES), Ok(()));
    snapshot.revoke_key(other.key);
    assert_eq!(snapshot.check(&other, &RULES), Err(Denial::RevokedKey));
    assert_eq!(snapshot.sizes(), Sizes { tokens: 1, users: 0, organizations: 0, emails: 0, keys: 1 });
}

#[test]
fn what_no_token_can_ask_about_is_forgotten_and_the_rest_is_not() {
    const BEFORE: Lived = Lived(1_000_001);
    let mut snapshot = RevocationSnapshot::default();
    let old = BEFORE.0 - 1;
    snapshot.apply_cutoff(Subject::User("removed long ago".into()), cutoff(1, old, true));
    snapshot.apply_cutoff(Subject::User("removed lately".into()), cutoff(2, old + 1, true));
    snapshot.apply_cutoff(Subject::User("changed long ago".into()), cutoff(3, old, false));
    snapshot.apply_cutoff(Subject::Organization("long ago".into()), cutoff(4, old, false));
    snapshot.apply_cutoff(Subject::Everybody, cutoff(5, old, false));
    snapshot.apply_cutoff(Subject::User("disabled long ago".into()), cutoff(6, old, true));
    snapshot.set_account("disabled long ago".into(), Account::Disabled);
    // By the time of the act, and not by that of the expiry.
    let keep = Keep::Expires(UnixTime(77));
    snapshot.revoke_tokens([RevokedToken { id: TokenId([0; 16]), keep, lived: Lived(old) }]);
    let keep = Keep::Expires(UnixTime(7_777));
    snapshot.revoke_tokens([RevokedToken { id: TokenId([1; 16]), keep, lived: Lived(old + 1) }]);
    snapshot.expire_below(5, BEFORE);
    let gone: usize = (0..RevocationSnapshot::SLICES).map(|slice| snapshot.expire(slice).len()).sum();
    assert_eq!(gone, 1);
    assert_eq!(snapshot.sizes(), Sizes { tokens: 1, users: 2, organizations: 0, emails: 0, keys: 0 });
}

#[test]
fn cutoff_of_a_new_user_is_not_a_revocation() {
    let new = |number| Cutoff { revocation: false, ..cutoff(number, 1000, false) };
    let mut snapshot = RevocationSnapshot::default();
    for (name, cutoff, expected) in [
        ("anna", new(1), 0),
        ("bert", new(2), 0),
        ("anna", cutoff(3, 1000, false), 1),
        ("anna", new(1), 1),
        ("anna", cutoff(4, 1000, true), 1),
        ("bert", cutoff(5, 1000, false), 2),
        // The rows about the one before her were deleted.
        ("anna", new(6), 1),
    ] {
        snapshot.apply_cutoff(Subject::User(name.into()), cutoff);
        assert_eq!(snapshot.sizes().users, expected, "{name} {cutoff:?}");
    }
    snapshot.expire_below(9, Lived(2000));
    (0..RevocationSnapshot::SLICES).for_each(|slice| drop(snapshot.expire(slice)));
    assert_eq!(snapshot.sizes().users, 0);
}

#[test]
fn a_token_below_the_expired_sequence_is_expired_whatever_its_exp_says() {
    let mut snapshot = RevocationSnapshot::default();
    snapshot.expire_below(10, Lived(0));
    snapshot.expire_below(5, Lived(0));
    for (origin, expected) in
        [(Origin::Ours { sequence: 9 }, Err(Denial::TokenExpired)), (Origin::Ours { sequence: 10 }, Ok(()))]
    {
        assert_eq!(snapshot.check(&token("anna", origin, u64::MAX / 2), &RULES), expected);
    }
}

#[test]
fn users_counts_those_that_are_enabled_whatever_they_were() {
    let mut snapshot = RevocationSnapshot::default();
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
            Some(account) => snapshot.set_account(user(number), account),
            None => snapshot.apply_cutoff(Subject::User(user(number)), cutoff(number, 0, true)),
        }
        assert_eq!(snapshot.users(), expected, "{number} {change:?}");
    }
}

proptest! {
    /// Whatever the order and the repetition in which cutoffs are read, the last number decides.
    #[test]
    fn marks_unite_in_any_order(
        cutoffs in prop::collection::vec((1u64..50, 0u64..2000, any::<bool>()), 1..12),
        order in prop::collection::vec(any::<prop::sample::Index>(), 0..24),
        number in 1u64..60,
        iat in 0u64..2500,
    ) {
        // One transaction sets one cutoff: equal numbers are the same cutoff.
        let cutoffs: std::collections::BTreeMap<u64, Cutoff> =
            cutoffs.into_iter().map(|(n, s, c)| (n, cutoff(n, s, c))).collect();
        let cutoffs: Vec<Cutoff> = cutoffs.into_values().collect();
        let user = || Subject::User("anna".into());
        let mut straight = RevocationSnapshot::default();
        cutoffs.iter().for_each(|&cutoff| straight.apply_cutoff(user(), cutoff));
        let mut shuffled = RevocationSnapshot::default();
        order.iter().for_each(|at| shuffled.apply_cutoff(user(), cutoffs[at.index(cutoffs.len())]));
        cutoffs.iter().rev().for_each(|&cutoff| shuffled.apply_cutoff(user(), cutoff));
        let ours = token("anna", Origin::Ours { sequence: number }, iat);
        let verdict = straight.check(&ours, &RULES);
        prop_assert_eq!(verdict, shuffled.check(&ours, &RULES));

        // The naive model: closed last, or any cutoff that came later.
        let refused = cutoffs.last().is_some_and(|last| last.blocked)
            || cutoffs.iter().any(|cutoff| number < cutoff.sequence || UnixTime(iat) < cutoff.time);
        prop_assert_eq!(verdict.is_err(), refused);
    }
}

#[test]
fn cutoff_on_an_address_is_about_its_folded_form_whoever_the_user_is() {
    let mut snapshot = RevocationSnapshot::default();
    snapshot.apply_cutoff(
        Subject::Email("straße@b".to_uppercase().to_lowercase().into()),
        cutoff(10, 1000, false),
    );
    let of = |snapshot: &RevocationSnapshot, email: &str| {
        let mut token = token("anna", Origin::Ours { sequence: 9 }, 1000);
        token.identity.email = email.into();
        token.folded_email = crate::auth::token::folded_email(&token.identity);
        snapshot.check(&token, &RULES)
    };
    for email in ["straße@b", "STRASSE@B", "Strasse@b"] {
        assert_eq!(of(&snapshot, email), Err(Denial::RevokedEmail), "{email}");
    }
    for email in ["a@b", "strasse@b.c", "anna", ""] {
        assert_eq!(of(&snapshot, email), Ok(()), "{email}");
    }
    assert_eq!(snapshot.sizes().emails, 1);
    snapshot.expire_below(0, Lived(5000));
    (0..RevocationSnapshot::SLICES).for_each(|slice| drop(snapshot.expire(slice)));
    assert_eq!(snapshot.sizes().emails, 0);
    assert_eq!(of(&snapshot, "straße@b"), Ok(()));
}

#[test]
fn held_subject_has_no_token_that_passes_until_it_is_released_as_often() {
    let address = Subject::Email("a@b".into());
    for (subject, denial) in [
        (Subject::Everybody, Denial::RevokedEverybody),
        (Subject::User("anna".into()), Denial::RevokedUser),
        (Subject::Organization("org".into()), Denial::RevokedOrganization),
        (address, Denial::RevokedEmail),
    ] {
        let mut snapshot = RevocationSnapshot::default();
        // Whenever it was minted: the cutoff that is to come has no place yet.
        let token = token("anna", Origin::Ours { sequence: u64::MAX }, 4_000_000_000);
        for _ in 0..2 {
            snapshot.hold(subject.clone());
            assert_eq!(snapshot.check(&token, &RULES), Err(denial), "{subject:?}");
        }
        snapshot.release(&subject);
        assert_eq!(snapshot.check(&token, &RULES), Err(denial), "{subject:?}");
        snapshot.release(&subject);
        assert_eq!(snapshot.check(&token, &RULES), Ok(()), "{subject:?}");
        // One too many is none.
        snapshot.release(&subject);
        snapshot.hold(Subject::User("bert".into()));
        assert_eq!(snapshot.check(&token, &RULES), Ok(()), "{subject:?}");
    }
}
