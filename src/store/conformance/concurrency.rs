//! Many commands at once, from one process and from two.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::harness::{Fixture, on_every_engine};
use super::samples::{
    ALL, START, actor, imported_user, key_record, key_records, mint_for, new_user, revoke_id, sequence_of,
    token_id, user_subject, verified,
};
use crate::auth::denial::Denial;
use crate::auth::revocation::RevocationSnapshot;
use crate::auth::user_source::SourceName;
use crate::store::command::{
    AddUser, ChangeUser, FailedLogins, ImportUsers, MintOutcome, NameConflict, NoteFailedLogins, RecordKeys,
    RecordKeysOutcome, RevokeKey, RevokeKeyOutcome, RevokeSubject, UserChange,
};
use crate::store::records::{RevocationFilter, UserFilter};
use crate::store::{Store, StoreError};

/// Runs a test with clones of one store, and with two stores on the same place, as two processes have them.
fn with_each_kind_of_company(test: impl Fn(&Fixture, &[Store])) {
    on_every_engine(|fixture| {
        let clones = [fixture.store.clone(), fixture.store.clone(), fixture.store.clone()];
        test(&fixture, &clones);
    });
    on_every_engine(|fixture| {
        let processes = [fixture.store.clone(), fixture.another(START)];
        test(&fixture, &processes);
    });
}

/// Every sequence since the creation is in the trail once, in order.
fn assert_sequences_are_unique_and_without_gap(fixture: &Fixture) {
    let sequences: Vec<u64> = fixture.audit().iter().map(|row| row.sequence).collect();
    let expected: Vec<u64> = (2..=fixture.sequence()).collect();
    assert_eq!(sequences, expected);
}

#[test]
fn sequences_of_accepted_commands_are_unique_and_without_gap() {
    with_each_kind_of_company(|fixture, stores| {
        fixture.add("anna");
        let user = fixture.user("anna");
        let outcomes = fixture.block_on(async {
            let mut running = JoinSet::new();
            for (which, store) in (0..120u64).zip(stores.iter().cycle().cloned()) {
                let user = user.clone();
                running.spawn(async move {
                    match which % 6 {
                        0 => {
                            // Half of them are refused, and take none.
                            let new = new_user(&format!("user {}", which % 60));
                            _ = store.execute(AddUser { user: new }, actor()).await.unwrap();
                            None
                        }
                        1 => {
                            let users =
                                ["x", "y"].map(|letter| imported_user(&format!("{letter}{which}"))).to_vec();
                            let import = ImportUsers { users, update: false };
                            assert_eq!(store.execute(import, actor()).await.unwrap().added, 2);
                            None
                        }
                        2 | 3 => {
                            let outcome = store.execute(mint_for(user), actor()).await.unwrap();
                            let MintOutcome::Minted(minted, _) = outcome else { panic!("{outcome:?}") };
                            Some((sequence_of(&verified(&minted)), "mint", minted.id))
                        }
                        _ => {
                            let revoke = revoke_id(which, START, None);
                            let sequence = store.execute(revoke, actor()).await.unwrap();
                            Some((sequence, "revoke_token", token_id(which)))
                        }
                    }
                });
            }
            running.join_all().await
        });
        assert_sequences_are_unique_and_without_gap(fixture);
        let audit = fixture.audit();
        for (sequence, action, id) in outcomes.into_iter().flatten() {
            let row = audit.iter().find(|row| row.sequence == sequence).unwrap();
            assert_eq!((row.action.as_str(), row.token_id.as_ref()), (action, Some(&id.to_string())));
        }
        assert_eq!(fixture.users().len(), 1 + 10 + 40);
    });
}

