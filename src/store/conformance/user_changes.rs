//! Changes of a user: which of its fields they change, and what becomes of its tokens.

use super::harness::{Fixture, on_every_engine};
use super::samples::{
    ACCEPT, START, foreign_token, mint_for, minted, organization, organization_subject, phc, sequence_of,
    user_subject, verified,
};
use crate::auth::denial::Denial;
use crate::auth::revocation::Subject;
use crate::auth::time::UnixTime;
use crate::auth::token::Verified;
use crate::store::command::{ChangeOutcome, ChangeUser, MintOutcome, UserChange};

fn email(to: &str) -> UserChange {
    UserChange::Claims { email: Some(to.into()), organization: None }
}

fn move_to(name: &str) -> UserChange {
    UserChange::Claims { email: None, organization: Some(organization(name)) }
}

/// Every change that leaves the user one that can log in, in an order in which each changes something.
fn credential_changes() -> Vec<UserChange> {
    let both =
        UserChange::Claims { email: Some("newer@b".into()), organization: Some(organization("Third")) };
    // A password that is the same counts as a new one.
    vec![email("new@b"), move_to("Other"), both, UserChange::Password(phc(1)), UserChange::Password(phc(1))]
}

/// All of them.
fn changes() -> Vec<UserChange> {
    let mut changes = credential_changes();
    changes.extend([UserChange::Disable, UserChange::Enable, UserChange::Remove]);
    changes
}

#[test]
fn unknown_user_cannot_be_changed() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        for change in changes() {
            for name in ["bert", "Anna", ""] {
                let command = ChangeUser { name: name.into(), change: change.clone() };
                let outcome = fixture.unchanged(|| fixture.execute(command));
                assert_eq!(outcome, ChangeOutcome::Unknown, "{name:?} {change:?}");
            }
        }
    });
}

#[test]
fn change_that_changes_nothing_takes_no_sequence_and_revokes_nothing() {
    let claims = |email: Option<&str>, to: Option<&str>| UserChange::Claims {
        email: email.map(Into::into),
        organization: to.map(organization),
    };
    let same = [
        claims(None, None),
        claims(Some("anna@example.com"), None),
        claims(None, Some("Main Org.")),
        claims(Some("anna@example.com"), Some("Main Org.")),
    ];
    on_every_engine(|fixture| {
        let unchanged = |change: &UserChange| {
            let command = ChangeUser { name: "anna".into(), change: change.clone() };
            // No sequence, no cutoff, no audit row, no other time in the user's record.
            let outcome = fixture.unchanged(|| fixture.execute(command));
            assert_eq!(outcome, ChangeOutcome::Unchanged, "{change:?}");
        };
        fixture.add("anna");
        let token = fixture.mint("anna");
        fixture.set_time(START + 60);
        same.iter().chain([&UserChange::Enable]).for_each(unchanged);
        assert_eq!(fixture.verdict(&token), Ok(()));
        fixture.change("anna", UserChange::Disable);
        same.iter().chain([&UserChange::Disable]).for_each(unchanged);
        assert_blocked(&fixture, &foreign_token("anna", START + 5000));
    });
}

#[test]
fn change_sets_its_own_fields_and_no_others() {
    on_every_engine(|fixture| {
        fixture.add("bert");
        let bystander = fixture.record("bert");
        fixture.add("anna");
        for (time, change) in (START + 1..).zip(credential_changes()) {
            let mut expected = fixture.record("anna");
            match change.clone() {
                UserChange::Claims { email, organization } => {
                    let identity = &mut expected.user.identity;
                    identity.email = email.unwrap_or(identity.email.clone());
                    identity.organization = organization.unwrap_or(identity.organization.clone());
                }
                UserChange::Password(phc) => expected.phc = Some(phc),
                _ => {}
            }
            fixture.set_time(time);
            fixture.change("anna", change.clone());
            expected.user.credential_version = fixture.sequence();
            expected.user.updated_at = UnixTime(time);
            assert_eq!(fixture.record("anna"), expected, "{change:?}");
        }
        assert_eq!(fixture.record("bert"), bystander);
    });
}

#[test]
fn disabling_and_enabling_keep_the_credential_version() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        let mut expected = fixture.record("anna");
        for (time, disabled) in (START + 1..).zip([true, false, true, false]) {
            fixture.set_time(time);
            fixture.change("anna", if disabled { UserChange::Disable } else { UserChange::Enable });
            (expected.user.disabled, expected.user.updated_at) = (disabled, UnixTime(time));
            assert_eq!(fixture.record("anna"), expected);
        }
    });
}

#[test]
fn change_revokes_tokens_and_a_new_one_is_valid_in_the_same_second() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        fixture.add("bert");
        let bystander = fixture.mint("bert");
        for change in credential_changes() {
            let before = fixture.mint("anna");
            assert_eq!(fixture.verdict(&before), Ok(()));
            fixture.change("anna", change.clone());
            assert_eq!(fixture.verdict(&before), Err(Denial::RevokedUser), "{change:?}");
            let after = fixture.mint("anna");
            assert_eq!(fixture.verdict(&after), Ok(()), "{change:?}");
        }
        assert_eq!(fixture.verdict(&bystander), Ok(()));
    });
}

