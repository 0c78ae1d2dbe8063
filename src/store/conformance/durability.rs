//! What was acknowledged is there after the end of the process, and a store is created once.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use super::harness::{on_every_engine, on_every_place};
use super::samples::{START, actor, mint_for, new_user, revoke_id, sequence_of};
use crate::auth::revocation::Subject;
use crate::clock::{Clock, Manual};
use crate::store::StoreError;
use crate::store::command::{AddUser, ChangeOutcome, ChangeUser, UserChange};
use crate::store::records::RevocationFilter;

#[test]
fn everything_acknowledged_is_there_after_a_restart() {
    on_every_engine(|fixture| {
        let (alive, revoked) = fixture.fill();
        let before = fixture.dump();
        let fixture = fixture.reopen();
        assert_eq!(fixture.dump(), before);
        assert_eq!(fixture.verdict(&alive), Ok(()));
        assert!(fixture.verdict(&revoked).is_err());
    });
}

#[test]
fn sequence_goes_on_after_a_restart() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        let before = sequence_of(&fixture.mint("anna"));
        let fixture = fixture.reopen();
        assert_eq!(sequence_of(&fixture.mint("anna")), before + 1);
    });
}

#[test]
fn refused_commands_leave_nothing_for_a_restart_either() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        let checked = fixture.user("anna");
        fixture.change("anna", UserChange::Disable);
        let before = fixture.dump();
        fixture.execute(mint_for(checked));
        assert!(fixture.execute(AddUser { user: new_user("ANNA") }).is_err());
        let again = ChangeUser { name: "anna".into(), change: UserChange::Disable };
        assert_eq!(fixture.execute(again), ChangeOutcome::Unchanged);
        let fixture = fixture.reopen();
        assert_eq!(fixture.dump(), before);
    });
}

#[test]
fn last_clone_to_be_dropped_waits_for_what_was_accepted() {
    on_every_engine(|fixture| {
        let before = fixture.sequence();
        for which in 0..50 {
            // Given, and not waited for.
            fixture.block_on(async {
                let mut given = pin!(fixture.store.execute(revoke_id(which, START, None), actor()));
                _ = given.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            });
        }
        let fixture = fixture.reopen();
        assert_eq!(fixture.sequence(), before + 50);
        assert_eq!(fixture.load().sizes().tokens, 50);
    });
}

#[test]
fn another_process_reads_what_was_acknowledged_at_once() {
    on_every_engine(|fixture| {
        let another = fixture.another(START);
        for which in 0..10 {
            let name = format!("user {which}");
            fixture.add(&name);
            assert!(fixture.wait(another.user(&name)).is_some());
            let sequence = fixture.revoke(Subject::Everybody);
            let newest = another.revocations(RevocationFilter::default(), u64::MAX, 1);
            assert_eq!(fixture.wait(newest)[0].sequence, sequence);
            assert_eq!(fixture.wait(another.load()).sequence(), sequence);
        }
    });
}

#[test]
fn store_that_does_not_exist_is_not_opened() {
    on_every_place(|place| {
        let clock = || Clock::manual(&Arc::new(Manual { wall: START.into(), boot: 0.into() }), false);
        assert_eq!(place.open(clock()).map(drop), Err(StoreError::Missing));
        drop(place.create(clock()).unwrap());
        assert_eq!(place.open(clock()).map(drop), Ok(()));
    });
}

#[test]
fn store_that_exists_is_not_created_again() {
    on_every_engine(|fixture| {
        fixture.add("anna");
        let before = fixture.dump();
        // Later, so that a second creation would show in the cutoff on everybody.
        let clock = Clock::manual(&Arc::new(Manual { wall: (START + 77).into(), boot: 0.into() }), false);
        let again = fixture.place.create(clock).unwrap();
        assert_eq!(fixture.wait(again.user("anna")).map(|record| record.user), Some(fixture.user("anna")));
        assert_eq!(fixture.dump(), before);
    });
}
