//! Copies of the store, made while it is in use.

use super::harness::on_every_engine;
use super::samples::{ALL, actor, new_user, sequence_of};
use crate::auth::denial::Denial;
use crate::store::command::AddUser;

#[test]
fn copy_is_the_store_as_it_was_and_goes_on_by_itself() {
    on_every_engine(|fixture| {
        let (alive, revoked) = fixture.fill();
        let (before, time) = (fixture.dump(), fixture.wait(fixture.store.time()));
        let copy = fixture.unchanged(|| fixture.back_up());
        assert_eq!(copy.dump(), before);
        assert_eq!(copy.wait(copy.store.time()), time);
        assert_eq!(copy.verdict(&alive), Ok(()));
        assert_eq!(copy.verdict(&revoked), Err(Denial::RevokedToken));

        // What is done to one of them is not done to the other.
        fixture.add("emil");
        assert_eq!(copy.dump(), before);
        assert_eq!(sequence_of(&copy.mint("anna")), before.sequence() + 1);
        assert_eq!(fixture.sequence(), before.sequence() + 1);
    });
}

#[test]
fn copy_is_as_of_one_moment_while_others_write() {
    on_every_engine(|fixture| {
        let writing = fixture.store.clone();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let writer = runtime.spawn(async move {
            for which in 0..200 {
                let user = new_user(&format!("user {which}"));
                writing.execute(AddUser { user }, actor()).await.unwrap().unwrap();
            }
        });
        let places: Vec<_> = (0..4).map(|_| fixture.place.copy()).collect();
        runtime.block_on(writer).unwrap();
        for place in places {
            let copy = fixture.beside(place);
            let (users, sequence) = (copy.users().len(), copy.sequence());
            assert_eq!((users + 1) as u64, sequence);
            // Each of them with its cutoff and its row.
            assert_eq!((copy.cutoffs().len(), copy.audit().len()), (users + 1, users));
            assert_eq!(copy.changes(0, ALL).users.len(), users);
        }
        assert_eq!(fixture.users().len(), 200);
    });
}
