//! What is deleted, and what never is.

use super::harness::{Fixture, on_every_engine};
use super::logins::{is_known, mint_from, source};
use super::samples::{
    ACCEPT, ALL, DAY, RULES, START, foreign_token, mint_for, organization_subject, revoke_id, token_id,
    user_subject,
};
use crate::auth::denial::Denial;
use crate::auth::revocation::{RevocationSnapshot, Subject};
use crate::auth::token::{Origin, Verified};
use crate::auth::user_source::SourceName;
use crate::store::command::{
    Expiry, FailedLogins, Heartbeat, Mint, NoteFailedLogins, Prune, Purge, RevokeKey, RevokeSubject,
    RevokeToken, UserChange,
};
use crate::store::decision::{AUDIT_ROW_BYTES, SLICE, SOURCE_REFRESH, SOURCE_RETENTION, SOURCES_PER_USER};
use crate::store::records::{AuditFilter, Changes};

/// As the gateway has it.
const RETENTION: u64 = RULES.retention();

const HOUR: u64 = 3600;

/// By then what was revoked in the first hour is forgotten.
const OVER: u64 = HOUR + RETENTION;

/// Lets an hour of lived time end, which is written down by a commit: what was revoked in it goes with its tokens.
fn end_hour(fixture: &Fixture, start: u64) {
    fixture.set_time(start + HOUR);
    fixture.execute(NoteFailedLogins { failures: vec![] });
}

fn purge(fixture: &Fixture) -> usize {
    fixture.execute(Purge { retention: RETENTION })
}

/// What is left of all that a purge may delete, listed as a revocation or not: cutoffs, then tokens. Everybody's cutoff is
/// always there.
fn left(fixture: &Fixture) -> Vec<String> {
    let Changes { cutoffs, tokens, .. } = fixture.changes(0, ALL);
    let names = cutoffs.into_iter().filter_map(|(subject, _)| match subject {
        Subject::Everybody => None,
        Subject::Organization(name) | Subject::User(name) | Subject::Email(name) => Some(name.into_string()),
    });
    names.chain(tokens.into_iter().map(|token| token.id.to_string())).collect()
}

#[test]
fn revocation_is_kept_for_its_retention_after_the_act_whatever_the_expiry() {
    on_every_engine(|fixture| {
        fixture.execute(revoke_id(1, START - DAY, None));
        fixture.execute(revoke_id(2, START + 100 * DAY, None));
        let expiry = Expiry::Within { max_lifetime: 1000 };
        fixture.execute(RevokeToken { expiry, ..revoke_id(3, 0, None) });
        end_hour(&fixture, START);
        fixture.execute(revoke_id(4, START, None));
        fixture.set_time(START + OVER - 1);
        assert_eq!(fixture.unchanged(|| purge(&fixture)), 0);
        fixture.set_time(START + OVER);
        while purge(&fixture) > 0 {}
        assert_eq!(left(&fixture), [token_id(4).to_string()]);
        fixture.set_time(START + OVER + RETENTION);
        while purge(&fixture) > 0 {}
        assert_eq!(left(&fixture), [""; 0]);
    });
}

/// Tokens expire by the hour, so what was revoked in an hour that has not expired as a whole has to stay.
#[test]
fn revocation_is_never_purged_before_its_token_has_expired_by_sequence() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        for minted_at in [0, 100, HOUR - 1, HOUR + 5] {
            fixture.set_time(START + minted_at);
            let token = fixture.mint("anna");
            fixture.revoke_token(&token);
            for lived in [RETENTION + minted_at, RETENTION + minted_at + 300, OVER, OVER + HOUR, 3 * OVER] {
                fixture.set_time(START + lived);
                while purge(&fixture) > 0 {}
                let mut replica = fixture.load();
                (0..RevocationSnapshot::SLICES).for_each(|slice| drop(replica.expire(slice)));
                // Whatever the wall clock says, and so whether or not `exp` has passed.
                assert!(replica.check(&token, &RULES).is_err(), "minted at {minted_at}, at {lived}");
            }
        }
    });
}

