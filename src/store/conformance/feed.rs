//! The change feed, and everything at once for a start.

use super::harness::{Fixture, on_every_engine};
use super::samples::{
    ACCEPT, ALL, DAY, START, actor, foreign_token, key_record, new_user, organization_subject, phc,
    revoke_id, token_id, user_subject,
};
use crate::auth::name::Name;
use crate::auth::revocation::KeyUse;
use crate::auth::revocation::{Account, Cutoff, Subject};
use crate::auth::time::{Lived, UnixTime};
use crate::auth::token_set::{Keep, RevokedToken};
use crate::auth::user_source::SourceName;
use crate::store::StoreError;
use crate::store::command::{
    AddUser, ChangeUser, Deregister, FailedLogins, Heartbeat, NoteFailedLogins, Rehash, RevokeSubject,
    UserChange,
};
use crate::store::records::{Changes, RecordedKey, StoredTime};

/// A cutoff that was set at [`START`].
fn cutoff(number: u64, closed: bool) -> Cutoff {
    Cutoff { sequence: number, time: UnixTime(START), lived: Lived(0), blocked: closed, revocation: true }
}

#[test]
fn feed_brings_each_change_as_it_stands_now() {
    on_every_engine(|fixture| {
        let anna = || user_subject("anna");
        let after = |change: &dyn Fn(&Fixture)| {
            let before = fixture.sequence();
            change(&fixture);
            let Changes { cutoffs, tokens, keys, users, through, sequence, .. } =
                fixture.changes(before, ALL);
            assert_eq!((through, sequence), (before + 1, before + 1));
            (sequence, cutoffs, users, tokens, keys)
        };
        let known = |account| vec![(Box::from("anna"), account)];
        let (n, cutoffs, users, ..) = after(&|it| it.add("anna"));
        let first = Cutoff { revocation: false, ..cutoff(n, false) };
        assert_eq!((cutoffs, users), (vec![(anna(), first)], known(Account::Enabled)));
        let (n, cutoffs, users, ..) = after(&|it| it.change("anna", UserChange::Disable));
        assert_eq!((cutoffs, users), (vec![(anna(), cutoff(n, true))], known(Account::Disabled)));
        let (n, cutoffs, users, ..) = after(&|it| it.change("anna", UserChange::Password(phc(1))));
        assert_eq!((cutoffs, users), (vec![(anna(), cutoff(n, true))], known(Account::Disabled)));
        let (n, cutoffs, users, ..) = after(&|it| it.change("anna", UserChange::Enable));
        assert_eq!((cutoffs, users), (vec![(anna(), cutoff(n, false))], known(Account::Enabled)));
        let (n, cutoffs, users, ..) = after(&|it| it.change("anna", UserChange::Remove));
        assert_eq!((cutoffs, users), (vec![(anna(), cutoff(n, true))], vec![]));
        let (n, cutoffs, users, tokens, keys) = after(&|it| _ = it.revoke(Subject::Everybody));
        assert_eq!(cutoffs, [(Subject::Everybody, cutoff(n, false))]);
        assert_eq!((users, tokens, keys), (vec![], vec![], vec![]));
        // As long as that of the removed one is there, in its place.
        let (n, cutoffs, users, ..) = after(&|it| it.add("anna"));
        assert_eq!((cutoffs, users), (vec![(anna(), cutoff(n, false))], known(Account::Enabled)));
        let (n, cutoffs, ..) = after(&|it| _ = it.revoke(organization_subject("Other")));
        assert_eq!(cutoffs, [(organization_subject("Other"), cutoff(n, false))]);
        let (_, cutoffs, _, tokens, _) = after(&|it| _ = it.execute(revoke_id(1, START + 5, None)));
        let expected =
            vec![RevokedToken { id: token_id(1), keep: Keep::Expires(UnixTime(START + 5)), lived: Lived(0) }];
        assert_eq!((cutoffs, tokens), (vec![], expected));
        let (.., keys) = after(&|it| it.record_keys(&[("a", 1)]));
        let fingerprint = key_record("a", 1).fingerprint;
        assert_eq!(keys, [RecordedKey { kid: "a".into(), fingerprint, key_use: KeyUse::default() }]);
        let (.., tokens, keys) = {
            fixture.add("bert");
            after(&|it| _ = it.mint("bert"))
        };
        assert_eq!((tokens, keys), (vec![], vec![]));
    });
}

/// Without its account a blocked user would count as a removed one.
#[test]
fn blocked_cutoff_of_a_disabled_user_comes_with_its_account() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        fixture.change("anna", UserChange::Disable);
        let before = fixture.sequence();
        fixture.revoke(user_subject("anna"));
        let changes = fixture.changes(before, 1);
        assert_eq!(changes.cutoffs, [(user_subject("anna"), cutoff(before + 1, true))]);
        assert_eq!(changes.users, [(Box::from("anna"), Account::Disabled)]);
    });
}

#[test]
fn feed_with_nothing_new_is_empty_and_at_its_end() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        let end = fixture.sequence();
        // The first time at the end, and then again and again.
        for _ in 0..3 {
            let changes = fixture.changes(end, 1);
            assert!(changes.is_last() && !changes.has_new_key());
            let Changes { cutoffs, tokens, keys, users, through, sequence, .. } = changes;
            assert_eq!((cutoffs.len(), tokens.len(), keys.len(), users.len()), (0, 0, 0, 0));
            assert_eq!((through, sequence), (end, end));
        }
    });
}

