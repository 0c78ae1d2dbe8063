//! Keys: a `kid` keeps its secret, and a revoked key stays revoked.

use super::harness::{Fixture, on_every_engine};
use super::samples::{START, key, key_record, key_records, key_set};
use crate::auth::revocation::{Activation, KeyUse};
use crate::auth::time::UnixTime;
use crate::store::command::{
    ActivateKey, ActivateKeyOutcome, Heartbeat, KeyRecord, RecordKeys, RecordKeysOutcome, RetireKey,
    RetireKeyOutcome, RevokeKey, RevokeKeyOutcome,
};
use crate::store::records::{RecordedKey, Revocation, compare_keys};

fn record(fixture: &Fixture, keys: &[(&str, u8)]) -> RecordKeysOutcome {
    fixture.execute(RecordKeys { keys: key_records(keys) })
}

fn revoke(fixture: &Fixture, kid: &str, successors: &[(&str, u8)]) -> RevokeKeyOutcome {
    fixture.execute(RevokeKey { kid: kid.into(), successors: key_records(successors) })
}

fn recorded(kid: &str, secret: u8, revoked: bool) -> RecordedKey {
    let key_use = if revoked { KeyUse::REVOKED } else { KeyUse::default() };
    RecordedKey { kid: kid.into(), fingerprint: key_record(kid, secret).fingerprint, key_use }
}

fn keys(fixture: &Fixture) -> Vec<RecordedKey> {
    fixture.wait(fixture.store.keys())
}

#[test]
fn recorded_keys_are_read_back_by_name() {
    on_every_engine(|fixture| {
        assert_eq!(record(&fixture, &[("b", 1), ("a", 2), ("A", 3)]), RecordKeysOutcome::Recorded);
        let expected = [recorded("A", 3, false), recorded("a", 2, false), recorded("b", 1, false)];
        assert_eq!(keys(&fixture), expected);
    });
}

#[test]
fn key_is_recorded_once() {
    on_every_engine(|fixture| {
        fixture.record_keys(&[("a", 1), ("b", 2)]);
        fixture.set_time(START + 9);
        let again = || record(&fixture, &[("b", 2), ("a", 1)]);
        assert_eq!(fixture.unchanged(again), RecordKeysOutcome::Recorded);
        // Of some that are recorded and some that are not, only these are new.
        let before = fixture.sequence();
        fixture.record_keys(&[("b", 2), ("c", 3)]);
        assert_eq!(fixture.sequence(), before + 1);
        assert_eq!(fixture.unchanged(|| record(&fixture, &[])), RecordKeysOutcome::Recorded);
    });
}

#[test]
fn kid_keeps_its_secret() {
    on_every_engine(|fixture| {
        fixture.record_keys(&[("a", 1)]);
        // Wherever the conflict is in the list, what is beside it is not recorded either.
        for keys in [&[("a", 2)][..], &[("new", 3), ("a", 2)], &[("a", 2), ("new", 3)]] {
            let outcome = fixture.unchanged(|| record(&fixture, keys));
            assert_eq!(outcome, RecordKeysOutcome::Conflict("a".into()));
        }
        revoke(&fixture, "a", &[]);
        let outcome = fixture.unchanged(|| record(&fixture, &[("a", 2)]));
        assert_eq!(outcome, RecordKeysOutcome::Conflict("a".into()));
    });
}

#[test]
fn kid_cannot_stand_for_two_secrets_in_one_command() {
    on_every_engine(|fixture| {
        let outcome = fixture.unchanged(|| record(&fixture, &[("a", 1), ("b", 3), ("a", 2)]));
        assert_eq!(outcome, RecordKeysOutcome::Conflict("a".into()));
        // The same key twice is one key.
        let before = fixture.sequence();
        assert_eq!(record(&fixture, &[("a", 1), ("a", 1)]), RecordKeysOutcome::Recorded);
        assert_eq!((keys(&fixture).len(), fixture.sequence()), (1, before + 1));
    });
}

#[test]
fn secret_may_have_two_names() {
    on_every_engine(|fixture| {
        fixture.record_keys(&[("a", 1), ("b", 1)]);
        assert_eq!(keys(&fixture).len(), 2);
    });
}

