//! Imports: a slice of users, all of it or nothing.

use super::harness::{Fixture, on_every_engine};
use super::samples::{START, new_user, organization, phc, user_subject};
use crate::auth::name::Name;
use crate::auth::time::UnixTime;
use crate::store::command::{ImportUsers, NameConflict, NewUser, Rehash, UserChange};

type Conflicts = Vec<(usize, NameConflict)>;

fn users(names: &[&str]) -> Vec<NewUser> {
    names.iter().map(|name| new_user(name)).collect()
}

/// Imports what must be refused; looks that nothing was changed, and that the conflicts were foretold.
fn refused(fixture: &Fixture, users: Vec<NewUser>) -> Conflicts {
    let foretold = fixture.wait(fixture.store.conflicts(users.clone()));
    let conflicts = fixture.unchanged(|| fixture.execute(ImportUsers { users })).unwrap_err();
    assert_eq!(foretold, conflicts);
    conflicts
}

#[test]
fn imported_users_are_as_added_ones() {
    on_every_engine(|fixture| {
        fixture.set_time(START + 3);
        let before = fixture.sequence();
        let slice = users(&["cleo", "anna", "bert"]);
        assert_eq!(fixture.wait(fixture.store.conflicts(slice.clone())), []);
        assert_eq!(fixture.execute(ImportUsers { users: slice.clone() }), Ok(()));
        for (new, sequence) in slice.into_iter().zip(before + 1..) {
            let record = fixture.record(new.identity.user.as_str());
            assert_eq!((&record.user.identity, &record.phc), (&new.identity, &new.phc));
            // One sequence each, in the order of the import: the feed can be cut between any two.
            assert_eq!((record.user.credential_version, record.user.disabled), (sequence, false));
            assert_eq!(record.user.created_at, UnixTime(START + 3));
            let cutoff = fixture.cutoff(&user_subject(new.identity.user.as_str())).unwrap();
            assert_eq!((cutoff.number, cutoff.closed), (sequence, false));
        }
        assert_eq!(fixture.sequence(), before + 3);
    });
}

#[test]
fn import_with_a_conflict_imports_nothing_and_names_every_place() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        fixture.add("bert");
        let taken = NewUser { phc: phc(1), ..new_user("bert") };
        let slice = vec![new_user("cleo"), new_user("ANNA"), taken, new_user("dora"), new_user("Anna")];
        let confusable = || NameConflict::Confusable("anna".into());
        let expected = vec![(1, confusable()), (2, NameConflict::Exists), (4, confusable())];
        assert_eq!(refused(&fixture, slice), expected);
    });
}

#[test]
fn names_of_one_slice_conflict_with_each_other() {
    on_every_engine(|fixture| {
        let slice = users(&["anna", "bert", "anna", "BERT", "cleo"]);
        let expected = vec![(2, NameConflict::Exists), (3, NameConflict::Confusable("bert".into()))];
        assert_eq!(refused(&fixture, slice), expected);
    });
}

#[test]
fn interrupted_import_can_be_run_again() {
    on_every_engine(|fixture| {
        let slice = users(&["anna", "bert", "cleo"]);
        assert_eq!(fixture.execute(ImportUsers { users: slice[..2].to_vec() }), Ok(()));
        let (anna, sequence) = (fixture.record("anna"), fixture.sequence());
        let token = fixture.mint("anna");
        assert_eq!(fixture.execute(ImportUsers { users: slice.clone() }), Ok(()));
        // Those that were there are left alone: their tokens live.
        assert_eq!(fixture.record("anna"), anna);
        assert_eq!(fixture.verdict(&token), Ok(()));
        assert_eq!(fixture.user("cleo").credential_version, sequence + 2);
        let again = fixture.unchanged(|| fixture.execute(ImportUsers { users: slice }));
        assert_eq!(again, Ok(()));
    });
}

#[test]
fn user_that_changed_since_its_import_is_a_conflict() {
    let email = UserChange::Claims { email: Some("new@b".into()), organization: None };
    let moved = UserChange::Claims { email: None, organization: Some(organization("Other")) };
    on_every_engine(|fixture| {
        for (name, change) in [
            ("one", email.clone()),
            ("two", moved.clone()),
            ("three", UserChange::Password(phc(1))),
            ("four", UserChange::Disable),
        ] {
            let slice = users(&[&format!("new {name}"), name]);
            fixture.add(name);
            fixture.change(name, change.clone());
            assert_eq!(refused(&fixture, slice), [(1, NameConflict::Exists)], "{change:?}");
        }
    });
}

#[test]
fn user_whose_hash_was_renewed_is_a_conflict() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        let credential_version = fixture.user("anna").credential_version;
        let user = Name::parse_user("anna").unwrap();
        fixture.execute(Rehash { user, credential_version, phc: phc(1) });
        assert_eq!(refused(&fixture, users(&["anna"])), [(0, NameConflict::Exists)]);
    });
}

#[test]
fn empty_import_changes_nothing() {
    on_every_engine(|fixture| {
        let outcome = fixture.unchanged(|| fixture.execute(ImportUsers { users: vec![] }));
        assert_eq!(outcome, Ok(()));
    });
}

#[test]
fn imported_name_of_a_removed_user_revives_no_token() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        let token = fixture.mint("anna");
        fixture.change("anna", UserChange::Remove);
        assert_eq!(fixture.execute(ImportUsers { users: users(&["anna"]) }), Ok(()));
        assert!(fixture.verdict(&token).is_err());
        assert_eq!(fixture.verdict(&fixture.mint("anna")), Ok(()));
    });
}
