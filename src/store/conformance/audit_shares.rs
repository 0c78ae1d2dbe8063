//! Whose rows of the audit trail go where there is no room for all: the oldest of the largest share, and operators' last.
//!
//! `CONFORMANCE_SEED` repeats a history.

use std::collections::HashMap;

use super::harness::{Fixture, on_every_engine};
use super::samples::{DAY, START, actor, imported_user, mint_for, revoke_id, user_subject};
use crate::auth::user_source::SourceName;
use crate::store::command::{Actor, FailedLogins, NoteFailedLogins, Prune, RevokeSubject};
use crate::store::decision::{AUDIT_ROW_BYTES, SLICE};
use crate::store::records::AuditRow;

/// Room for so many rows, of whatever age.
fn room_for(rows: u64) -> Prune {
    Prune { age: 100 * DAY, bytes: rows * AUDIT_ROW_BYTES }
}

fn prune(fixture: &Fixture, command: Prune) {
    while fixture.execute(command) > 0 {}
}

fn client(name: &str) -> Actor {
    Actor::client(name, "192.0.2.1:4711")
}

/// So many mints by a user, each through the token endpoint.
fn mint(fixture: &Fixture, name: &str, count: u64) {
    let user = fixture.user(name);
    (0..count).for_each(|_| _ = fixture.execute_as(client(name), mint_for(user.clone())));
}

/// So many failed logins as a user, from as many places.
fn fail(fixture: &Fixture, name: &str, count: u64) {
    let failure = |block| FailedLogins {
        subject: name.into(),
        origin: format!("{block}/24"),
        source: SourceName::Store,
        count: 1,
    };
    fixture.execute(NoteFailedLogins { failures: (0..count).map(failure).collect() });
}

/// Does a row tell of an operator?
fn is_of_operator(row: &AuditRow) -> bool {
    row.origin == actor().origin.as_ref()
}

type Share = (bool, String, String);

fn share_of(row: &AuditRow) -> Share {
    (is_of_operator(row), row.actor.clone(), row.action.clone())
}

fn shares(rows: &[AuditRow]) -> HashMap<Share, Vec<i64>> {
    let mut shares: HashMap<Share, Vec<i64>> = HashMap::new();
    rows.iter().for_each(|row| shares.entry(share_of(row)).or_default().push(row.id));
    shares
}

/// How many rows a client has of a kind.
fn count(fixture: &Fixture, name: &str, action: &str) -> usize {
    let share = (false, name.to_owned(), action.to_owned());
    shares(&fixture.audit()).get(&share).map_or(0, Vec::len)
}

fn of_operators(rows: &[AuditRow]) -> Vec<&AuditRow> {
    rows.iter().filter(|row| is_of_operator(row)).collect()
}

/// Holds the rows that a pruning has left to those that were there. `is_done`: it went on to its end.
fn assert_rule(before: &[AuditRow], after: &[AuditRow], room: u64, is_done: bool) {
    let (total, left) = (before.len() as u64, after.len() as u64);
    assert!(left >= room.min(total), "{left} of {total} are left where {room} fit");
    assert!(!is_done || left == room.min(total), "{left} of {total} are left where {room} fit");
    let clients = |rows: &[AuditRow]| (rows.len() - of_operators(rows).len()) as u64;
    if of_operators(after).len() < of_operators(before).len() {
        assert!(clients(after) <= room / 2, "operators' rows went before those of clients");
    }
    if clients(after) < clients(before) {
        assert!(clients(after) >= room / 2, "clients have less than half of the room");
    }
    let left = shares(after);
    for (share, ids) in shares(before) {
        let of_share = left.get(&share).map_or(&[][..], Vec::as_slice);
        assert!(ids.ends_with(of_share), "the oldest go first: {share:?}");
        if of_share.len() < ids.len() {
            let in_role = left.iter().filter(|((is_operator, ..), _)| *is_operator == share.0);
            let largest = in_role.map(|(_, ids)| ids.len()).max().unwrap_or(0);
            assert!(of_share.len() + 1 >= largest, "{share:?} had not the most: {}", of_share.len());
        }
    }
    assert!(after.iter().all(|row| before.contains(row)), "a row was changed");
}