#[test]
fn order_of_mints_and_revocations_holds_for_every_caller() {
    with_each_kind_of_company(|fixture, stores| {
        fixture.add("anna");
        let user = fixture.user("anna");
        let sequences = fixture.block_on(async {
            let mut running = JoinSet::new();
            for (which, store) in (0..90).zip(stores.iter().cycle().cloned()) {
                let user = user.clone();
                running.spawn(async move {
                    if which % 9 == 4 {
                        let subject = user_subject("anna");
                        return Err(store.execute(RevokeSubject { subject }, actor()).await.unwrap());
                    }
                    match store.execute(mint_for(user), actor()).await.unwrap() {
                        MintOutcome::Minted(minted, cutoffs) => Ok((verified(&minted), cutoffs)),
                        refused => panic!("{refused:?}"),
                    }
                });
            }
            running.join_all().await
        });
        let revoked: Vec<u64> =
            sequences.iter().filter_map(|outcome| outcome.as_ref().err().copied()).collect();
        let last = *revoked.iter().max().unwrap();
        for (token, cutoffs) in sequences.into_iter().filter_map(Result::ok) {
            let minted_at = sequence_of(&token);
            let expected = if minted_at < last { Err(Denial::RevokedUser) } else { Ok(()) };
            assert_eq!(fixture.verdict(&token), expected, "minted at {minted_at}, revoked at {last}");
            // A mint knows of every cutoff that came before it, and of none that came after.
            let newest = revoked.iter().filter(|sequence| **sequence < minted_at).max();
            let known = cutoffs.iter().find(|(subject, _)| *subject == user_subject("anna"));
            let known = known.unwrap().1.sequence;
            assert_eq!(known, newest.copied().unwrap_or(2), "minted at {minted_at}");
        }
        assert_sequences_are_unique_and_without_gap(fixture);
    });
}

#[test]
fn no_token_is_minted_behind_a_change_of_its_user() {
    with_each_kind_of_company(|fixture, stores| {
        fixture.add("anna");
        let user = fixture.user("anna");
        fixture.block_on(async {
            let mut running = JoinSet::new();
            for (which, store) in (0..40).zip(stores.iter().cycle().cloned()) {
                let user = user.clone();
                running.spawn(async move {
                    if which == 20 {
                        let change = UserChange::Disable;
                        let command = ChangeUser { name: "anna".into(), change };
                        store.execute(command, actor()).await.unwrap();
                    } else {
                        store.execute(mint_for(user), actor()).await.unwrap();
                    }
                });
            }
            running.join_all().await;
        });
        let actions: Vec<String> = fixture.audit().into_iter().map(|row| row.action).collect();
        assert_eq!(actions.last().unwrap(), "user_disable", "{actions:?}");
        assert_sequences_are_unique_and_without_gap(fixture);
    });
}

#[test]
fn of_the_same_command_many_times_at_once_one_changes_something() {
    with_each_kind_of_company(|fixture, stores| {
        fixture.record_keys(&[("old", 1)]);
        let before = fixture.sequence();

        let adds = (0..20).map(|which| new_user(["anna", "ANNA"][which % 2]));
        let outcomes = fixture.execute_at_once(stores, adds.map(|user| AddUser { user }).collect());
        let (added, refused): (Vec<_>, Vec<_>) =
            outcomes.into_iter().map(Result::unwrap).partition(Result::is_ok);
        assert_eq!(added.len(), 1);
        let exists = refused.iter().filter(|conflict| **conflict == Err(NameConflict::Exists)).count();
        assert_eq!((refused.len(), exists), (19, 9));

        let revoke = vec![revoke_id(1, START, Some("anna")); 20];
        let outcomes = fixture.execute_at_once(stores, revoke);
        assert!(outcomes.iter().all(|outcome| *outcome == Ok(before + 2)), "{outcomes:?}");

        let revoke = vec![RevokeKey { kid: "old".into(), successors: key_records(&[("new", 2)]) }; 20];
        let outcomes = fixture.execute_at_once(stores, revoke);
        let revoked = Ok(RevokeKeyOutcome::Revoked(before + 4));
        assert!(outcomes.iter().all(|outcome| *outcome == revoked), "{outcomes:?}");

        // Two gateways with two secrets under one name: one of them must not start.
        let record = (0..20).map(|which| RecordKeys { keys: vec![key_record("k", which % 2)] });
        let outcomes = fixture.execute_at_once(stores, record.collect());
        let recorded = outcomes.iter().filter(|outcome| **outcome == Ok(RecordKeysOutcome::Recorded)).count();
        let conflict = Ok(RecordKeysOutcome::Conflict("k".into()));
        let conflicts = outcomes.iter().filter(|outcome| **outcome == conflict).count();
        assert_eq!((recorded, conflicts), (10, 10));

        assert_eq!(fixture.sequence(), before + 5);
        assert_sequences_are_unique_and_without_gap(fixture);
    });
}