#[test]
fn token_minted_after_a_change_is_valid_though_the_clock_went_back() {
    on_every_engine(|fixture| {
        fixture.set_time(START + 1000);
        fixture.add("anna");
        for change in credential_changes() {
            fixture.set_time(START + 1000);
            let before = fixture.mint("anna");
            fixture.change("anna", change.clone());
            fixture.set_time(START);
            let after = fixture.mint("anna");
            assert_eq!(after.issued_at, UnixTime(START + 1000), "{change:?}");
            assert_eq!(fixture.verdict(&after), Ok(()), "{change:?}");
            assert_eq!(fixture.verdict(&before), Err(Denial::RevokedUser), "{change:?}");
        }
    });
}

#[test]
fn disabled_or_removed_user_is_blocked_until_it_is_back() {
    on_every_engine(|fixture| {
        for change in [UserChange::Disable, UserChange::Remove] {
            fixture.add("anna");
            let before = fixture.mint("anna");
            let checked = fixture.user("anna");
            fixture.change("anna", change.clone());
            assert_eq!(fixture.verdict(&before), Err(Denial::RevokedUser));
            assert!(fixture.revocation("user", "anna").unwrap().blocked);
            let outcome = fixture.unchanged(|| fixture.execute(mint_for(checked)));
            assert!(matches!(outcome, MintOutcome::UserChanged), "{change:?}");
            match change {
                UserChange::Disable => fixture.change("anna", UserChange::Enable),
                _ => fixture.add("anna"),
            }
            assert!(!fixture.revocation("user", "anna").unwrap().blocked);
            assert_eq!(fixture.verdict(&before), Err(Denial::RevokedUser), "revived after {change:?}");
            let after = fixture.mint("anna");
            assert_eq!(fixture.verdict(&after), Ok(()), "{change:?}");
            fixture.change("anna", UserChange::Remove);
        }
    });
}

/// Revokes again in every way that could lift the block, and looks after each.
fn assert_stays_blocked(fixture: &Fixture, changes: Vec<UserChange>) {
    let foreign = foreign_token("anna", START + 5000);
    for change in changes {
        fixture.change("anna", change);
        assert_blocked(fixture, &foreign);
    }
    for subject in [user_subject("anna"), organization_subject("Main Org."), Subject::Everybody] {
        fixture.revoke(subject);
        assert_blocked(fixture, &foreign);
    }
}

fn assert_blocked(fixture: &Fixture, foreign: &Verified) {
    assert!(fixture.revocation("user", "anna").unwrap().blocked);
    // Not even a token that was issued long after is let through, by the most liberal rules.
    let verdict = fixture.load().check(foreign, &ACCEPT);
    assert_eq!(verdict, Err(Denial::RevokedUser));
}

#[test]
fn disabled_user_stays_blocked_through_other_changes() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        fixture.change("anna", UserChange::Disable);
        assert_stays_blocked(&fixture, credential_changes());
        assert!(fixture.user("anna").disabled);
        let outcome = fixture.unchanged(|| fixture.execute(mint_for(fixture.user("anna"))));
        assert!(matches!(outcome, MintOutcome::UserChanged));
    });
}

#[test]
fn removed_user_stays_blocked() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        fixture.change("anna", UserChange::Remove);
        assert_stays_blocked(&fixture, vec![]);
    });
}

#[test]
fn cutoff_of_a_change_has_its_sequence_and_time() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        for (time, change) in (START + 1..).zip(changes()) {
            fixture.set_time(time);
            fixture.change("anna", change.clone());
            let cutoff = fixture.cutoff(&user_subject("anna")).unwrap();
            assert_eq!((cutoff.sequence, cutoff.time), (fixture.sequence(), UnixTime(time)), "{change:?}");
            let blocks = matches!(change, UserChange::Disable | UserChange::Remove);
            assert_eq!(cutoff.blocked, blocks, "{change:?}");
        }
    });
}

#[test]
fn claims_of_a_new_token_are_the_new_claims() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        fixture.change("anna", email("new@b"));
        fixture.change("anna", move_to("Other"));
        let user = fixture.user("anna");
        let token = verified(&minted(fixture.execute(mint_for(user.clone()))));
        assert_eq!(token.identity, user.identity);
        assert_eq!((&*token.identity.email, token.identity.organization.as_str()), ("new@b", "Other"));
        assert_eq!(sequence_of(&token), fixture.sequence());
        // It is the new organization's revocations that reach it.
        fixture.revoke(organization_subject("Main Org."));
        assert_eq!(fixture.verdict(&token), Ok(()));
        fixture.revoke(organization_subject("Other"));
        assert_eq!(fixture.verdict(&token), Err(Denial::RevokedOrganization));
    });
}