/// Each has configured how long its own tokens live.
#[test]
fn gateway_that_remembers_longest_decides_for_all() {
    on_every_engine(|fixture| {
        fixture.execute(revoke_id(1, START, None));
        end_hour(&fixture, START);
        fixture.execute(Purge { retention: 3 * RETENTION });
        fixture.set_time(START + 2 * OVER);
        assert_eq!(fixture.unchanged(|| purge(&fixture)), 0);
        fixture.set_time(START + HOUR + 3 * RETENTION);
        while purge(&fixture) > 0 {}
        assert_eq!(left(&fixture), [""; 0]);
    });
}

#[test]
fn wall_clock_purges_and_prunes_nothing() {
    on_every_engine(|fixture| {
        fixture.execute(revoke_id(1, START, None));
        // Days ahead for a process that has only just begun.
        let ahead = fixture.another(START + 100 * DAY);
        let prune = Prune { age: 1, bytes: u64::MAX };
        fixture.unchanged(|| {
            assert_eq!(fixture.execute_on(&ahead, Purge { retention: RETENTION }), 0);
            while fixture.execute_on(&ahead, prune) > 0 {}
        });
    });
}

#[test]
fn tokens_of_an_hour_are_expired_once_its_retention_is_over() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        let first = fixture.mint("anna");
        // Each hour of lived time is written down by a commit in it.
        for hour in 1..=3 {
            fixture.set_time(START + hour * 3600);
            fixture.execute(NoteFailedLogins { failures: vec![] });
        }
        let second = fixture.mint("anna");
        let expired_below = |lived| {
            fixture.set_time(START + lived);
            purge(&fixture);
            fixture.wait(fixture.store.time()).expired_below
        };
        assert!(expired_below(RETENTION + 3599) <= number_of(&first));
        let below = expired_below(RETENTION + 3 * 3600);
        assert!(number_of(&first) < below && below <= number_of(&second));
        // It never goes back, and reaches every gateway.
        assert_eq!(expired_below(RETENTION + 3 * 3600 + 5), below);
        let mut replica = RevocationSnapshot::default();
        fixture.changes(0, 9).apply(&mut replica);
        for snapshot in [&replica, &fixture.load()] {
            assert_eq!((snapshot.has_expired(&first), snapshot.has_expired(&second)), (true, false));
        }
    });
}

fn number_of(token: &Verified) -> u64 {
    match token.origin {
        Origin::Ours { sequence: number } => number,
        Origin::Foreign => panic!("a foreign token has no number"),
    }
}

#[test]
fn purged_token_can_be_revoked_again() {
    on_every_engine(|fixture| {
        let first = fixture.execute(revoke_id(1, START, None));
        end_hour(&fixture, START);
        fixture.set_time(START + OVER);
        while purge(&fixture) > 0 {}
        assert_eq!(fixture.execute(revoke_id(1, START, None)), first + 1);
    });
}

#[test]
fn cutoff_is_kept_for_its_retention() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        fixture.add("removed");
        fixture.revoke(user_subject("nobody"));
        fixture.revoke(organization_subject("Main Org."));
        fixture.change("removed", UserChange::Remove);
        end_hour(&fixture, START);
        fixture.set_time(START + OVER - 1);
        assert_eq!(fixture.unchanged(|| purge(&fixture)), 0);
        // What was set again is as young as its last change.
        fixture.revoke(user_subject("nobody"));
        fixture.set_time(START + OVER);
        while purge(&fixture) > 0 {}
        assert_eq!(left(&fixture), ["nobody"]);
        // The user without a cutoff gets tokens as ever.
        assert_eq!(fixture.verdict(&fixture.mint("anna")), Ok(()));
    });
}

