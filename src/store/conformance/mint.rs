//! Mints: the token, its place in the order, and who gets none.

use std::time::Duration;

use super::harness::{Fixture, on_every_engine};
use super::samples::{
    RULES, SIGNER, START, email_subject, key, key_set, mint_for, mint_with, minted, new_user, organization,
    organization_subject, phc, sequence_of, user_subject, verified,
};
use crate::auth::cache::{Cache, CacheLimits};
use crate::auth::denial::Denial;
use crate::auth::gate::{ClockReading, Gate};
use crate::auth::revocation::{Cutoff, Subject};
use crate::auth::time::{Lived, UnixTime};
use crate::auth::token::TokenRules;
use crate::store::command::{
    ActivateKey, Mint, MintOutcome, RetireKey, RevokeKey, RevokeSubject, UserChange,
};

#[test]
fn minted_token_carries_the_user_the_sequence_and_the_time() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        fixture.set_time(START + 42);
        let rules = TokenRules { lifetime: 600, ..RULES };
        let mint = Mint { rules, ..mint_for(fixture.user("anna")) };
        let minted = minted(fixture.execute(mint));
        let token = verified(&minted);
        assert_eq!(token.identity, new_user("anna").identity);
        assert_eq!(sequence_of(&token), fixture.sequence());
        assert_eq!((token.issued_at, token.expires_at), (UnixTime(START + 42), UnixTime(START + 642)));
        assert_eq!((minted.id, minted.expires_at), (token.id, token.expires_at));
        assert_eq!(token.key, key(SIGNER.0, SIGNER.1).fingerprint());
        assert_eq!(fixture.verdict(&token), Ok(()));
    });
}

#[test]
fn mint_changes_no_user_and_no_revocation() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        let before = fixture.dump();
        fixture.mint("anna");
        let after = fixture.dump();
        assert_eq!((after.users, after.revocations), (before.users, before.revocations));
    });
}

#[test]
fn mint_brings_the_cutoffs_that_concern_its_user() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        fixture.add("bert");
        fixture.revoke(user_subject("bert"));
        fixture.revoke(organization_subject("Other"));
        // Of the same name, and another subject.
        fixture.revoke(organization_subject("anna"));
        fixture.revoke(user_subject("Main Org."));
        let expected =
            [organization_subject("Main Org."), user_subject("anna"), Subject::Everybody].map(|subject| {
                let number = fixture.revoke(subject.clone());
                (
                    subject,
                    Cutoff {
                        sequence: number,
                        time: UnixTime(START),
                        lived: Lived(0),
                        blocked: false,
                        revocation: true,
                    },
                )
            });
        let outcome = fixture.execute(mint_for(fixture.user("anna")));
        let MintOutcome::Minted(_, mut cutoffs) = outcome else { panic!("{outcome:?}") };
        cutoffs.sort_by_key(|(_, cutoff)| cutoff.sequence);
        assert_eq!(cutoffs, expected);
    });
}

#[test]
fn no_token_for_a_user_that_changed_since_its_password_was_checked() {
    let claims = |email: Option<&str>, to: Option<&str>| UserChange::Claims {
        email: email.map(Into::into),
        organization: to.map(organization),
    };
    on_every_engine(|fixture| {
        for (name, changes) in [
            ("password", vec![UserChange::Password(phc(1))]),
            // Even to the hash that it was checked with.
            ("same password", vec![UserChange::Password(phc(0))]),
            ("email", vec![claims(Some("new@b"), None)]),
            ("organization", vec![claims(None, Some("Other"))]),
            ("and back", vec![claims(None, Some("Other")), claims(None, Some("Main Org."))]),
            ("disabled", vec![UserChange::Disable]),
            ("removed", vec![UserChange::Remove]),
        ] {
            fixture.add(name);
            let checked = fixture.user(name);
            changes.into_iter().for_each(|change| fixture.change(name, change));
            let outcome = fixture.unchanged(|| fixture.execute(mint_for(checked)));
            assert!(matches!(outcome, MintOutcome::UserChanged), "{name}: {outcome:?}");
        }
    });
}

#[test]
fn no_token_for_a_user_that_was_removed_and_added_again() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        let checked = fixture.user("anna");
        fixture.change("anna", UserChange::Remove);
        fixture.add("anna");
        let outcome = fixture.unchanged(|| fixture.execute(mint_for(checked)));
        assert!(matches!(outcome, MintOutcome::UserChanged), "{outcome:?}");
    });
}

#[test]
fn no_token_from_a_revoked_key() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        fixture.record_keys(&[("old", 1), ("new", 2)]);
        fixture.execute(RevokeKey { kid: "old".into(), successors: vec![] });
        let mint = |kid, secret| mint_with(fixture.user("anna"), key(kid, secret));
        let outcome = fixture.unchanged(|| fixture.execute(mint("old", 1)));
        assert!(matches!(outcome, MintOutcome::SignerRevoked), "{outcome:?}");
        assert!(matches!(fixture.execute(mint("new", 2)), MintOutcome::Minted(..)));
        // A gateway may sign with a key that it has not recorded yet.
        assert!(matches!(fixture.execute(mint("unrecorded", 3)), MintOutcome::Minted(..)));
    });
}

