//! What concerns one token. That its verdict is that of all that is loaded, random histories show.

use super::harness::{Fixture, on_every_engine};
use super::samples::{ALL, START, organization_subject, revoke_id, token_id, user_subject};
use crate::auth::identity::Identity;
use crate::auth::name::Name;
use crate::auth::revocation::{Account, Subject};
use crate::auth::time::{Lived, UnixTime};
use crate::auth::token_set::{Keep, RevokedToken};
use crate::store::command::{RevokeKey, UserChange};
use crate::store::records::Changes;

fn about(fixture: &Fixture, user: &str, organization: &str, token: u64) -> Changes {
    let identity = Identity {
        user: Name::parse_user(user).unwrap(),
        email: format!("{user}@example.com").into(),
        organization: Name::parse(organization).unwrap(),
    };
    fixture.wait(fixture.store.about(&identity, token_id(token)))
}

#[test]
fn about_one_token_is_read_what_concerns_it_and_no_more() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        fixture.add("bert");
        fixture.change("bert", UserChange::Disable);
        fixture.record_keys(&[("a", 1), ("b", 2)]);
        fixture.execute(RevokeKey { kid: "a".into(), successors: vec![] });
        for subject in [
            organization_subject("Main Org."),
            organization_subject("anna"),
            user_subject("Main Org."),
            user_subject("nobody"),
        ] {
            fixture.revoke(subject);
        }
        fixture.execute(revoke_id(1, START + 5, Some("anna")));
        fixture.execute(revoke_id(2, START, Some("anna")));
        let whole = fixture.changes(0, ALL);
        let revoked =
            RevokedToken { id: token_id(1), keep: Keep::Expires(UnixTime(START + 5)), lived: Lived(0) };
        let (anna, nobody) = (user_subject("anna"), user_subject("nobody"));
        let main = organization_subject("Main Org.");
        for (user, organization, token, subjects, account, tokens) in [
            ("anna", "Main Org.", 1, vec![anna.clone(), main.clone()], Some(Account::Enabled), vec![revoked]),
            ("bert", "Main Org.", 3, vec![user_subject("bert"), main], Some(Account::Disabled), vec![]),
            // Names that the store does not know as users, and one that it knows in no way.
            ("nobody", "Nowhere", 3, vec![nobody], None, vec![]),
            ("ANNA", "main org.", 3, vec![], None, vec![]),
        ] {
            let mut changes = about(&fixture, user, organization, token);
            changes.cutoffs.sort_by_key(|(_, cutoff)| cutoff.sequence);
            let mut expected: Vec<_> = whole.cutoffs.clone();
            expected.retain(|(subject, _)| *subject == Subject::Everybody || subjects.contains(subject));
            assert_eq!(changes.cutoffs, expected, "{user}");
            let users: Vec<_> = account.map(|account| (Box::from(user), account)).into_iter().collect();
            assert_eq!((changes.users, changes.tokens), (users, tokens), "{user}");
            // There are never many keys.
            assert_eq!((changes.keys, changes.time), (whole.keys.clone(), whole.time));
            assert_eq!((changes.through, changes.sequence), (whole.sequence, whole.sequence));
        }
    });
}
