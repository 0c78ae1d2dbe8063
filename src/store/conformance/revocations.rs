//! Revocations of tokens and of subjects: once and for good, in the store's order.

use super::harness::{Fixture, on_every_engine};
use super::samples::{
    ACCEPT, DAY, RULES, START, email_subject, foreign_token, new_user, organization_subject, revoke_id,
    sequence_of, token_id, user_subject,
};
use crate::auth::denial::Denial;
use crate::auth::identity::Identity;
use crate::auth::name::Name;
use crate::auth::revocation::{Sizes, Subject};
use crate::auth::time::{Lived, UnixTime};
use crate::auth::token_set::{Keep, RevokedToken};
use crate::store::command::{AddUser, Expiry, NewUser, RevokeKey, RevokeSubject, RevokeToken, UserChange};
use crate::store::records::Revocation;

#[test]
fn revoked_token_is_refused_and_its_neighbour_is_not() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        let (one, other) = (fixture.mint("anna"), fixture.mint("anna"));
        let sequence = fixture.revoke_token(&one);
        assert_eq!(sequence, sequence_of(&other) + 1);
        assert_eq!(fixture.verdict(&one), Err(Denial::RevokedToken));
        assert_eq!(fixture.verdict(&other), Ok(()));
    });
}

#[test]
fn token_is_revoked_once() {
    on_every_engine(|fixture| {
        let first = fixture.execute(revoke_id(1, START + 100, Some("anna")));
        fixture.set_time(START + 10);
        // Whatever else is said of the token the second time.
        for command in [
            revoke_id(1, START + 100, Some("anna")),
            revoke_id(1, START + 900, Some("bert")),
            revoke_id(1, START, None),
            RevokeToken { expiry: Expiry::Within { max_lifetime: 1 }, ..revoke_id(1, 0, None) },
        ] {
            assert_eq!(fixture.unchanged(|| fixture.execute(command)), first);
        }
        assert!(fixture.execute(revoke_id(2, START + 100, Some("anna"))) > first);
    });
}

#[test]
fn revoked_token_is_kept_as_long_as_it_could_be_valid() {
    on_every_engine(|fixture| {
        fixture.set_time(START + 5);
        let max_lifetime = RULES.max_lifetime;
        for (which, user, expiry, keep) in [
            (1, None, Expiry::At(UnixTime(START + 77)), Keep::Expires(UnixTime(START + 77))),
            (2, Some("anna"), Expiry::At(UnixTime(START - 77)), Keep::Expires(UnixTime(START - 77))),
            // A day more: the clock that issued it may have been ahead.
            (3, None, Expiry::Within { max_lifetime }, Keep::Until(UnixTime(START + 5 + max_lifetime + DAY))),
        ] {
            let id = token_id(which);
            let sequence = fixture.execute(RevokeToken { id, expiry, user: user.map(Into::into) });
            let revoked = RevokedToken { id, keep, lived: Lived(0) };
            assert_eq!(fixture.changes(sequence - 1, 9).tokens, [revoked], "{expiry:?}");
            let (Keep::Expires(time) | Keep::Until(time)) = keep;
            let row = Revocation {
                kind: "token",
                subject: id.to_string(),
                sequence,
                time,
                blocked: false,
                user: user.map(Into::into),
                reason: None,
            };
            assert_eq!(fixture.revocation("token", &id.to_string()), Some(row));
        }
    });
}

#[test]
fn token_of_unknown_expiry_is_refused_whenever_it_expires() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        let token = fixture.mint("anna");
        let expiry = Expiry::Within { max_lifetime: RULES.max_lifetime };
        fixture.execute(RevokeToken { id: token.id, expiry, user: None });
        assert_eq!(fixture.verdict(&token), Err(Denial::RevokedToken));
    });
}

#[test]
fn revoked_subject_loses_the_tokens_it_had_and_nobody_else_does() {
    on_every_engine(|fixture| {
        let add = |name: &str, organization: &str| {
            let organization = Name::parse(organization).unwrap();
            let identity = Identity { organization, ..new_user(name).identity };
            let user = NewUser { identity, ..new_user(name) };
            assert_eq!(fixture.execute(AddUser { user }), Ok(()));
        };
        add("anna", "Main Org.");
        add("bert", "Main Org.");
        add("cleo", "Other");
        let names = ["anna", "bert", "cleo"];
        for (subject, denial, revoked) in [
            (user_subject("anna"), Denial::RevokedUser, [true, false, false]),
            (organization_subject("Main Org."), Denial::RevokedOrganization, [true, true, false]),
            (email_subject("anna@example.com"), Denial::RevokedEmail, [true, false, false]),
            (email_subject("nobody@example.com"), Denial::RevokedEmail, [false, false, false]),
            (Subject::Everybody, Denial::RevokedEverybody, [true, true, true]),
            // Names that nobody bears: nothing is found, nothing is lost.
            (user_subject("nobody"), Denial::RevokedUser, [false, false, false]),
            (organization_subject("Nowhere"), Denial::RevokedOrganization, [false, false, false]),
            // Names are compared by bytes, and a user is not an organization.
            (user_subject("ANNA"), Denial::RevokedUser, [false, false, false]),
            (organization_subject("anna"), Denial::RevokedOrganization, [false, false, false]),
            (user_subject("Other"), Denial::RevokedUser, [false, false, false]),
        ] {
            let tokens = names.map(|name| fixture.mint(name));
            fixture.revoke(subject.clone());
            for (token, revoked) in tokens.iter().zip(revoked) {
                let expected = if revoked { Err(denial) } else { Ok(()) };
                assert_eq!(fixture.verdict(token), expected, "{subject:?} {:?}", token.identity.user);
            }
            for name in names {
                assert_eq!(fixture.verdict(&fixture.mint(name)), Ok(()), "{subject:?}");
            }
        }
    });
}

