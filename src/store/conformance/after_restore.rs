//! A store that was put in the place of a newer one: sequences go on where none was given out, and no token of before is valid.

use std::sync::Arc;

use super::harness::{Fixture, on_every_engine};
use super::samples::{
    ACCEPT, ALL, START, foreign_token, key_record, key_records, mint_for, minted, sequence_of, user_subject,
    verified,
};
use crate::auth::denial::Denial;
use crate::auth::revocation::Subject;
use crate::auth::time::UnixTime;
use crate::auth::token::Verified;
use crate::clock::Clock;
use crate::store::after_restore::{AfterRestore, Resumed};
use crate::store::command::{Heartbeat, RevokeKey, RevokeKeyOutcome, UserChange};
use crate::store::records::{RecordedKey, Revocation};
use crate::store::{Opening, Store};

/// More than any store gives out between two backups.
const GAP: u64 = 1_000_000;

fn after(known: u64, revoked_keys: &[(&str, u8)]) -> AfterRestore {
    AfterRestore { known, revoked_keys: key_records(revoked_keys) }
}

#[test]
fn restored_store_goes_on_behind_all_that_was_given_out_with_a_cutoff_on_everybody() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        for (time, ahead) in (START + 1..).zip([i64::MIN, -1, 0, 1, 77]) {
            let token = fixture.mint("anna");
            fixture.set_time(time);
            fixture.execute(Heartbeat { gateway: "one".into(), applied: 1, lease: 12, keys: vec![] });
            fixture.execute(Heartbeat { gateway: "two".into(), applied: 2, lease: 12, keys: vec![] });
            let own = fixture.sequence();
            let known = own.saturating_add_signed(ahead);
            let (rows, before) = (fixture.audit().len(), fixture.dump());
            let resumed = fixture.execute(after(known, &[]));
            let sequence = resumed.sequence;
            assert_eq!(resumed.revoked_keys, [""; 0]);
            assert_eq!(sequence, own.max(known) + GAP + 1, "{ahead}");
            assert_eq!(fixture.sequence(), sequence);

            let cutoff = Revocation {
                kind: "everybody",
                subject: String::new(),
                sequence,
                time: UnixTime(time),
                blocked: false,
                user: None,
                reason: Some("restore".into()),
            };
            assert_eq!(fixture.revocations().first(), Some(&cutoff));
            let audit = fixture.audit().split_off(rows);
            let told: Vec<_> =
                audit.iter().map(|row| (row.sequence, row.action.as_str(), row.subject.as_str())).collect();
            assert_eq!(told, [(sequence, "restore", "everybody")]);
            assert_eq!((audit[0].at, audit[0].actor.as_str()), (UnixTime(time), "operator"));
            // No gateway has read any of it.
            assert_eq!(fixture.acknowledgements(), []);
            assert_eq!((fixture.dump().users, fixture.dump().keys), (before.users, before.keys));

            assert_eq!(fixture.verdict(&token), Err(Denial::RevokedEverybody), "{ahead}");
            let next = fixture.mint("anna");
            assert_eq!((fixture.verdict(&next), sequence_of(&next)), (Ok(()), sequence + 1), "{ahead}");
        }
    });
}

#[test]
fn cutoff_time_of_a_restored_store_never_goes_back() {
    on_every_engine(|fixture| {
        fixture.set_time(START + 500);
        fixture.revoke(Subject::Everybody);
        fixture.set_time(START + 20);
        let Resumed { sequence, .. } = fixture.execute(after(0, &[]));
        let cutoff = fixture.cutoff(&Subject::Everybody).unwrap();
        assert_eq!((cutoff.sequence, cutoff.time), (sequence, UnixTime(START + 500)));
    });
}

/// Two tokens: one that was revoked after the copy, one that was minted after it.
fn tokens_since(fixture: &Fixture, revoked: Verified) -> [Verified; 2] {
    fixture.revoke_token(&revoked);
    [revoked, fixture.mint("anna")]
}