#[test]
fn key_is_revoked_once_and_for_good() {
    on_every_engine(|fixture| {
        fixture.record_keys(&[("a", 1), ("b", 2)]);
        fixture.set_time(START + 5);
        let sequence = fixture.sequence() + 1;
        assert_eq!(revoke(&fixture, "a", &[]), RevokeKeyOutcome::Revoked(sequence));
        assert_eq!(keys(&fixture), [recorded("a", 1, true), recorded("b", 2, false)]);
        let time = UnixTime(START + 5);
        let (kind, subject) = ("key", "a".into());
        let row = Revocation { kind, subject, sequence, time, blocked: true, user: None, reason: None };
        assert_eq!(fixture.revocations().first(), Some(&row));
        let snapshot = fixture.load();
        assert!(snapshot.is_key_revoked(key("a", 1).fingerprint()));
        assert!(!snapshot.is_key_revoked(key("b", 2).fingerprint()));

        fixture.set_time(START + 60);
        let again = || revoke(&fixture, "a", &[("c", 3)]);
        assert_eq!(fixture.unchanged(again), RevokeKeyOutcome::Revoked(sequence));
        // Recording it again does not bring it back.
        let outcome = fixture.unchanged(|| record(&fixture, &[("a", 1)]));
        assert_eq!(outcome, RecordKeysOutcome::Recorded);
    });
}

#[test]
fn unknown_key_is_not_revoked_and_its_successors_are_not_recorded() {
    on_every_engine(|fixture| {
        fixture.record_keys(&[("a", 1)]);
        for kid in ["b", "A", ""] {
            let outcome = fixture.unchanged(|| revoke(&fixture, kid, &[("new", 3)]));
            assert_eq!(outcome, RevokeKeyOutcome::Unknown, "{kid:?}");
        }
        // A successor does not make it known.
        let outcome = fixture.unchanged(|| revoke(&fixture, "b", &[("b", 3)]));
        assert_eq!(outcome, RevokeKeyOutcome::Unknown);
    });
}

#[test]
fn key_with_a_conflicting_successor_is_not_revoked() {
    on_every_engine(|fixture| {
        fixture.record_keys(&[("a", 1), ("b", 2)]);
        for (successors, kid) in [
            (&[("new", 4), ("b", 3)][..], "b"),
            (&[("b", 3), ("new", 4)], "b"),
            (&[("a", 4)], "a"),
            (&[("new", 4), ("new", 5)], "new"),
        ] {
            let outcome = fixture.unchanged(|| revoke(&fixture, "a", successors));
            assert_eq!(outcome, RevokeKeyOutcome::Conflict(kid.into()), "{successors:?}");
        }
    });
}

#[test]
fn successors_are_recorded_before_the_key_is_revoked_in_one_transaction() {
    on_every_engine(|fixture| {
        fixture.record_keys(&[("a", 1), ("b", 2)]);
        let before = fixture.sequence();
        // The key itself and keys that are known may be among them.
        let outcome = revoke(&fixture, "a", &[("c", 3), ("a", 1), ("b", 2), ("d", 4)]);
        assert_eq!(outcome, RevokeKeyOutcome::Revoked(before + 3));
        assert_eq!(fixture.sequence(), before + 3);
        let expected = [
            recorded("a", 1, true),
            recorded("b", 2, false),
            recorded("c", 3, false),
            recorded("d", 4, false),
        ];
        assert_eq!(keys(&fixture), expected);
        let audit = fixture.audit();
        let told: Vec<_> = audit[2..].iter().map(|row| (row.action.as_str(), row.subject.as_str())).collect();
        assert_eq!(told, [("key_add", "c"), ("key_add", "d"), ("revoke_key", "a")]);
        assert!(audit[2..].iter().map(|row| row.sequence).eq(before + 1..=before + 3));
    });
}

#[test]
fn feed_says_when_a_key_appears_and_when_one_is_revoked() {
    on_every_engine(|fixture| {
        let new = fixture.sequence();
        fixture.record_keys(&[("a", 1)]);
        let changes = fixture.changes(new, 9);
        assert!(changes.has_new_key());
        assert_eq!(changes.keys, [recorded("a", 1, false)]);
        let revoked = fixture.sequence();
        revoke(&fixture, "a", &[]);
        let changes = fixture.changes(revoked, 9);
        assert!(!changes.has_new_key());
        assert_eq!(changes.keys, [recorded("a", 1, true)]);
        assert_eq!(fixture.changes(new, 9).keys, [recorded("a", 1, true)]);
    });
}

#[test]
fn key_set_is_compared_with_what_is_recorded() {
    on_every_engine(|fixture| {
        let compare = |name: &str, secret| {
            let set = key_set(name, secret);
            assert_eq!(KeyRecord::all(&set), key_records(&[(name, secret)]));
            compare_keys(&keys(&fixture), &set)
        };
        assert_eq!(compare("a", 1), Ok(false));
        fixture.record_keys(&[("a", 1)]);
        assert_eq!(compare("a", 1), Ok(true));
        assert_eq!(compare("a", 2), Err("a".into()));
        assert_eq!(compare("b", 2), Ok(false));
    });
}