#[test]
fn revocation_of_an_unknown_name_ends_foreign_tokens() {
    on_every_engine(|fixture| {
        let (before, after) = (foreign_token("nobody", START + 5), foreign_token("nobody", START + 6));
        let verdicts = || {
            let snapshot = fixture.load();
            [&before, &after].map(|token| snapshot.check(token, &ACCEPT))
        };
        // The skew counts against a foreign token.
        assert_eq!(verdicts(), [Err(Denial::RevokedEverybody), Ok(())]);
        fixture.revoke(user_subject("nobody"));
        assert_eq!(verdicts(), [Err(Denial::RevokedEverybody), Ok(())]);
        fixture.set_time(START + 1);
        fixture.revoke(user_subject("nobody"));
        assert_eq!(verdicts(), [Err(Denial::RevokedEverybody), Err(Denial::RevokedUser)]);
    });
}

#[test]
fn revocation_of_a_subject_is_shown_with_its_sequence_and_time() {
    on_every_engine(|fixture| {
        for (time, (subject, kind, name, reason)) in (START + 1..).zip([
            (Subject::Everybody, "everybody", "", "revoke_all"),
            (user_subject("nobody"), "user", "nobody", "revoke_user"),
            (organization_subject("Main Org."), "organization", "Main Org.", "revoke_organization"),
        ]) {
            fixture.set_time(time);
            let before = fixture.sequence();
            let sequence = fixture.revoke(subject);
            assert_eq!(sequence, before + 1);
            let row = Revocation {
                kind,
                subject: name.into(),
                sequence,
                time: UnixTime(time),
                blocked: false,
                user: None,
                reason: Some(reason.into()),
            };
            assert_eq!(fixture.revocations().first(), Some(&row));
        }
        // One for each subject, however often it is revoked.
        let count = fixture.revocations().len();
        fixture.revoke(Subject::Everybody);
        assert_eq!(fixture.revocations().len(), count);
    });
}

#[test]
fn cutoff_time_never_goes_back_and_its_sequence_goes_on() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        let subjects = [
            (Subject::Everybody, "everybody", ""),
            (user_subject("anna"), "user", "anna"),
            (organization_subject("Main Org."), "organization", "Main Org."),
        ];
        for (subject, kind, name) in subjects {
            fixture.set_time(START + 500);
            fixture.revoke(subject.clone());
            // The clock is set back; and another process has one that is behind.
            fixture.set_time(START + 20);
            let sequences = [
                fixture.revoke(subject.clone()),
                fixture.execute_on(&fixture.another(START), RevokeSubject { subject }),
            ];
            let row = fixture.revocation(kind, name).unwrap();
            assert_eq!((row.time, row.sequence), (UnixTime(START + 500), sequences[1]), "{kind}");
            assert!(sequences[0] < sequences[1]);
        }
        fixture.change("anna", UserChange::Disable);
        assert_eq!(fixture.revocation("user", "anna").unwrap().time, UnixTime(START + 500));
        fixture.change("anna", UserChange::Remove);
        fixture.add("anna");
        assert_eq!(fixture.revocation("user", "anna").unwrap().time, UnixTime(START + 500));
    });
}

/// Some of everything that can be revoked, in an order of its own for each kind.
pub(super) fn revoke_everything(fixture: &Fixture) {
    fixture.add("anna");
    fixture.add("bert");
    fixture.record_keys(&[("k1", 1), ("k2", 2), ("k3", 3)]);
    fixture.execute(revoke_id(1, START + 50, None));
    fixture.execute(RevokeKey { kid: "k2".into(), successors: vec![] });
    fixture.revoke(organization_subject("Main Org."));
    fixture.execute(revoke_id(2, START + 10, Some("anna")));
    fixture.execute(revoke_id(3, START + 90, None));
    fixture.change("bert", UserChange::Disable);
    fixture.execute(RevokeKey { kid: "k1".into(), successors: vec![] });
    fixture.revoke(Subject::Everybody);
    fixture.execute(revoke_id(4, START, None));
}

#[test]
fn revocations_of_every_kind_are_loaded() {
    on_every_engine(|fixture| {
        revoke_everything(&fixture);
        let snapshot = fixture.load();
        // Of the users, one was added and no more.
        assert_eq!(snapshot.sizes(), Sizes { tokens: 4, users: 1, organizations: 1, emails: 0, keys: 2 });
        assert_eq!(snapshot.sequence(), fixture.sequence());
        assert_eq!(snapshot.users(), 1);
    });
}