/// A sequence that becomes visible before an earlier one would be skipped for ever.
#[test]
fn feed_that_is_read_while_others_write_misses_nothing() {
    with_each_kind_of_company(|fixture, stores| {
        let replica = fixture.block_on(async {
            let mut running = JoinSet::new();
            for (which, store) in (0..150).zip(stores.iter().cycle().cloned()) {
                running.spawn(async move {
                    if which % 3 == 0 {
                        let user = new_user(&format!("user {which}"));
                        store.execute(AddUser { user }, actor()).await.unwrap().unwrap();
                    } else {
                        store.execute(revoke_id(which, START, None), actor()).await.unwrap();
                    }
                });
            }
            let writer = tokio::spawn(running.join_all());
            let mut replica = RevocationSnapshot::default();
            loop {
                let is_over = writer.is_finished();
                let piece = fixture.store.changes(replica.sequence(), 3).await.unwrap();
                let is_last = piece.is_last();
                piece.apply(&mut replica);
                if is_over && is_last {
                    break;
                }
            }
            writer.await.unwrap();
            replica
        });
        let loaded = fixture.load();
        assert_eq!((replica.sequence(), replica.sizes()), (loaded.sequence(), loaded.sizes()));
        assert_eq!((replica.sizes().tokens, replica.users()), (100, 50));
    });
}

#[test]
fn reads_go_on_while_others_write() {
    with_each_kind_of_company(|fixture, stores| {
        fixture.block_on(async {
            let mut running = JoinSet::new();
            for (which, store) in (0..60).zip(stores.iter().cycle().cloned()) {
                running.spawn(async move {
                    if which % 2 == 0 {
                        store
                            .execute(AddUser { user: new_user(&format!("user {which}")) }, actor())
                            .await
                            .unwrap()
                    } else {
                        store.users(UserFilter::default(), "", ALL).await.unwrap();
                        store.revocations(RevocationFilter::default(), u64::MAX, ALL).await.unwrap();
                        Ok(())
                    }
                });
            }
            assert!(running.join_all().await.iter().all(Result::is_ok));
        });
        assert_eq!(fixture.users().len(), 30);
    });
}

#[test]
fn full_queue_refuses_at_once_and_keeps_what_it_accepted() {
    on_every_engine(|fixture| {
        let failure = FailedLogins {
            subject: "anna".into(),
            origin: "elsewhere".into(),
            source: SourceName::Store,
            count: 1,
        };
        // Far more than wait anywhere, and slower to write than to give.
        let command = NoteFailedLogins { failures: vec![failure; 5] };
        let stores = [fixture.store.clone()];
        let outcomes = fixture.execute_at_once(&stores, vec![command; 10_000]);
        let (accepted, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
        assert!(!accepted.is_empty() && !refused.is_empty());
        assert!(refused.iter().all(|outcome| *outcome == Err(StoreError::QueueFull)));
        assert!(StoreError::QueueFull.is_transient());
        assert_eq!(fixture.audit().len(), 5 * accepted.len());
        fixture.add("anna");
    });
}

#[test]
fn store_can_be_used_from_any_thread() {
    on_every_engine(|fixture| {
        let store = Arc::new(fixture.store.clone());
        let threads: Vec<_> = (0..4)
            .map(|which| {
                let store = Arc::clone(&store);
                std::thread::spawn(move || {
                    let runtime =
                        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                    for round in 0..10 {
                        let command = revoke_id(which * 100 + round, START, None);
                        runtime.block_on(store.execute(command, actor())).unwrap();
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_sequences_are_unique_and_without_gap(&fixture);
        assert_eq!(fixture.load().sizes().tokens, 40);
    });
}

#[test]
fn a_token_that_is_revoked_several_times_at_once_has_one_sequence() {
    with_each_kind_of_company(|fixture, stores| {
        let mut revoked = fixture.block_on(async {
            let mut running = JoinSet::new();
            for (which, store) in (0..120u64).zip(stores.iter().cycle().cloned()) {
                let token = which / 2 % 20;
                running.spawn(async move {
                    (token, store.execute(revoke_id(token, START, None), actor()).await.unwrap())
                });
            }
            running.join_all().await
        });
        revoked.sort_unstable();
        revoked.dedup();
        assert_eq!(revoked.len(), 20, "{revoked:?}");
        assert_sequences_are_unique_and_without_gap(fixture);
    });
}
