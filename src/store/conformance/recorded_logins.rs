//! Users whose passwords other sources check: what is kept of them, and when what a source said no longer counts.

use super::harness::{Fixture, on_every_engine};
use super::samples::{
    DAY, RULES, START, email_subject, mint_for, new_user, organization, organization_subject, phc,
    user_subject,
};
use crate::auth::identity::Identity;
use crate::auth::revocation::Subject;
use crate::auth::time::UnixTime;
use crate::auth::user_source::SourceName;
use crate::store::command::{Mint, MintOutcome, NoteFailedLogins, Purge, RevokeSubject, UserChange};
use crate::store::recorded_login::{MoveOutcome, MoveUser, RecordLogin, RecordedLogin, Remember};
use crate::store::records::{FieldChange, Remembered, User, UserFilter};

fn login(fixture: &Fixture, name: &str) -> RecordLogin {
    RecordLogin {
        identity: new_user(name).identity,
        source: SourceName::Platform,
        asked_at: fixture.sequence(),
    }
}

/// Records a login, which is nothing special.
fn record(fixture: &Fixture, name: &str) -> (User, u64) {
    match fixture.execute(login(fixture, name)) {
        RecordedLogin::Recorded(user, sequence) => (user, sequence),
        other => panic!("{other:?}"),
    }
}

fn remember(fixture: &Fixture, user: &User, which: u8, asked_at: u64) {
    let (name, credential_version) = (user.identity.user.clone(), user.credential_version);
    fixture.execute(Remember { user: name, credential_version, phc: phc(which), asked_at });
}

fn is_minted(outcome: &MintOutcome) -> bool {
    matches!(outcome, MintOutcome::Minted(..))
}

#[test]
fn first_login_keeps_the_user_without_a_password_and_its_token_can_be_minted_at_once() {
    on_every_engine(|fixture| {
        let (user, asked_at) = record(&fixture, "anna");
        let kept = fixture.record("anna");
        assert_eq!((&kept.user, &kept.phc, kept.remembered), (&user, &None, None));
        assert_eq!((user.source, user.disabled), (SourceName::Platform, false));
        assert_eq!(user.identity, new_user("anna").identity);
        assert!(is_minted(&fixture.execute(Mint { asked_at, ..mint_for(user) })));
        let actions: Vec<_> = fixture.dump().audit.into_iter().map(|row| row.action).collect();
        assert!(actions.ends_with(&["user_add".into(), "mint".into()]), "{actions:?}");
    });
}

#[test]
fn login_that_says_nothing_new_changes_nothing() {
    on_every_engine(|fixture| {
        let (user, _) = record(&fixture, "anna");
        let again = fixture.unchanged(|| record(&fixture, "anna"));
        assert_eq!(again, (user, fixture.sequence()));
    });
}

#[test]
fn claims_that_changed_at_the_source_end_the_older_tokens() {
    on_every_engine(|fixture| {
        let (user, _) = record(&fixture, "anna");
        let token = fixture.mint("anna");
        let identity = Identity { organization: organization("Other"), ..user.identity.clone() };
        let moved = RecordLogin { identity: identity.clone(), ..login(&fixture, "anna") };
        let RecordedLogin::Recorded(changed, asked_at) = fixture.execute(moved) else { panic!() };
        assert_eq!((&changed.identity, changed.created_at), (&identity, user.created_at));
        assert!(fixture.verdict(&token).is_err());
        assert!(is_minted(&fixture.execute(Mint { asked_at, ..mint_for(changed) })));
        let row = fixture.dump().audit.into_iter().find(|row| row.action == "user_set").unwrap();
        let expected =
            FieldChange { field: "organization".into(), from: "Main Org.".into(), to: "Other".into() };
        assert_eq!(row.changes, [expected]);
    });
}

/// Whoever had the name at the other source may be somebody else.
#[test]
fn user_that_another_source_owns_now_loses_its_tokens_and_what_was_remembered() {
    on_every_engine(|fixture| {
        let (user, asked_at) = record(&fixture, "anna");
        remember(&fixture, &user, 1, asked_at);
        let token = fixture.mint("anna");
        let ldap = RecordLogin { source: SourceName::Ldap, ..login(&fixture, "anna") };
        let RecordedLogin::Recorded(changed, _) = fixture.execute(ldap) else { panic!() };
        assert_eq!(changed.source, SourceName::Ldap);
        assert!(fixture.verdict(&token).is_err());
        let kept = fixture.record("anna");
        assert_eq!((kept.phc, kept.remembered), (None, None));
    });
}

#[test]
fn users_of_the_store_and_names_like_theirs_are_nobody_elses() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        let before = fixture.record("anna");
        for name in ["anna", "Anna", "ANNA"] {
            let outcome = fixture.execute(login(&fixture, name));
            assert_eq!(outcome, RecordedLogin::Conflict("anna".into()), "{name}");
            let row = fixture.dump().audit.pop().unwrap();
            assert_eq!((row.action.as_str(), row.subject.as_str()), ("login_conflict", name));
        }
        assert_eq!(fixture.record("anna"), before);
        // As well between two other sources.
        record(&fixture, "bert");
        let ldap = RecordLogin { source: SourceName::Ldap, ..login(&fixture, "BERT") };
        assert_eq!(fixture.execute(ldap), RecordedLogin::Conflict("bert".into()));
    });
}