fn activate(fixture: &Fixture, kid: &str, at: Option<u64>) -> ActivateKeyOutcome {
    fixture.execute(ActivateKey { kid: kid.into(), at: at.map(UnixTime) })
}

fn retire(fixture: &Fixture, kid: &str) -> RetireKeyOutcome {
    fixture.execute(RetireKey { kid: kid.into(), longest: 100 })
}

fn key_use(fixture: &Fixture, kid: &str) -> KeyUse {
    keys(fixture).into_iter().find(|key| key.kid == kid).unwrap().key_use
}

#[test]
fn key_is_activated_for_a_time_and_the_feed_says_so() {
    on_every_engine(|fixture| {
        fixture.record_keys(&[("a", 1), ("b", 2)]);
        let before = fixture.sequence();
        fixture.set_time(START + 5);
        let from = UnixTime(START + 5);
        let first = ActivateKeyOutcome::Activated { sequence: before + 1, from };
        assert_eq!(activate(&fixture, "b", None), first);
        let activation = Some(Activation { from, sequence: before + 1 });
        let expected = KeyUse { activation, ends_at: None };
        assert_eq!((key_use(&fixture, "a"), key_use(&fixture, "b")), (KeyUse::default(), expected));
        let changes = fixture.changes(before, 9);
        assert_eq!(changes.keys.iter().map(|key| key.kid.as_str()).collect::<Vec<_>>(), ["b"]);
        assert_eq!(fixture.load().key_use(key("b", 2).fingerprint()), expected);
        // Again, for another time: the later word counts.
        let later = ActivateKeyOutcome::Activated { sequence: before + 2, from: UnixTime(START + 99) };
        assert_eq!(activate(&fixture, "b", Some(START + 99)), later);
        let activation = Some(Activation { from: UnixTime(START + 99), sequence: before + 2 });
        assert_eq!(key_use(&fixture, "b").activation, activation);
        let told = fixture.audit();
        let told: Vec<_> =
            told.iter().rev().take(2).map(|row| (row.action.as_str(), row.subject.as_str())).collect();
        assert_eq!(told, [("activate_key", "b"); 2]);
        assert_eq!(fixture.unchanged(|| activate(&fixture, "c", None)), ActivateKeyOutcome::Unknown);
        revoke(&fixture, "a", &[]);
        assert_eq!(fixture.unchanged(|| activate(&fixture, "a", None)), ActivateKeyOutcome::Revoked);
    });
}

#[test]
fn key_is_retired_once_another_signs_in_its_place_everywhere() {
    on_every_engine(|fixture| {
        fixture.record_keys(&[("a", 1), ("b", 2), ("c", 3)]);
        let refused = |kid| fixture.unchanged(|| retire(&fixture, kid));
        assert_eq!(refused("x"), RetireKeyOutcome::Unknown);
        assert_eq!(refused("a"), RetireKeyOutcome::Signs);
        // One that will sign, or that is the same secret, does not do.
        activate(&fixture, "b", Some(START + 50));
        assert_eq!(refused("a"), RetireKeyOutcome::Signs);
        fixture.set_time(START + 60);
        let heartbeat = |keys: &[u8]| {
            let keys = keys.iter().map(|secret| key("k", *secret).fingerprint()).collect();
            fixture.execute(Heartbeat { gateway: "g".into(), applied: 1, lease: 60, keys })
        };
        heartbeat(&[1]);
        assert_eq!(refused("a"), RetireKeyOutcome::NotEverywhere("b".into()));
        heartbeat(&[1, 2]);
        let sequence = fixture.sequence() + 1;
        let ends_at = UnixTime(START + 160);
        let retired = RetireKeyOutcome::Retired { sequence, ends_at };
        assert_eq!(retire(&fixture, "a"), retired);
        assert_eq!(refused("a"), retired);
        assert_eq!(fixture.load().key_use(key("a", 1).fingerprint()).ends_at, Some(ends_at));
        let changes = fixture.changes(sequence - 1, 9);
        assert!(!changes.has_new_key() && changes.keys.len() == 1);
        assert_eq!(refused("b"), RetireKeyOutcome::Signs);
        assert_eq!(fixture.unchanged(|| activate(&fixture, "a", None)), ActivateKeyOutcome::Retired);
        // It may be revoked all the same, and then it is not retired.
        revoke(&fixture, "a", &[]);
        assert_eq!(refused("a"), RetireKeyOutcome::Revoked);
        assert!(fixture.load().is_key_revoked(key("a", 1).fingerprint()));
    });
}
