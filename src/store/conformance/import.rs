//! Imports: users are added, changed or left alone, as often as they are imported.

use super::harness::{Fixture, on_every_engine};
use super::samples::{START, imported_user, new_user, organization, phc, user_subject};
use crate::auth::name::Name;
use crate::auth::password::Phc;
use crate::auth::time::UnixTime;
use crate::store::command::{
    Difference, ImportConflict, ImportEffect, ImportUsers, Imported, ImportedUser, NewUser, Rehash,
    UserChange,
};

fn users(names: &[&str]) -> Vec<ImportedUser> {
    names.iter().map(|name| imported_user(name)).collect()
}

/// A hash that a login replaces.
fn old_hash(which: char) -> Phc {
    let text = format!("$2b$10$abcdefghijklmnopqrstuu{which}bcdefghijklmnopqrstuvwxyzABCD.");
    Phc::parse(&text).unwrap()
}

fn with_hash(name: &str, phc: Phc) -> ImportedUser {
    ImportedUser { user: NewUser { phc, ..new_user(name) }, disabled: None }
}

/// What a login with the right password does to a user with an old hash.
fn log_in(fixture: &Fixture, name: &str, new: Phc) {
    let credential_version = fixture.user(name).credential_version;
    fixture.execute(Rehash { user: Name::parse_user(name).unwrap(), credential_version, phc: new });
}

fn effects(fixture: &Fixture, users: &[ImportedUser], update: bool) -> Vec<ImportEffect> {
    fixture.unchanged(|| fixture.wait(fixture.store.import_effects(users.to_vec(), update)))
}

/// Imports one user that must be refused: nothing is changed, and it was foretold.
fn refused(fixture: &Fixture, user: ImportedUser, update: bool) -> ImportConflict {
    let foretold = effects(fixture, std::slice::from_ref(&user), update);
    let imported = fixture.unchanged(|| fixture.execute(ImportUsers { users: vec![user], update }));
    assert_eq!(imported.done(), 0);
    let conflict = imported.conflict.unwrap();
    assert_eq!(foretold, [ImportEffect::Conflict(conflict.clone())]);
    conflict
}

fn differs(difference: Difference) -> ImportConflict {
    ImportConflict::Differs(difference)
}

#[test]
fn imported_users_are_as_added_ones() {
    on_every_engine(|fixture| {
        fixture.set_time(START + 3);
        let before = fixture.sequence();
        let slice = users(&["cleo", "anna", "bert"]);
        assert_eq!(effects(&fixture, &slice, false), vec![ImportEffect::Added; 3]);
        assert_eq!(fixture.import(slice.clone(), false), Imported { added: 3, ..Imported::default() });
        for (ImportedUser { user: new, .. }, sequence) in slice.into_iter().zip(before + 1..) {
            let record = fixture.record(new.identity.user.as_str());
            assert_eq!((&record.user.identity, &record.phc), (&new.identity, &Some(new.phc.clone())));
            // One sequence each, in the order of the import: the feed can be cut between any two.
            assert_eq!((record.user.credential_version, record.user.disabled), (sequence, false));
            assert_eq!(record.user.created_at, UnixTime(START + 3));
            let cutoff = fixture.cutoff(&user_subject(new.identity.user.as_str())).unwrap();
            assert_eq!((cutoff.sequence, cutoff.blocked), (sequence, false));
        }
        assert_eq!(fixture.sequence(), before + 3);
    });
}

#[test]
fn conflict_ends_a_slice_before_it_and_what_came_before_is_imported() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        let slice = users(&["bert", "ANNA", "cleo"]);
        let confusable = ImportConflict::Confusable("anna".into());
        let expected = [ImportEffect::Added, ImportEffect::Conflict(confusable.clone()), ImportEffect::Added];
        assert_eq!(effects(&fixture, &slice, true), expected);
        let imported = fixture.execute(ImportUsers { users: slice, update: true });
        assert_eq!(imported, Imported { added: 1, conflict: Some(confusable), ..Imported::default() });
        let names: Vec<String> =
            fixture.users().iter().map(|user| user.identity.user.as_str().to_owned()).collect();
        assert_eq!(names, ["anna", "bert"]);
    });
}