#[test]
fn disabled_user_stays_disabled_whatever_its_source_says() {
    on_every_engine(|fixture| {
        record(&fixture, "anna");
        fixture.change("anna", UserChange::Disable);
        let attempt = login(&fixture, "anna");
        assert_eq!(fixture.unchanged(|| fixture.execute(attempt.clone())), RecordedLogin::Disabled);
        fixture.change("anna", UserChange::Enable);
        record(&fixture, "anna");
    });
}

/// An old password that was found right, then changed, must not become a token.
#[test]
fn cutoff_that_came_while_the_source_was_asked_refuses_login_and_mint() {
    on_every_engine(|fixture| {
        let (user, _) = record(&fixture, "anna");
        fixture.add("otto");
        let address = email_subject("anna@example.com");
        for subject in
            [user_subject("anna"), address.clone(), organization_subject("Main Org."), Subject::Everybody]
        {
            let (before, own) = (login(&fixture, "anna"), fixture.user("otto"));
            let new = login(&fixture, "never seen");
            fixture.execute(RevokeSubject { subject: subject.clone() });
            assert_eq!(
                fixture.unchanged(|| fixture.execute(before.clone())),
                RecordedLogin::Revoked,
                "{subject:?}"
            );
            let late = Mint { asked_at: before.asked_at, ..mint_for(user.clone()) };
            let outcome = fixture.unchanged(|| fixture.execute(late.clone()));
            assert!(matches!(outcome, MintOutcome::UserChanged), "{subject:?} {outcome:?}");
            let in_time = Mint { asked_at: fixture.sequence(), ..late };
            assert!(is_minted(&fixture.execute(in_time)), "{subject:?}");
            if ![user_subject("anna"), address.clone()].contains(&subject) {
                // Others of the organization too, the store's own among them; and who was never seen.
                let own = Mint { asked_at: before.asked_at, ..mint_for(own) };
                let outcome = fixture.execute(own);
                assert!(matches!(outcome, MintOutcome::UserChanged), "{subject:?} {outcome:?}");
                assert_eq!(fixture.execute(new), RecordedLogin::Revoked, "{subject:?}");
            }
        }
        // Nobody else's cutoff matters.
        let before = login(&fixture, "anna");
        fixture.execute(RevokeSubject { subject: user_subject("bert") });
        assert!(matches!(fixture.execute(before), RecordedLogin::Recorded(..)));
    });
}

#[test]
fn remembered_hash_is_dropped_with_any_change_of_the_user() {
    on_every_engine(|fixture| {
        let claims = UserChange::Claims { email: Some("new@example.com".into()), organization: None };
        for change in [claims, UserChange::Disable, UserChange::Enable] {
            let user = match fixture.execute(login(&fixture, "anna")) {
                RecordedLogin::Disabled => fixture.user("anna"),
                RecordedLogin::Recorded(user, _) => user,
                other => panic!("{other:?}"),
            };
            let asked_at = fixture.sequence();
            remember(&fixture, &user, 3, asked_at);
            let kept = fixture.record("anna");
            let at = UnixTime(super::samples::START);
            assert_eq!(
                (kept.phc, kept.remembered),
                (Some(phc(3)), Some(Remembered { sequence: asked_at, at }))
            );
            fixture.change("anna", change.clone());
            let kept = fixture.record("anna");
            assert_eq!((kept.phc, kept.remembered), (None, None), "{change:?}");
        }
    });
}

#[test]
fn nothing_is_remembered_of_the_stores_own_users_nor_of_a_password_before_a_change() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        let (own, before) = (fixture.user("anna"), fixture.record("anna"));
        remember(&fixture, &own, 9, fixture.sequence());
        assert_eq!(fixture.record("anna"), before);
        let (user, asked_at) = record(&fixture, "bert");
        let identity = Identity { email: "new@example.com".into(), ..user.identity.clone() };
        fixture.execute(RecordLogin { identity, ..login(&fixture, "bert") });
        remember(&fixture, &user, 9, asked_at);
        assert_eq!(fixture.record("bert").phc, None);
    });
}