#[test]
fn cutoffs_of_everybody_of_disabled_users_and_of_keys_are_never_purged() {
    on_every_engine(|fixture| {
        fixture.add("disabled");
        fixture.change("disabled", UserChange::Disable);
        // An organization of the same name is no reason to keep anything.
        fixture.revoke(organization_subject("disabled"));
        fixture.add("enabled");
        fixture.change("enabled", UserChange::Disable);
        fixture.change("enabled", UserChange::Enable);
        fixture.record_keys(&[("a", 1)]);
        fixture.execute(RevokeKey { kid: "a".into(), successors: vec![] });
        end_hour(&fixture, START);
        fixture.set_time(START + 100 * DAY);
        while purge(&fixture) > 0 {}
        let subjects = || fixture.cutoffs().into_iter().map(|(subject, _)| subject).collect::<Vec<_>>();
        assert_eq!(subjects(), [Subject::Everybody, user_subject("disabled")]);
        // What is listed is what is left.
        let listed: Vec<_> = fixture.revocations().into_iter().map(|row| (row.kind, row.subject)).collect();
        let expected = [("key", "a"), ("user", "disabled"), ("everybody", "")];
        assert_eq!(listed, expected.map(|(kind, subject)| (kind, subject.to_owned())));
        // What stays is not looked at again and again.
        assert_eq!(fixture.unchanged(|| purge(&fixture)), 0);
        fixture.change("disabled", UserChange::Remove);
        end_hour(&fixture, START + 100 * DAY);
        fixture.set_time(START + 200 * DAY);
        while purge(&fixture) > 0 {}
        assert_eq!(subjects(), [Subject::Everybody]);
        let kinds: Vec<_> = fixture.revocations().into_iter().map(|row| row.kind).collect();
        assert_eq!(kinds, ["key", "everybody"]);
    });
}

/// The store keeps the block, and so must the memory of every gateway, however it came to know.
#[test]
fn disabled_user_stays_blocked_in_a_replica_that_expires_its_cutoffs() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        fixture.change("anna", UserChange::Disable);
        let mut replica = fixture.load();
        // The disabled user's tokens are revoked once more, and the replica reads of it.
        fixture.revoke(user_subject("anna"));
        fixture.changes(replica.sequence(), 9).apply(&mut replica);
        end_hour(&fixture, START);
        let later = START + 100 * DAY;
        fixture.set_time(later);
        while purge(&fixture) > 0 {}
        fixture.changes(replica.sequence(), 9).apply(&mut replica);
        let foreign = foreign_token("anna", later);
        let mut fresh = fixture.load();
        for snapshot in [&mut replica, &mut fresh] {
            (0..RevocationSnapshot::SLICES).for_each(|slice| drop(snapshot.expire(slice)));
            assert_eq!(snapshot.check(&foreign, &ACCEPT), Err(Denial::RevokedUser));
        }
    });
}

#[test]
fn purge_changes_nothing_but_revocations() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        fixture.record_keys(&[("a", 1)]);
        fixture.execute(revoke_id(1, START, Some("anna")));
        end_hour(&fixture, START);
        fixture.set_time(START + 100 * DAY);
        let before = fixture.dump();
        while purge(&fixture) > 0 {}
        assert_eq!(left(&fixture), [""; 0]);
        let after = fixture.dump();
        assert_eq!((after.users, after.keys, after.audit), (before.users, before.keys, before.audit));
        // What is listed of the newest is still there: everybody's first cutoff.
        assert_eq!(after.revocations, before.revocations[1..]);
    });
}

#[test]
fn purge_deletes_a_slice_at_a_time_and_says_when_it_is_done() {
    on_every_engine(|fixture| {
        let count = SLICE + SLICE / 2;
        fixture.execute_many((0..count).map(|which| revoke_id(which, START, None)));
        end_hour(&fixture, START);
        fixture.execute(revoke_id(u64::MAX, START, None));
        fixture.set_time(START + OVER);
        // Everybody's cutoff is looked at once.
        in_slices(|| purge(&fixture), count + 1);
        assert_eq!(left(&fixture), [token_id(u64::MAX).to_string()]);
    });
}

#[test]
fn cutoffs_are_purged_a_slice_at_a_time_too() {
    on_every_engine(|fixture| {
        let count = SLICE + 10;
        let subjects = (0..count).map(|which| user_subject(&format!("user {which}")));
        fixture.execute_many(subjects.map(|subject| RevokeSubject { subject }));
        end_hour(&fixture, START);
        fixture.set_time(START + OVER);
        in_slices(|| purge(&fixture), count + 1);
        assert_eq!(left(&fixture), [""; 0]);
    });
}