#[test]
fn flood_of_one_users_mints_leaves_every_other_row() {
    on_every_engine(|fixture| {
        ["anna", "bert", "flood"].iter().for_each(|name| fixture.add(name));
        fixture.revoke(user_subject("bert"));
        mint(&fixture, "anna", 5);
        mint(&fixture, "bert", 3);
        fixture.execute_as(client("bert"), revoke_id(1, START, Some("bert")));
        fail(&fixture, "anna", 4);
        let before = fixture.audit();
        mint(&fixture, "flood", 300);
        prune(&fixture, room_for(before.len() as u64 + 20));
        let after = fixture.audit();
        assert_eq!(after[..before.len()], before);
        assert_eq!(count(&fixture, "flood", "mint"), 20);
        // It goes on, and so does everybody else.
        mint(&fixture, "flood", 300);
        mint(&fixture, "anna", 2);
        prune(&fixture, room_for(before.len() as u64 + 20));
        assert_eq!(count(&fixture, "anna", "mint"), 7);
        assert_eq!(fixture.audit()[..before.len()], before);
    });
}

#[test]
fn flood_of_failed_logins_leaves_the_mints_and_what_operators_did() {
    on_every_engine(|fixture| {
        let names: Vec<String> = (0..10).map(|which| format!("user {which}")).collect();
        names.iter().for_each(|name| fixture.add(name));
        names.iter().for_each(|name| mint(&fixture, name, 3));
        let before = fixture.audit();
        // As one user, as nobody that is known, and as everybody.
        fail(&fixture, "user 0", 200);
        fail(&fixture, "unknown", 200);
        names.iter().for_each(|name| fail(&fixture, name, 50));
        prune(&fixture, room_for(100));
        let after = fixture.audit();
        assert_eq!(after[..before.len()], before);
        assert_eq!(after.len(), 100);
        // Each account keeps the newest of its own.
        let failed: Vec<usize> = names.iter().map(|name| count(&fixture, name, "login_failed")).collect();
        assert!(failed.iter().all(|count| (5..=6).contains(count)), "{failed:?}");
    });
}

#[test]
fn rows_of_operators_go_last() {
    on_every_engine(|fixture| {
        let names: Vec<String> = (0..20).map(|which| format!("user {which}")).collect();
        names.iter().for_each(|name| fixture.add(name));
        (0..30).for_each(|_| _ = fixture.revoke(user_subject("user 1")));
        // Each client has fewer rows than the operator.
        names.iter().for_each(|name| mint(&fixture, name, 10));
        let before = fixture.audit();
        prune(&fixture, room_for(100));
        let after = fixture.audit();
        assert_eq!((after.len(), of_operators(&after)), (100, of_operators(&before)));
        assert_rule(&before, &after, 100, true);
    });
}

#[test]
fn import_leaves_half_of_the_room_to_clients_and_what_else_operators_did() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        fixture.revoke(user_subject("anna"));
        mint(&fixture, "anna", 50);
        let users = (0..1000).map(|which| imported_user(&format!("user {which}"))).collect();
        assert_eq!(fixture.import(users, false).added, 1000);
        mint(&fixture, "anna", 50);
        prune(&fixture, room_for(100));
        let after = fixture.audit();
        assert_eq!((after.len(), count(&fixture, "anna", "mint")), (100, 50));
        let revocations = after.iter().filter(|row| row.action == "revoke_user").count();
        assert_eq!(revocations, 1, "the import is the largest share of the operator's");
    });
}

/// A client may be called like an operator; how it came in says what it is.
#[test]
fn client_with_the_name_of_an_operator_is_a_client() {
    on_every_engine(|fixture| {
        let name = actor().name;
        fixture.add(&name);
        fixture.revoke(user_subject(&name));
        mint(&fixture, &name, 50);
        fail(&fixture, &name, 50);
        prune(&fixture, room_for(10));
        let after = fixture.audit();
        assert_eq!((after.len(), of_operators(&after).len()), (10, 2));
        // A mint by the operator is an operator's row.
        fixture.execute(mint_for(fixture.user(&name)));
        prune(&fixture, room_for(10));
        assert_eq!(of_operators(&fixture.audit()).len(), 3);
    });
}

