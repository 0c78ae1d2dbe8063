//! The list of revocations in force: the newest first, by page, with filters, and each cutoff with its reason.

use super::harness::{Fixture, assert_pages, on_every_engine};
use super::samples::{
    ALL, DAY, START, organization, organization_subject, phc, revoke_id, token_id, user_subject,
};
use crate::auth::revocation::Subject;
use crate::auth::time::UnixTime;
use crate::store::after_restore::AfterRestore;
use crate::store::command::{NoteFailedLogins, Prune, Purge, RepairClock, RevokeKey, UserChange};
use crate::store::records::{Revocation, RevocationFilter, RevocationKind};

const HOUR: u64 = 3600;

/// Some of everything that can be revoked, at several times. `anna` is a user, an organization and a key.
fn write_history(fixture: &Fixture) {
    fixture.set_time(START + 10);
    fixture.add("anna");
    fixture.add("bert");
    fixture.record_keys(&[("k1", 1), ("k2", 2), ("anna", 3)]);
    fixture.set_time(START + 20);
    assert_eq!(fixture.execute(revoke_id(1, START, Some("anna"))), 7);
    fixture.revoke(organization_subject("anna"));
    fixture.set_time(START + 30);
    fixture.revoke(user_subject("bert"));
    fixture.execute(RevokeKey { kid: "k1".into(), successors: vec![] });
    fixture.execute(revoke_id(2, START, None));
    fixture.set_time(START + 40);
    fixture.change("anna", UserChange::Disable);
    fixture.execute(RevokeKey { kid: "anna".into(), successors: vec![] });
    fixture.execute(revoke_id(3, START, Some("bert")));
    fixture.set_time(START + 50);
    assert_eq!(fixture.revoke(Subject::Everybody), 15);
}

fn filter(kind: Option<RevocationKind>, subject: Option<&str>, since: u64) -> RevocationFilter {
    RevocationFilter { kind, subject: subject.map(Into::into), since: UnixTime(since) }
}

/// What a filter finds: the same whatever the size of the pages, the newest first.
fn found(fixture: &Fixture, filter: &RevocationFilter) -> Vec<Revocation> {
    let rows = assert_pages(|last: Option<&Revocation>, limit| {
        let before = last.map_or(u64::MAX, |row| row.sequence);
        fixture.wait(fixture.store.revocations(filter.clone(), before, limit))
    });
    assert!(rows.is_sorted_by(|one, next| one.sequence > next.sequence), "{rows:?}");
    rows
}

#[test]
fn revocations_of_every_kind_are_listed_by_page_with_the_newest_first() {
    on_every_engine(|fixture| {
        write_history(&fixture);
        let rows = found(&fixture, &RevocationFilter::default());
        let (second, third) = (token_id(2).to_string(), token_id(3).to_string());
        let listed: Vec<_> =
            rows.iter().map(|row| (row.sequence, row.kind, row.subject.as_str(), row.blocked)).collect();
        let expected = [
            (15, "everybody", "", false),
            (14, "token", &third, false),
            (13, "key", "anna", true),
            (12, "user", "anna", true),
            (11, "token", &second, false),
            (10, "key", "k1", true),
            (9, "user", "bert", false),
            (8, "organization", "anna", false),
            (7, "token", &token_id(1).to_string(), false),
        ];
        assert_eq!(listed, expected);
        let users: Vec<_> = rows.iter().filter_map(|row| row.user.as_deref()).collect();
        assert_eq!(users, ["bert", "anna"]);
        let reasons: Vec<_> = rows.iter().filter_map(|row| row.reason.as_deref()).collect();
        assert_eq!(reasons, ["revoke_all", "user_disable", "revoke_user", "revoke_organization"]);
    });
}