#[test]
fn no_token_from_a_retired_key() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        fixture.record_keys(&[("old", 1), ("new", 2)]);
        fixture.execute(ActivateKey { kid: "new".into(), at: None });
        let mint = |kid, secret| fixture.execute(mint_with(fixture.user("anna"), key(kid, secret)));
        // Until it is retired another gateway may not have heard of its successor.
        assert!(matches!(mint("old", 1), MintOutcome::Minted(..)));
        fixture.execute(RetireKey { kid: "old".into(), longest: 9 });
        for (kid, secret) in [("old", 1), ("alias", 1)] {
            let outcome = fixture.unchanged(|| mint(kid, secret));
            assert!(matches!(outcome, MintOutcome::SignerRevoked), "{kid}: {outcome:?}");
        }
        assert!(matches!(mint("new", 2), MintOutcome::Minted(..)));
    });
}

#[test]
fn no_token_from_a_revoked_secret_under_another_name() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        fixture.record_keys(&[("one", 1), ("alias", 1)]);
        fixture.execute(RevokeKey { kid: "one".into(), successors: vec![] });
        // Every gate would refuse the token: keys are revoked by what they are, not by what they are called.
        // Nor does a revoked name stand for another secret.
        for (kid, secret) in [("alias", 1), ("unrecorded", 1), ("one", 2)] {
            let mint = mint_with(fixture.user("anna"), key(kid, secret));
            let outcome = fixture.unchanged(|| fixture.execute(mint));
            assert!(matches!(outcome, MintOutcome::SignerRevoked), "{kid}: {outcome:?}");
        }
    });
}

#[test]
fn token_is_issued_no_earlier_than_the_cutoffs_it_was_minted_after() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        let subjects = [user_subject("anna"), organization_subject("Main Org."), Subject::Everybody];
        for (ahead, subject) in (1..).zip(subjects) {
            // The process that revokes has a clock that is ahead of the one that mints.
            let time = START + 1000 * ahead;
            fixture.execute_on(&fixture.another(time), RevokeSubject { subject: subject.clone() });
            let token = fixture.mint("anna");
            assert_eq!(token.issued_at, UnixTime(time), "{subject:?}");
            // It lives no longer for that.
            assert_eq!(token.expires_at, UnixTime(START + RULES.lifetime), "{subject:?}");
            assert_eq!(fixture.verdict(&token), Ok(()), "{subject:?}");
        }
    });
}

#[test]
fn token_that_follows_a_cutoff_of_a_clock_ahead_is_good_and_lives_no_longer() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        let old = fixture.mint("anna");
        let ahead = fixture.another(START + 10 * RULES.lifetime);
        fixture.execute_on(&ahead, RevokeSubject { subject: user_subject("anna") });
        let token = fixture.mint("anna");
        assert_eq!(token.expires_at, UnixTime(START + RULES.lifetime));
        assert!(fixture.verdict(&old).is_err());
        assert_eq!(fixture.verdict(&token), Ok(()));
        let cutoff = fixture.load().cutoff_time(&token);
        let at = |time| token.check_time(UnixTime(time), || cutoff, &RULES);
        assert_eq!((at(START), at(START + RULES.lifetime)), (Ok(()), Err(Denial::TokenExpired)));
    });
}

#[test]
fn order_of_mint_and_revocation_decides_within_one_second() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        for (subject, denial) in [
            (user_subject("anna"), Denial::RevokedUser),
            (organization_subject("Main Org."), Denial::RevokedOrganization),
            (email_subject("anna@example.com"), Denial::RevokedEmail),
            (Subject::Everybody, Denial::RevokedEverybody),
        ] {
            let before = fixture.mint("anna");
            let sequence = fixture.revoke(subject);
            let after = fixture.mint("anna");
            assert!(sequence_of(&before) < sequence && sequence < sequence_of(&after));
            assert_eq!(before.issued_at, after.issued_at);
            assert_eq!(fixture.verdict(&before), Err(denial));
            assert_eq!(fixture.verdict(&after), Ok(()));
        }
    });
}

fn gate(fixture: &Fixture) -> Gate {
    let cache = Cache::new(CacheLimits { entries: 100, bytes: 1 << 20 }, 1, || 0, 0);
    let keys = key_set(SIGNER.0, SIGNER.1);
    Gate::new(keys, RULES, cache, Duration::MAX, fixture.load(), Duration::ZERO)
}

/// The feed is behind, the token is good at once all the same.
#[test]
fn gate_that_has_not_read_of_an_enabling_learns_of_it_with_the_mint() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        fixture.change("anna", UserChange::Disable);
        let gate = gate(&fixture);
        fixture.change("anna", UserChange::Enable);
        let outcome = fixture.execute(mint_for(fixture.user("anna")));
        let MintOutcome::Minted(minted, cutoffs) = outcome else { panic!("{outcome:?}") };
        let reading = ClockReading { now: UnixTime(START), uptime: Duration::ZERO };
        let verdict = || gate.inspect(minted.token.as_bytes(), reading).map(drop);
        assert_eq!(verdict(), Err(Denial::RevokedUser));
        gate.apply_cutoffs(&cutoffs);
        assert_eq!(verdict(), Ok(()));
    });
}