#[test]
fn by_age_rows_go_no_matter_whom_they_are_about() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        mint(&fixture, "anna", 3);
        fixture.set_time(START + 100);
        fixture.revoke(user_subject("anna"));
        fail(&fixture, "anna", 1);
        let young = fixture.audit().split_off(4);
        prune(&fixture, Prune { age: 100, bytes: u64::MAX });
        assert_eq!(fixture.audit(), young);
        prune(&fixture, Prune { age: 0, bytes: u64::MAX });
        assert_eq!(fixture.audit(), []);
    });
}

/// So many shares of one row each that no slice holds them.
#[test]
fn many_equal_shares_are_pruned_a_slice_at_a_time() {
    on_every_engine(|fixture| {
        let accounts = 2 * SLICE;
        (0..accounts).for_each(|which| fail(&fixture, &format!("user {which}"), 2));
        let before = fixture.audit();
        let mut slices = 0;
        while fixture.execute(room_for(100)) > 0 {
            slices += 1;
        }
        assert!(slices as u64 >= 2 * accounts / SLICE, "{slices}");
        assert_rule(&before, &fixture.audit(), 100, true);
    });
}

/// Everything that writes rows, prunings to the end and of one slice, other processes and restarts: the rule holds each time.
#[test]
fn pruning_keeps_the_rule_in_every_history() {
    let seed = std::env::var("CONFORMANCE_SEED").ok().and_then(|text| text.parse().ok());
    let seeds = seed.map_or_else(|| vec![1, 2, 3, fastrand::u64(..)], |seed| vec![seed]);
    for seed in seeds {
        println!("CONFORMANCE_SEED={seed}");
        on_every_engine(|fixture| history(fixture, seed));
    }
}

fn history(mut fixture: Fixture, seed: u64) {
    let mut dice = fastrand::Rng::with_seed(seed);
    let names = ["anna", "bert", "cleo", "dora"];
    names.iter().for_each(|name| fixture.add(name));
    let (mut token, mut time) = (0, START);
    let mut has_cut = [false; 2];
    for _ in 0..150 {
        let name = names[dice.usize(0..names.len())];
        let many = if dice.u8(0..6) == 0 { dice.u64(0..40) } else { dice.u64(0..6) };
        match dice.u8(0..14) {
            0..3 => mint(&fixture, name, many),
            3..5 => fail(&fixture, name, 4 * many),
            5 => fail(&fixture, "unknown", many),
            6 => {
                token += 1;
                fixture.execute_as(client(name), revoke_id(token, START, Some(name)));
            }
            7 => (0..many).for_each(|_| _ = fixture.revoke(user_subject(name))),
            8 => {
                let other = fixture.another(time);
                fixture.execute_on(&other, RevokeSubject { subject: user_subject(name) });
            }
            9 => fixture = fixture.reopen(),
            10 => {
                time += dice.u64(0..1000);
                fixture.set_time(time);
                let before = fixture.audit();
                let age = dice.u64(0..5000);
                prune(&fixture, Prune { age, bytes: u64::MAX });
                let after = fixture.audit();
                assert!(before.ends_with(&after), "old rows go from the front");
                // More time may have passed than the store has lived through.
                let old = &before[..before.len() - after.len()];
                assert!(old.iter().all(|row| row.at.0 + age <= time), "{old:?}");
            }
            _ => {
                let before = fixture.audit();
                // Now and then far too little.
                let room = if dice.u8(0..6) == 0 { dice.u64(0..40) } else { dice.u64(60..200) };
                let is_done = dice.bool();
                match is_done {
                    true => prune(&fixture, room_for(room)),
                    false => _ = fixture.execute(room_for(room)),
                }
                let after = fixture.audit();
                assert_rule(&before, &after, room, is_done);
                has_cut[usize::from(is_done)] |= after.len() < before.len();
            }
        }
    }
    assert_eq!(has_cut, [true; 2]);
}