#[test]
fn list_is_filtered_by_kind_subject_and_time() {
    use RevocationKind::{Everybody, Key, Organization, Token, User};
    let id = |which| token_id(which).to_string();
    let (first, second, third, unknown) = (id(1), id(2), id(3), id(9));
    on_every_engine(|fixture| {
        write_history(&fixture);
        for (kind, subject, since, sequences) in [
            (None, None, 0, &[15, 14, 13, 12, 11, 10, 9, 8, 7][..]),
            (Some(Token), None, 0, &[14, 11, 7]),
            (Some(User), None, 0, &[12, 9]),
            (Some(Organization), None, 0, &[8]),
            (Some(Everybody), None, 0, &[15]),
            (Some(Key), None, 0, &[13, 10]),
            // Of a user also its tokens; of that name also an organization and a key.
            (None, Some("anna"), 0, &[13, 12, 8, 7]),
            (None, Some("bert"), 0, &[14, 9]),
            (None, Some("k1"), 0, &[10]),
            (None, Some(&first), 0, &[7]),
            (None, Some(&second), 0, &[11]),
            (Some(Token), Some(&third), 0, &[14]),
            (Some(User), Some(&third), 0, &[]),
            (None, Some(&unknown), 0, &[]),
            (None, Some("ANNA"), 0, &[]),
            (None, Some("ann"), 0, &[]),
            (None, Some("%"), 0, &[]),
            (None, Some("k2"), 0, &[]),
            (Some(Token), Some("anna"), 0, &[7]),
            (Some(User), Some("anna"), 0, &[12]),
            (Some(Organization), Some("anna"), 0, &[8]),
            (Some(Key), Some("anna"), 0, &[13]),
            (Some(Everybody), Some("anna"), 0, &[]),
            (None, None, START, &[15, 14, 13, 12, 11, 10, 9, 8, 7]),
            // The second itself counts.
            (None, None, START + 20, &[15, 14, 13, 12, 11, 10, 9, 8, 7]),
            (None, None, START + 21, &[15, 14, 13, 12, 11, 10, 9]),
            (None, None, START + 30, &[15, 14, 13, 12, 11, 10, 9]),
            (None, None, START + 31, &[15, 14, 13, 12]),
            (None, None, START + 50, &[15]),
            (None, None, START + 51, &[]),
            (None, None, u64::MAX >> 1, &[]),
            (Some(Token), None, START + 21, &[14, 11]),
            (Some(User), None, START + 31, &[12]),
            (Some(Key), None, START + 31, &[13]),
            (None, Some("anna"), START + 31, &[13, 12]),
            (Some(Token), Some("bert"), START + 31, &[14]),
            (Some(Token), Some("anna"), START + 31, &[]),
        ] {
            let rows = found(&fixture, &filter(kind, subject, since));
            let listed: Vec<u64> = rows.iter().map(|row| row.sequence).collect();
            assert_eq!(listed, sequences, "{kind:?} {subject:?} {since}");
        }
    });
}

#[test]
fn page_begins_before_a_sequence_whether_or_not_it_is_listed() {
    on_every_engine(|fixture| {
        write_history(&fixture);
        fixture.mint("bert");
        let page = |before, limit| -> Vec<u64> {
            let page = fixture.store.revocations(RevocationFilter::default(), before, limit);
            fixture.wait(page).iter().map(|row| row.sequence).collect()
        };
        assert_eq!(page(16, 2), [15, 14]);
        assert_eq!(page(15, 2), [14, 13]);
        assert_eq!(page(8, ALL), [7]);
        for (before, limit) in [(7, ALL), (1, ALL), (0, ALL), (u64::MAX, 0)] {
            assert_eq!(page(before, limit), [0; 0], "{before} {limit}");
        }
    });
}

#[test]
fn new_user_has_a_cutoff_that_is_not_a_revocation() {
    on_every_engine(|fixture| {
        let before = fixture.revocations();
        fixture.add("anna");
        fixture.import_new(&["bert", "cleo"]);
        assert_eq!(fixture.revocations(), before);
        for kind in [None, Some(RevocationKind::User)] {
            assert_eq!(found(&fixture, &filter(kind, Some("anna"), 0)), []);
        }
        for (number, name) in (2..).zip(["anna", "bert", "cleo"]) {
            assert_eq!(fixture.cutoff(&user_subject(name)).map(|cutoff| cutoff.sequence), Some(number));
        }
        // It is one from the first revocation on.
        let sequence = fixture.revoke(user_subject("bert"));
        assert_eq!(fixture.revocations()[0].sequence, sequence);
        assert_eq!(fixture.revocations().len(), before.len() + 1);
    });
}