#[test]
fn sequences_go_on_after_everything_was_purged() {
    on_every_engine(|fixture| {
        let first = fixture.execute(revoke_id(1, START, None));
        fixture.set_time(START + 100 * DAY);
        while purge(&fixture) > 0 {}
        while fixture.execute(Prune { age: 0, bytes: 0 }) > 0 {}
        assert_eq!(fixture.revoke(Subject::Everybody), first + 1);
    });
}

fn write_rows(fixture: &Fixture, time: u64, count: u64) {
    fixture.set_time(time);
    let failure = FailedLogins {
        subject: "anna".into(),
        origin: "elsewhere".into(),
        source: SourceName::Store,
        count: 1,
    };
    let failures = vec![failure; usize::try_from(count).unwrap()];
    fixture.execute(NoteFailedLogins { failures });
}

/// Prunes to the end; says how many rows were deleted.
fn prune(fixture: &Fixture, age: u64, bytes: u64) -> usize {
    let before = fixture.audit().len();
    while fixture.execute(Prune { age, bytes }) > 0 {}
    before - fixture.audit().len()
}

#[test]
fn audit_rows_are_pruned_by_age_to_the_second() {
    on_every_engine(|fixture| {
        for time in [0, 10, 20] {
            write_rows(&fixture, START + time, 1);
        }
        let prune = |age| prune(&fixture, age, u64::MAX);
        assert_eq!(fixture.unchanged(|| prune(21)), 0);
        assert_eq!(prune(20), 1);
        assert_eq!(fixture.unchanged(|| prune(11)), 0);
        assert_eq!(prune(10), 1);
        let left: Vec<u64> = fixture.audit().iter().map(|row| row.at.0 - START).collect();
        assert_eq!(left, [20]);
    });
}

#[test]
fn audit_rows_are_pruned_by_room_from_the_oldest() {
    on_every_engine(|fixture| {
        for time in 0..10 {
            write_rows(&fixture, START + time, 1);
        }
        let prune = |bytes| prune(&fixture, DAY, bytes);
        assert_eq!(fixture.unchanged(|| prune(10 * AUDIT_ROW_BYTES)), 0);
        assert_eq!(prune(10 * AUDIT_ROW_BYTES - 1), 1);
        assert_eq!(prune(7 * AUDIT_ROW_BYTES), 2);
        let left: Vec<u64> = fixture.audit().iter().map(|row| row.at.0 - START).collect();
        assert_eq!(left, [3, 4, 5, 6, 7, 8, 9]);
    });
}

#[test]
fn audit_rows_are_pruned_a_slice_at_a_time() {
    on_every_engine(|fixture| {
        write_rows(&fixture, START, SLICE + SLICE / 2);
        write_rows(&fixture, START + 1000, SLICE);
        fixture.set_time(START + 1001);
        // What is too old, and of the rest, which is counted, what is too much.
        let keep = Prune { age: 1000, bytes: 400 * AUDIT_ROW_BYTES };
        in_slices(|| fixture.execute(keep), SLICE + SLICE / 2 + SLICE + SLICE - 400);
        assert_eq!(fixture.audit().len(), 400);
    });
}

/// Deletes slice by slice until one deletes nothing: so many rows in all, and never more than a slice at once. A slice may end
/// early, when its time is over.
fn in_slices(mut delete: impl FnMut() -> usize, expected: u64) {
    let slices: Vec<usize> = std::iter::from_fn(|| Some(delete()).filter(|rows| *rows > 0)).collect();
    assert!(slices.len() > 1 && slices.iter().all(|rows| *rows as u64 <= SLICE), "{slices:?}");
    assert_eq!(slices.iter().sum::<usize>() as u64, expected, "{slices:?}");
    assert_eq!(delete(), 0);
}

#[test]
fn audit_ids_are_never_given_out_twice() {
    on_every_engine(|fixture| {
        write_rows(&fixture, START, 3);
        let last = fixture.audit().last().map(|row| row.id);
        while fixture.execute(Prune { age: 0, bytes: 0 }) > 0 {}
        assert_eq!(fixture.audit(), []);
        write_rows(&fixture, START, 1);
        assert!(fixture.audit().first().map(|row| row.id) > last);
        // A page that was asked for before goes on behind what is gone.
        let page = fixture.wait(fixture.store.audit(AuditFilter::default(), last.unwrap(), 9));
        assert_eq!(page.len(), 1);
    });
}

