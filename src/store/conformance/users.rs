//! Users: adding them, what is read of them, and new hashes of the same password.

use super::harness::{Fixture, assert_pages, on_every_engine};
use super::samples::{START, new_user, organization, phc};
use crate::auth::identity::Identity;
use crate::auth::name::Name;
use crate::auth::time::UnixTime;
use crate::auth::user_source::SourceName;
use crate::store::command::{AddUser, NameConflict, NewUser, Rehash, UserChange};
use crate::store::records::{User, UserRecord};

#[test]
fn added_user_is_read_back_as_given() {
    on_every_engine(|fixture| {
        fixture.set_time(START + 7);
        let identity = Identity {
            user: Name::parse_user("Zoë 日本語 🦀").unwrap(),
            email: "o'hara+tag@example.com".into(),
            organization: organization("\"Main\"; Org: %_"),
        };
        let user = NewUser { identity: identity.clone(), phc: phc(3) };
        assert_eq!(fixture.execute(AddUser { user }), Ok(()));
        let user = User {
            identity,
            source: SourceName::Store,
            disabled: false,
            credential_version: fixture.sequence(),
            created_at: UnixTime(START + 7),
            updated_at: UnixTime(START + 7),
        };
        let name = user.identity.user.to_string();
        assert_eq!(fixture.record(&name), UserRecord { user, phc: Some(phc(3)), remembered: None });
    });
}

#[test]
fn user_is_found_by_its_exact_name_only() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        // No collation, pattern or trailing blank may find it.
        for name in ["ANNA", "Anna", "ann", "anna ", "", "%", "ann_", "anna\0"] {
            assert_eq!(fixture.wait(fixture.store.user(name)), None, "{name:?}");
        }
    });
}

#[test]
fn name_is_taken_once() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        let again = NewUser { phc: phc(1), ..new_user("anna") };
        let outcome = fixture.unchanged(|| fixture.execute(AddUser { user: again }));
        assert_eq!(outcome, Err(NameConflict::Exists));
    });
}

#[test]
fn confusable_name_is_refused() {
    on_every_engine(|fixture| {
        for (first, second) in [
            ("anna", "ANNA"),
            ("STRASSE", "straße"),
            ("ΣΊΣΥΦΟΣ", "σίσυφος"),
            ("Kelvin", "\u{ff2b}elvin"),
            ("ſam", "SAM"),
        ] {
            fixture.add(first);
            let outcome = fixture.unchanged(|| fixture.execute(AddUser { user: new_user(second) }));
            assert_eq!(outcome, Err(NameConflict::Confusable(first.to_owned())), "{second}");
        }
    });
}

#[test]
fn disabled_user_keeps_its_name() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        fixture.change("anna", UserChange::Disable);
        let add = |name| fixture.unchanged(|| fixture.execute(AddUser { user: new_user(name) }));
        assert_eq!(add("anna"), Err(NameConflict::Exists));
        assert_eq!(add("Anna"), Err(NameConflict::Confusable("anna".into())));
    });
}

#[test]
fn name_of_a_removed_user_is_free_again() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        fixture.change("anna", UserChange::Remove);
        assert_eq!(fixture.wait(fixture.store.user("anna")), None);
        fixture.add("Anna");
        let names: Vec<_> = fixture.users().into_iter().map(|user| user.identity.user.to_string()).collect();
        assert_eq!(names, ["Anna"]);
    });
}

#[test]
fn users_are_read_by_page_in_the_order_of_their_bytes() {
    on_every_engine(|fixture| {
        // A language's collation would put these in another order.
        let mut names = ["b", "a", "C", "Ä", "z", "é", "_", "10", "9", "日", "🦀", "a b", "a-b", "ab"];
        names.iter().for_each(|name| fixture.add(name));
        let users = assert_pages(|last: Option<&User>, limit| {
            let after = last.map_or("", |user| user.identity.user.as_str());
            fixture.users_after(after, limit)
        });
        names.sort_unstable();
        let read: Vec<_> = users.iter().map(|user| user.identity.user.as_str()).collect();
        assert_eq!(read, names);
        // The page begins behind a name whether or not a user bears it.
        let after = |name| fixture.users_after(name, 1);
        assert_eq!(after("a"), [fixture.user("a b")]);
        assert_eq!(after("aa"), [fixture.user("ab")]);
        assert_eq!(after("🦀"), []);
        assert_eq!(fixture.users_after("", 0), []);
        assert!(users.iter().all(|user| *user == fixture.user(user.identity.user.as_str())));
    });
}

fn rehash(fixture: &Fixture, name: &str, credential_version: u64) {
    let user = Name::parse_user(name).unwrap();
    fixture.execute(Rehash { user, credential_version, phc: phc(9) });
}

#[test]
fn rehash_changes_the_hash_and_nothing_else() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        fixture.add("bert");
        let token = fixture.mint("anna");
        fixture.set_time(START + 10);
        let mut expected = fixture.dump();
        rehash(&fixture, "anna", fixture.user("anna").credential_version);
        // No sequence, no audit row, and `updated_at` stays: the password is the same.
        expected.users[0].phc = Some(phc(9));
        assert_eq!(fixture.dump(), expected);
        assert_eq!(fixture.verdict(&token), Ok(()));
    });
}

#[test]
fn rehash_at_another_version_changes_nothing() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        let old = fixture.user("anna").credential_version;
        fixture.change("anna", UserChange::Password(phc(1)));
        let new = fixture.user("anna").credential_version;
        for (name, version) in [("anna", old), ("anna", new + 1), ("anna", 0), ("nobody", new)] {
            fixture.unchanged(|| rehash(&fixture, name, version));
        }
        assert_eq!(fixture.record("anna").phc, Some(phc(1)));
    });
}

#[test]
fn rehash_cannot_undo_a_password_change_after_a_name_was_given_again() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        let old = fixture.user("anna").credential_version;
        fixture.change("anna", UserChange::Remove);
        fixture.add("anna");
        fixture.unchanged(|| rehash(&fixture, "anna", old));
    });
}

#[test]
fn new_store_holds_nothing_but_a_cutoff_on_everybody() {
    on_every_engine(|fixture| {
        assert_eq!((fixture.users(), fixture.audit()), (vec![], vec![]));
        assert_eq!(fixture.wait(fixture.store.keys()), []);
        let [cutoff] = &fixture.revocations()[..] else { panic!("one revocation") };
        assert_eq!((cutoff.kind, cutoff.sequence, cutoff.blocked), ("everybody", 1, false));
        assert_eq!(cutoff.time, UnixTime(START));
        assert_eq!(fixture.sequence(), 1);
        assert_eq!(fixture.load().sequence(), 1);
    });
}