#[test]
fn names_of_one_slice_conflict_with_each_other() {
    on_every_engine(|fixture| {
        let slice = users(&["anna", "anna", "ANNA"]);
        let imported = fixture.execute(ImportUsers { users: slice, update: false });
        let conflict = Some(ImportConflict::Confusable("anna".into()));
        assert_eq!(imported, Imported { added: 1, unchanged: 1, conflict, ..Imported::default() });
    });
}

#[test]
fn interrupted_import_can_be_run_again() {
    on_every_engine(|fixture| {
        let slice = users(&["anna", "bert", "cleo"]);
        fixture.import(slice[..2].to_vec(), false);
        let (anna, sequence) = (fixture.record("anna"), fixture.sequence());
        let token = fixture.mint("anna");
        let expected = Imported { added: 1, unchanged: 2, ..Imported::default() };
        assert_eq!(fixture.import(slice.clone(), false), expected);
        // Those that were there are left alone: their tokens live.
        assert_eq!(fixture.record("anna"), anna);
        assert_eq!(fixture.verdict(&token), Ok(()));
        assert_eq!(fixture.user("cleo").credential_version, sequence + 2);
        for update in [false, true] {
            let again = fixture.unchanged(|| fixture.import(slice.clone(), update));
            assert_eq!(again, Imported { unchanged: 3, ..Imported::default() });
        }
    });
}

#[test]
fn many_users_are_imported_in_slices_and_none_is_left_out() {
    on_every_engine(|fixture| {
        let many: Vec<ImportedUser> =
            (0..3_000).map(|which| imported_user(&format!("user {which}"))).collect();
        assert_eq!(fixture.import(many.clone(), false).added, 3_000);
        assert_eq!(fixture.users().len(), 3_000);
        assert_eq!(fixture.import(many, false).unchanged, 3_000);
    });
}

#[test]
fn user_with_other_data_is_a_conflict_or_updated_as_a_change_would() {
    let is = Difference::default();
    let anna = || imported_user("anna");
    let other = |edit: fn(&mut ImportedUser)| {
        let mut user = anna();
        edit(&mut user);
        user
    };
    let cases = [
        (
            other(|user| user.user.identity.email = "new@b".into()),
            Difference { email: true, ..is },
            &["user_set"][..],
        ),
        (
            other(|user| user.user.identity.organization = organization("Other")),
            Difference { organization: true, ..is },
            &["user_set"],
        ),
        (other(|user| user.user.phc = phc(1)), Difference { password: true, ..is }, &["user_passwd"]),
        (other(|user| user.disabled = Some(true)), Difference { disabled: true, ..is }, &["user_disable"]),
        (
            other(|user| {
                user.user.identity.email = "new@b".into();
                user.user.phc = phc(1);
                user.disabled = Some(true);
            }),
            Difference { email: true, password: true, disabled: true, ..is },
            &["user_set", "user_passwd", "user_disable"],
        ),
    ];
    on_every_engine(|fixture| {
        for (at, (user, difference, actions)) in cases.iter().enumerate() {
            let name = format!("anna{at}");
            let mut user = user.clone();
            user.user.identity.user = Name::parse_user(&name).unwrap();
            let mut first = anna();
            first.user.identity.user = user.user.identity.user.clone();
            fixture.import(vec![first], false);
            let (witness, token) = (fixture.record(&name), fixture.mint(&name));
            assert_eq!(refused(&fixture, user.clone(), false), differs(*difference));
            assert_eq!((fixture.record(&name), fixture.verdict(&token)), (witness, Ok(())));

            let users = vec![user.clone()];
            assert_eq!(effects(&fixture, &users, true), [ImportEffect::Updated]);
            let before = fixture.audit().len();
            let updated = Imported { updated: 1, ..Imported::default() };
            assert_eq!(fixture.import(users.clone(), true), updated);
            let record = fixture.record(&name);
            assert_eq!(
                (&record.user.identity, &record.phc),
                (&user.user.identity, &Some(user.user.phc.clone()))
            );
            assert_eq!(record.user.disabled, user.disabled == Some(true));
            // In the transaction that changed it.
            assert!(fixture.verdict(&token).is_err(), "{difference:?}");
            let told: Vec<String> = fixture.audit()[before..].iter().map(|row| row.action.clone()).collect();
            assert_eq!(&told, actions);
            assert_eq!(fixture.cutoff(&user_subject(&name)).unwrap().blocked, record.user.disabled);
            // And once more, nothing.
            let again = fixture.unchanged(|| fixture.import(users, true));
            assert_eq!(again, Imported { unchanged: 1, ..Imported::default() });
        }
    });
}