/// Cutoffs are forgotten with the last token that they concern, and hashes are kept for longer.
#[test]
fn remembered_hash_that_a_cutoff_ended_does_not_come_back_when_the_cutoff_is_forgotten() {
    on_every_engine(|fixture| {
        let mut kept = 0;
        for subject in
            [user_subject("anna"), email_subject("anna@example.com"), organization_subject("Main Org.")]
        {
            let (user, asked_at) = record(&fixture, "anna");
            let identity = Identity { organization: organization("Other"), ..new_user("bert").identity };
            let other = RecordLogin { identity, ..login(&fixture, "bert") };
            let RecordedLogin::Recorded(other, other_asked_at) = fixture.execute(other) else { panic!() };
            remember(&fixture, &user, 1, asked_at);
            remember(&fixture, &other, 1, other_asked_at);
            fixture.execute(RevokeSubject { subject: subject.clone() });
            for time in [3600, 20 * DAY] {
                kept += time;
                fixture.set_time(START + kept);
                fixture.execute(NoteFailedLogins { failures: vec![] });
            }
            while fixture.execute(Purge { retention: RULES.retention() }) > 0 {}
            let move_to_store = fixture.execute(MoveUser { name: "anna".into() });
            assert_eq!(move_to_store, MoveOutcome::NotRemembered, "{subject:?}");
            let left = fixture.changes(0, super::samples::ALL).cutoffs;
            assert!(left.iter().all(|(left, _)| *left == Subject::Everybody), "{left:?}");
            assert_eq!(fixture.record("anna").phc, None, "{subject:?}");
            assert_eq!(fixture.record("bert").phc, Some(phc(1)), "{subject:?}");
        }
    });
}

#[test]
fn password_that_was_found_right_before_a_cutoff_or_another_login_is_not_remembered() {
    on_every_engine(|fixture| {
        let (user, first) = record(&fixture, "anna");
        fixture.execute(RevokeSubject { subject: email_subject("anna@example.com") });
        remember(&fixture, &user, 1, first);
        assert_eq!(fixture.record("anna").phc, None);
        let second = fixture.sequence();
        fixture.execute(RevokeSubject { subject: user_subject("bert") });
        remember(&fixture, &user, 2, fixture.sequence());
        remember(&fixture, &user, 1, second);
        assert_eq!(fixture.record("anna").phc, Some(phc(2)));
    });
}

#[test]
fn user_moves_to_the_store_with_the_hash_that_is_remembered_and_keeps_its_tokens() {
    on_every_engine(|fixture| {
        let move_to_store = |name: &str| fixture.execute(MoveUser { name: name.into() });
        assert_eq!(move_to_store("anna"), MoveOutcome::Unknown);
        let (user, asked_at) = record(&fixture, "anna");
        assert_eq!(move_to_store("anna"), MoveOutcome::NotRemembered);
        remember(&fixture, &user, 5, asked_at);
        let token = fixture.mint("anna");
        assert_eq!(move_to_store("anna"), MoveOutcome::Moved);
        let kept = fixture.record("anna");
        assert_eq!((kept.user.source, kept.phc, kept.remembered), (SourceName::Store, Some(phc(5)), None));
        assert_eq!(fixture.verdict(&token), Ok(()));
        assert_eq!(move_to_store("anna"), MoveOutcome::Unchanged);
        // What was revoked since may have been revoked because the password is known to others.
        let (user, asked_at) = record(&fixture, "bert");
        remember(&fixture, &user, 5, asked_at);
        fixture.execute(RevokeSubject { subject: user_subject("bert") });
        assert_eq!(move_to_store("bert"), MoveOutcome::NotRemembered);
    });
}

#[test]
fn password_that_is_set_here_makes_the_user_the_stores_own() {
    on_every_engine(|fixture| {
        record(&fixture, "anna");
        fixture.change("anna", UserChange::Password(phc(2)));
        let kept = fixture.record("anna");
        assert_eq!((kept.user.source, kept.phc), (SourceName::Store, Some(phc(2))));
        let outcome = fixture.execute(login(&fixture, "anna"));
        assert_eq!(outcome, RecordedLogin::Conflict("anna".into()));
    });
}

#[test]
fn list_can_be_of_one_source_and_of_those_that_are_remembered() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        record(&fixture, "bert");
        let (carl, asked_at) = record(&fixture, "carl");
        remember(&fixture, &carl, 1, asked_at);
        fixture.execute(RecordLogin { source: SourceName::Ldap, ..login(&fixture, "dora") });
        let names = |source, remembered| -> Vec<String> {
            let filter = UserFilter { source, remembered, ..UserFilter::default() };
            let page = fixture.wait(fixture.store.users(filter, "", 10));
            page.into_iter().map(|listed| listed.user.identity.user.to_string()).collect()
        };
        assert_eq!(names(None, false), ["anna", "bert", "carl", "dora"]);
        assert_eq!(names(Some(SourceName::Store), false), ["anna"]);
        assert_eq!(names(Some(SourceName::Platform), false), ["bert", "carl"]);
        assert_eq!(names(Some(SourceName::Ldap), false), ["dora"]);
        assert_eq!(names(None, true), ["carl"]);
        assert_eq!(names(Some(SourceName::Store), true), [""; 0]);
    });
}

#[test]
fn copy_of_a_store_has_the_sources_and_what_is_remembered() {
    on_every_engine(|fixture| {
        let (user, asked_at) = record(&fixture, "anna");
        remember(&fixture, &user, 1, asked_at);
        assert_eq!(fixture.back_up().record("anna"), fixture.record("anna"));
        let before = fixture.record("anna");
        assert_eq!(fixture.reopen().record("anna"), before);
    });
}