#[test]
fn audit_rows_in_the_room_are_counted_right_after_every_pruning() {
    on_every_engine(|fixture| {
        for round in 0..4 {
            write_rows(&fixture, START + 100 * round, 10);
            while fixture.execute(Prune { age: 100, bytes: u64::MAX }) > 0 {}
            // Ten rows fit, and ten are there.
            assert_eq!(prune(&fixture, DAY, 10 * AUDIT_ROW_BYTES), 0);
            assert_eq!(fixture.audit().len(), 10);
            while fixture.execute(Prune { age: 0, bytes: 0 }) > 0 {}
        }
    });
}

/// What no gateway is heard of any more is not counted for ever.
#[test]
fn gateway_that_was_killed_is_forgotten_when_no_token_is_left_that_it_could_admit() {
    on_every_engine(|fixture| {
        let heartbeat = |name: &str| Heartbeat { gateway: name.into(), applied: 1, lease: 12, keys: vec![] };
        fixture.execute(heartbeat("killed"));
        fixture.execute(heartbeat("running"));
        end_hour(&fixture, START);
        fixture.set_time(START + OVER - 1);
        fixture.execute(heartbeat("running"));
        assert_eq!(fixture.unchanged(|| purge(&fixture)), 0);
        fixture.set_time(START + OVER);
        while purge(&fixture) > 0 {}
        let left: Vec<_> = fixture.acknowledgements().into_iter().map(|row| row.gateway).collect();
        assert_eq!(left, ["running"]);
    });
}

#[test]
fn source_is_forgotten_when_it_was_not_seen_for_its_retention() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        // When the first two are seen again: too early to be written, and not.
        let again = [SOURCE_REFRESH, SOURCE_REFRESH + 1];
        (0..3).for_each(|which| mint_from(&fixture, "anna", source(which)));
        for (which, lived) in (0..).zip(again) {
            fixture.set_time(START + lived);
            mint_from(&fixture, "anna", source(which));
        }
        let known_at = |lived| {
            fixture.set_time(START + lived);
            while purge(&fixture) > 0 {}
            (0..3).filter(|which| is_known(&fixture, "anna", source(*which))).collect::<Vec<_>>()
        };
        assert_eq!(known_at(SOURCE_RETENTION - 1), [0, 1, 2]);
        assert_eq!(known_at(SOURCE_RETENTION), [1]);
        assert_eq!(known_at(SOURCE_RETENTION + SOURCE_REFRESH), [1]);
        assert_eq!(known_at(SOURCE_RETENTION + SOURCE_REFRESH + 1), [0; 0]);
        // Nothing holds it against a source that it was forgotten.
        mint_from(&fixture, "anna", source(0));
        assert!(is_known(&fixture, "anna", source(0)));
    });
}

#[test]
fn sources_are_purged_a_slice_at_a_time_too() {
    on_every_engine(|fixture| {
        let users = SLICE.div_ceil(SOURCES_PER_USER as u64) + 1;
        let mut sources = 0;
        for user in 0..users {
            let name = format!("user {user}");
            fixture.add(&name);
            let user = fixture.user(&name);
            let from = |which| Mint { source: Some(source(which)), ..mint_for(user.clone()) };
            sources += fixture.execute_many((0..SOURCES_PER_USER as u32).map(from)).len() as u64;
        }
        fixture.set_time(START + SOURCE_RETENTION - 1);
        while purge(&fixture) > 0 {}
        fixture.set_time(START + SOURCE_RETENTION);
        in_slices(|| purge(&fixture), sources);
        assert!(!is_known(&fixture, "user 0", source(0)));
    });
}

#[test]
fn prune_changes_nothing_but_the_trail() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        fixture.add("bert");
        let before = fixture.dump();
        assert_eq!(prune(&fixture, DAY, AUDIT_ROW_BYTES), 1);
        let after = fixture.dump();
        assert_eq!(after.audit, before.audit[1..]);
        assert_eq!((after.users, after.revocations), (before.users, before.revocations));
    });
}