#[test]
fn disabled_user_stays_so_unless_an_import_says_otherwise() {
    on_every_engine(|fixture| {
        let user = |disabled| vec![ImportedUser { disabled, ..imported_user("anna") }];
        fixture.import(user(Some(true)), false);
        let (anna, cutoff) = (fixture.user("anna"), fixture.cutoff(&user_subject("anna")).unwrap());
        assert!(anna.disabled && cutoff.blocked);
        for update in [false, true] {
            let unchanged = Imported { unchanged: 1, ..Imported::default() };
            assert_eq!(fixture.unchanged(|| fixture.import(user(None), update)), unchanged);
        }
        let email = vec![ImportedUser {
            user: NewUser {
                identity: crate::auth::identity::Identity {
                    email: "new@b".into(),
                    ..new_user("anna").identity
                },
                ..new_user("anna")
            },
            disabled: None,
        }];
        fixture.import(email, true);
        assert!(fixture.user("anna").disabled && fixture.cutoff(&user_subject("anna")).unwrap().blocked);
        fixture.import(user(Some(false)), true);
        assert!(!fixture.user("anna").disabled && !fixture.cutoff(&user_subject("anna")).unwrap().blocked);
    });
}

#[test]
fn hash_that_a_login_replaced_is_not_another_password() {
    on_every_engine(|fixture| {
        let line = |which| vec![with_hash("anna", old_hash(which))];
        fixture.import(line('a'), false);
        log_in(&fixture, "anna", phc(7));
        let unchanged = Imported { unchanged: 1, ..Imported::default() };
        for update in [false, true] {
            assert_eq!(fixture.unchanged(|| fixture.import(line('a'), update)), unchanged);
        }
        // Also where something else of the user has changed since, and been imported again.
        fixture.change("anna", UserChange::Disable);
        fixture.change("anna", UserChange::Enable);
        assert_eq!(fixture.unchanged(|| fixture.import(line('a'), true)), unchanged);

        // The other system has a new password.
        let password = differs(Difference { password: true, ..Difference::default() });
        assert_eq!(refused(&fixture, line('b').remove(0), false), password);
        let token = fixture.mint("anna");
        assert_eq!(fixture.import(line('b'), true).updated, 1);
        assert!(fixture.verdict(&token).is_err());
        assert_eq!(fixture.record("anna").phc, Some(old_hash('b')));
        log_in(&fixture, "anna", phc(8));
        assert_eq!(fixture.unchanged(|| fixture.import(line('b'), true)), unchanged);
        assert_eq!(refused(&fixture, line('a').remove(0), false), password);

        // So has this one: what was imported before is another password again.
        fixture.change("anna", UserChange::Password(phc(9)));
        assert_eq!(refused(&fixture, line('b').remove(0), false), password);
        assert_eq!(fixture.import(line('b'), true).updated, 1);
    });
}

#[test]
fn password_of_an_added_user_is_another_one_until_it_is_imported() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        let line = with_hash("anna", old_hash('a'));
        let password = differs(Difference { password: true, ..Difference::default() });
        assert_eq!(refused(&fixture, line, false), password);
    });
}

#[test]
fn empty_import_changes_nothing() {
    on_every_engine(|fixture| {
        let outcome = fixture.unchanged(|| fixture.execute(ImportUsers { users: vec![], update: true }));
        assert_eq!(outcome, Imported::default());
    });
}

#[test]
fn imported_name_of_a_removed_user_revives_no_token() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        let token = fixture.mint("anna");
        fixture.change("anna", UserChange::Remove);
        fixture.import_new(&["anna"]);
        assert!(fixture.verdict(&token).is_err());
        assert_eq!(fixture.verdict(&fixture.mint("anna")), Ok(()));
    });
}