#[test]
fn what_no_gate_needs_is_not_in_the_feed() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        let end = fixture.sequence();
        let user = Name::parse_user("anna").unwrap();
        fixture.execute(Rehash { user, credential_version: end, phc: phc(1) });
        fixture.execute(Heartbeat { gateway: "g".into(), applied: 1, lease: 12, keys: vec![] });
        fixture.execute(Deregister { gateway: "g".into() });
        let failure = FailedLogins {
            subject: "anna".into(),
            origin: "elsewhere".into(),
            source: SourceName::Store,
            count: 1,
        };
        fixture.execute(NoteFailedLogins { failures: vec![failure] });
        let changes = fixture.changes(end, ALL);
        assert!(changes.is_last());
        assert_eq!((changes.through, changes.users.len()), (end, 0));
    });
}

#[test]
fn feed_sees_what_another_process_writes() {
    on_every_engine(|fixture| {
        let another = fixture.another(START);
        for round in 0..4 {
            let known = fixture.sequence();
            // Alternately by this process and by the other; nothing in between.
            let store = if round % 2 == 0 { &another } else { &fixture.store };
            assert!(fixture.changes(known, ALL).is_last());
            let user = new_user(&format!("user {round}"));
            assert_eq!(fixture.execute_on(store, AddUser { user }), Ok(()));
            for reader in [&another, &fixture.store] {
                let changes = fixture.wait(reader.changes(known, ALL));
                assert_eq!((changes.users.len(), changes.through), (1, known + 1), "round {round}");
            }
        }
    });
}

#[test]
fn replica_that_is_ahead_of_the_store_is_told_so() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        // What this store gives out next, another one in its place has given out before.
        let ahead = fixture.sequence() + 1;
        let changes = fixture.block_on(fixture.store.changes(ahead, ALL));
        assert_eq!(changes, Err(StoreError::Replaced));
        // And the feed goes on for those that are not.
        assert_eq!(fixture.changes(0, ALL).sequence, ahead - 1);
    });
}

#[test]
fn piece_holds_what_was_asked_for_and_pieces_end_behind_each_other() {
    on_every_engine(|fixture| {
        for which in 0..6 {
            fixture.add(&format!("user {which}"));
            fixture.execute(revoke_id(which, START, None));
            fixture.revoke(organization_subject(&format!("organization {which}")));
            fixture.mint("user 0");
        }
        let whole = fixture.changes(0, ALL);
        assert!(whole.is_last());
        for limit in 1..=7 {
            let (mut after, mut joined) = (0, Changes::default());
            loop {
                let piece = fixture.changes(after, limit);
                let lengths = [piece.cutoffs.len(), piece.tokens.len(), piece.users.len()];
                assert!(lengths.iter().all(|length| *length <= limit), "{lengths:?} by {limit}");
                assert!(piece.through > after, "the feed does not move");
                after = piece.through;
                let is_last = piece.is_last();
                joined.cutoffs.extend(piece.cutoffs);
                joined.tokens.extend(piece.tokens);
                joined.users.extend(piece.users);
                if is_last {
                    break;
                }
            }
            assert_eq!(after, whole.sequence);
            assert_eq!(joined.cutoffs, whole.cutoffs, "by {limit}");
            assert_eq!(joined.tokens, whole.tokens, "by {limit}");
            assert_eq!(joined.users, whole.users, "by {limit}");
        }
    });
}

#[test]
fn time_comes_from_every_process_and_never_goes_back() {
    on_every_engine(|fixture| {
        let read = || {
            let StoredTime { lived, floor, .. } = fixture.changes(0, ALL).time;
            assert_eq!(fixture.wait(fixture.store.time()), fixture.changes(0, ALL).time);
            (lived.0, floor.0 - START)
        };
        // A process counts from its first commit.
        fixture.add("dora");
        assert_eq!(read(), (0, 0));
        fixture.set_time(START + 100);
        fixture.add("anna");
        assert_eq!(read(), (100, 100));
        // A process that has just begun goes on from there, whatever its clock says; a day ahead moves nothing.
        let ahead = fixture.another(START + DAY);
        assert_eq!(fixture.execute_on(&ahead, AddUser { user: new_user("bert") }), Ok(()));
        assert_eq!(read(), (100, 100));
        // The floor follows a clock that is behind at half the speed of time.
        fixture.set_time(START + 200);
        fixture.set_time(START + 10);
        fixture.add("cleo");
        assert_eq!(read(), (200, 150));
    });
}

#[test]
fn load_is_as_of_one_moment() {
    on_every_engine(|fixture| {
        // Cutoff and account are written together: a load that mixed two moments would tell of a user that is disabled
        // and not blocked, or the other way round.
        for which in 0..3 {
            fixture.add(&format!("user {which}"));
        }
        let changes = (0..60).map(|round| {
            let change = if round / 3 % 2 == 0 { UserChange::Disable } else { UserChange::Enable };
            ChangeUser { name: format!("user {}", round % 3).into(), change }
        });
        let writing = fixture.store.clone();
        fixture.block_on(async {
            let writer = tokio::spawn(async move {
                for change in changes {
                    writing.execute(change, actor()).await.unwrap();
                }
            });
            loop {
                let is_over = writer.is_finished();
                let snapshot = fixture.store.load().await.unwrap();
                let blocked = (0..3).filter(|which| {
                    let foreign = foreign_token(&format!("user {which}"), START + 60);
                    snapshot.check(&foreign, &ACCEPT).is_err()
                });
                assert_eq!(snapshot.users() + blocked.count(), 3);
                if is_over {
                    break;
                }
            }
            writer.await.unwrap();
        });
        fixture.execute(RevokeSubject { subject: Subject::Everybody });
        assert_eq!(fixture.load().sequence(), fixture.sequence());
    });
}