#[test]
fn restored_copy_forgets_no_revocation_and_no_replica_takes_it_for_an_older_store() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        fixture.add("blocked");
        fixture.change("blocked", UserChange::Disable);
        let token = fixture.mint("anna");
        let copy = fixture.back_up();
        let tokens = tokens_since(&fixture, token);
        let mut replica = fixture.load();
        let known = fixture.sequence();
        drop(fixture);

        assert_eq!(copy.verdict(&tokens[0]), Ok(()), "the copy does not know of it yet");
        copy.execute(after(known, &[]));
        copy.changes(replica.sequence(), ALL).apply(&mut replica);
        for snapshot in [&replica, &copy.load()] {
            for token in &tokens {
                assert!(snapshot.check(token, &ACCEPT).is_err());
            }
            let foreign = foreign_token("blocked", START + 5000);
            assert_eq!(snapshot.check(&foreign, &ACCEPT), Err(Denial::RevokedUser));
            assert_eq!(snapshot.sequence(), copy.sequence());
        }
        assert!(copy.cutoff(&user_subject("blocked")).unwrap().blocked);
        let next = verified(&minted(copy.execute(mint_for(copy.user("anna")))));
        copy.changes(replica.sequence(), ALL).apply(&mut replica);
        assert_eq!((replica.check(&next, &ACCEPT), copy.verdict(&next)), (Ok(()), Ok(())));
    });
}

#[test]
fn restored_store_holds_for_revoked_what_was_revoked_since_by_the_fingerprint() {
    on_every_engine(|fixture| {
        fixture.record_keys(&[("a", 1), ("b", 2), ("twin", 2), ("c", 3), ("d", 4)]);
        let revoke = |kid: &str| fixture.execute(RevokeKey { kid: kid.into(), successors: Vec::new() });
        assert!(matches!(revoke("d"), RevokeKeyOutcome::Revoked(_)));
        let rows = fixture.audit().len();
        // Known by two names, by another name, already revoked, unknown, and twice a name that stands for another secret.
        let since = [("b", 2), ("other", 3), ("d", 4), ("new", 5), ("a", 6), ("a", 6)];
        let resumed = fixture.execute(after(0, &since));
        assert_eq!(resumed.revoked_keys, ["b", "other", "new", "a"]);

        let snapshot = fixture.load();
        let is_revoked = |secret: u8| snapshot.is_key_revoked(key_record("any", secret).fingerprint);
        assert_eq!([1, 2, 3, 4, 5, 6, 7].map(is_revoked), [false, true, true, true, true, true, false]);
        let keys: Vec<RecordedKey> = fixture.wait(fixture.store.keys());
        let mut names: Vec<(&str, bool)> =
            keys.iter().map(|key| (key.kid.as_str(), key.is_revoked())).collect();
        let (added, _) = names.remove(names.iter().position(|(kid, _)| kid.len() > 64).unwrap());
        assert_eq!(added, format!("revoked-{}", key_record("a", 6).fingerprint));
        let expected = [("a", false), ("b", true), ("c", true), ("d", true), ("new", true), ("twin", true)];
        assert_eq!(names, expected);
        let audit = fixture.audit().split_off(rows);
        let told: Vec<_> = audit.iter().map(|row| (row.action.as_str(), row.subject.as_str())).collect();
        assert_eq!(
            told,
            [
                ("restore", "everybody"),
                ("revoke_key", "b"),
                ("revoke_key", "other"),
                ("revoke_key", "new"),
                ("revoke_key", "a")
            ]
        );
        // Done again, as after an interruption, it changes no key.
        assert_eq!(fixture.execute(after(0, &since)).revoked_keys, [""; 0]);
        assert_eq!(fixture.wait(fixture.store.keys()), keys);
    });
}

#[test]
fn store_that_is_started_as_restored_refuses_every_older_token() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        let (token, before) = (fixture.mint("anna"), fixture.sequence());
        let store = Store::open(&fixture.place.named(), Opening::Restored, Clock::observer(), Arc::default());
        drop(store.unwrap());
        // Gateways are stopped meanwhile.
        let fixture = fixture.reopen();
        assert_eq!(fixture.verdict(&token), Err(Denial::RevokedEverybody));
        assert_eq!(fixture.sequence(), before + GAP + 1);
        let row = fixture.audit().into_iter().next_back().unwrap();
        assert_eq!((row.action.as_str(), row.origin.as_str()), ("restore", "run --restored"));
        assert_eq!(fixture.verdict(&fixture.mint("anna")), Ok(()));
    });
}