#[test]
fn name_that_is_given_again_keeps_the_reason_of_its_cutoff() {
    on_every_engine(|fixture| {
        for import in [false, true] {
            fixture.add("anna");
            fixture.change("anna", UserChange::Remove);
            let removed = fixture.revocation("user", "anna").unwrap();
            assert_eq!((removed.reason.as_deref(), removed.blocked), (Some("user_remove"), true));
            if import {
                fixture.import_new(&["anna"]);
            } else {
                fixture.add("anna");
            }
            // The tokens of the removed user are still revoked, those of the new one are not.
            let sequence = fixture.sequence();
            let expected = Revocation { sequence, blocked: false, ..removed };
            assert_eq!(fixture.revocation("user", "anna"), Some(expected));
            fixture.change("anna", UserChange::Remove);
        }
    });
}

#[test]
fn name_that_is_given_again_after_a_purge_is_that_of_a_new_user() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        fixture.change("anna", UserChange::Remove);
        // The hour of the removal ends, and the last token of it.
        fixture.set_time(START + HOUR);
        fixture.execute(NoteFailedLogins { failures: vec![] });
        fixture.set_time(START + HOUR + DAY);
        while fixture.execute(Purge { retention: DAY }) > 0 {}
        assert_eq!(fixture.cutoff(&user_subject("anna")), None);
        fixture.add("anna");
        assert_eq!(fixture.revocation("user", "anna"), None);
    });
}

#[test]
fn cutoff_is_listed_with_the_reason_of_its_last_change() {
    on_every_engine(|fixture| {
        let reason = |kind, subject| fixture.revocation(kind, subject).unwrap().reason.unwrap_or_default();
        assert_eq!(reason("everybody", ""), "store_created");
        fixture.add("anna");
        let email = UserChange::Claims { email: Some("new@b".into()), organization: None };
        let to = UserChange::Claims { email: None, organization: Some(organization("Other")) };
        for (change, expected) in [
            (email, "user_set"),
            (UserChange::Password(phc(1)), "user_passwd"),
            (to, "user_set"),
            (UserChange::Disable, "user_disable"),
            (UserChange::Enable, "user_enable"),
            (UserChange::Remove, "user_remove"),
        ] {
            fixture.change("anna", change.clone());
            let row = fixture.revocation("user", "anna").unwrap();
            assert_eq!(row.reason.as_deref(), Some(expected), "{change:?}");
            // As the audit trail calls it.
            assert_eq!(fixture.audit().pop().unwrap().action, expected);
        }
        fixture.revoke(user_subject("anna"));
        assert_eq!(reason("user", "anna"), "revoke_user");
        fixture.revoke(organization_subject("Main Org."));
        assert_eq!(reason("organization", "Main Org."), "revoke_organization");
        fixture.revoke(Subject::Everybody);
        assert_eq!(reason("everybody", ""), "revoke_all");
        fixture.execute(RepairClock);
        assert_eq!(reason("everybody", ""), "repair_clock");
        fixture.execute(AfterRestore { known: 0, revoked_keys: Vec::new() });
        assert_eq!(reason("everybody", ""), "restore");
    });
}

/// The trail says when a revocation came; where it says nothing, more is listed and not less.
#[test]
fn pruned_trail_hides_no_revocation() {
    on_every_engine(|fixture| {
        write_history(&fixture);
        fixture.set_time(START + 60);
        assert_eq!(found(&fixture, &filter(None, None, START + 60)), []);
        while fixture.execute(Prune { age: 0, bytes: 0 }) > 0 {}
        assert_eq!(found(&fixture, &filter(None, None, START + 60)).len(), 9);
    });
}

#[test]
fn user_that_is_called_like_a_token_is_found_with_that_token_and_each_once() {
    on_every_engine(|fixture| {
        let name = token_id(1).to_string();
        fixture.execute(revoke_id(1, START, Some("anna")));
        fixture.execute(revoke_id(2, START, Some(&name)));
        let sequences = |subject: &str| -> Vec<u64> {
            found(&fixture, &filter(None, Some(subject), 0)).iter().map(|row| row.sequence).collect()
        };
        assert_eq!(sequences(&name), [3, 2]);
        // One that is of the user of its own name.
        let name = token_id(3).to_string();
        fixture.execute(revoke_id(3, START, Some(&name)));
        assert_eq!(sequences(&name), [4]);
    });
}
