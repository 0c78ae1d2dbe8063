//! A store that is copied into another place, of the same engine or another.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::harness::{Dump, ENGINES, Fixture, Place};
use super::logins::{mint_from, source};
use super::samples::{DAY, START, actor, revoke_id, sequence_of, user_subject};
use crate::auth::denial::Denial;
use crate::auth::token::Verified;
use crate::clock::Clock;
use crate::config::StorePlace;
use crate::store::command::{Deregister, Prune, UnlockUser, UserChange};
use crate::store::copy::{Began, Copied, CopyError, CopyOptions, OnProgress, Progress};
use crate::store::postgres::test_server::TestServer;
use crate::store::sql::tables::{self, Table};
use crate::store::user_change::{BeginChange, ChangeEnd, ChangeId, EndChange};
use crate::store::{Opening, Store, StoreError, block_on};

fn options(rows: usize) -> CopyOptions {
    CopyOptions { source: "the source".into(), rows, may_change: false }
}

fn silent() -> OnProgress {
    Box::new(|_| Ok(()))
}

/// Runs a test with a new store of each engine and a place of each.
fn on_every_pair(test: impl Fn(Fixture, Box<dyn Place>)) {
    for (from, place) in ENGINES {
        for (to, target) in ENGINES {
            println!("from {from} to {to}");
            test(Fixture::new(place()), target());
        }
    }
}

fn copy_with(
    fixture: &Fixture,
    to: &dyn Place,
    options: CopyOptions,
    on_progress: OnProgress,
) -> Result<Copied, CopyError> {
    fixture.block_on(fixture.store.copy_to(&to.named(), options, on_progress))
}

fn copy(fixture: &Fixture, to: &dyn Place) -> Result<Copied, CopyError> {
    copy_with(fixture, to, options(5), silent())
}

/// Fails at that step; the steps that it has seen.
fn failing_at(step: usize) -> (OnProgress, Arc<Mutex<Vec<Progress>>>) {
    let seen = Arc::<Mutex<Vec<Progress>>>::default();
    let noted = Arc::clone(&seen);
    let on_progress: OnProgress = Box::new(move |progress| {
        let mut seen = noted.lock().unwrap();
        seen.push(progress);
        if seen.len() == step { Err(StoreError::Stopped) } else { Ok(()) }
    });
    (on_progress, seen)
}

fn begin(fixture: &Fixture, name: &str) -> ChangeId {
    fixture.execute(BeginChange { subjects: vec![user_subject(name)] })
}

/// Some of everything, but a gateway that runs. Ids were given out whose rows are gone.
fn fill(fixture: &Fixture) -> (Verified, Verified) {
    let tokens = fixture.fill();
    fixture.execute(Deregister { gateway: "g".into() });
    mint_from(fixture, "anna", source(7));
    fixture.execute(UnlockUser { name: "dora".into() });
    fixture.import_new(&["emil", "fritz"]);
    fixture.execute(revoke_id(7, START + DAY, None));
    fixture.set_time(START + 3 * 3600);
    fixture.add("grün");
    let open = begin(fixture, "anna");
    let refused = EndChange { id: begin(fixture, "bert"), subjects: vec![], end: ChangeEnd::Refused };
    fixture.execute(refused);
    assert!(open < ChangeId(2));
    while fixture.execute(Prune { age: 100 * DAY, bytes: u64::MAX }) > 0 {}
    tokens
}

/// What a copy has of its source.
fn kept(fixture: &Fixture) -> (Dump, Vec<String>) {
    let open = fixture.wait(fixture.store.open_changes());
    let record = |name| format!("{:?}", fixture.wait(fixture.store.login_record(name, Some(source(7)))));
    let more = vec![format!("{open:?}"), record("anna"), record("dora"), record("grun")];
    (fixture.dump(), more)
}

fn open_error(place: &dyn Place) -> StoreError {
    Store::open(&place.named(), Opening::Run, Clock::observer(), Arc::default()).unwrap_err()
}

#[test]
fn copied_store_is_the_store_on_whatever_engine_and_goes_on_as_it_would() {
    on_every_pair(|fixture, place| {
        let (alive, revoked) = fill(&fixture);
        let (before, time) = (kept(&fixture), fixture.wait(fixture.store.time()));
        let copied = fixture.unchanged(|| copy(&fixture, &*place)).unwrap();
        assert_eq!((copied.began, copied.tables.len()), (Began::New, 15));
        assert!(copied.tables.iter().all(|table| table.rows > 0), "a table is not tried: {copied:?}");
        let first = fixture.beside(place);
        assert_eq!(kept(&first), before);
        // And back.
        let back = (ENGINES[0].1)();
        assert_eq!(copy(&first, &*back).unwrap().tables, copied.tables);
        let second = first.beside(back);
        assert_eq!(kept(&second), before);

        for store in [&first, &second] {
            assert_eq!(store.wait(store.store.time()), time);
            assert_eq!(store.verdict(&alive), Ok(()));
            assert_eq!(store.verdict(&revoked), Err(Denial::RevokedToken));
            let (sequence, last) = (store.sequence(), store.audit().last().unwrap().id);
            assert_eq!(sequence_of(&store.mint("anna")), sequence + 1);
            assert_eq!(store.audit().last().unwrap().id, last + 1);
            assert!(begin(store, "bert") > ChangeId(2), "an id is given out twice");
            // What counts rows does so again.
            store.execute(revoke_id(8, START + DAY, Some("dora")));
            while store.execute(Prune { age: 100 * DAY, bytes: u64::MAX }) > 0 {}
        }
        assert_eq!(kept(&fixture), before, "the source has changed");
    });
}

#[test]
fn copy_that_was_interrupted_is_no_store_and_goes_on_where_it_stopped() {
    on_every_pair(|fixture, place| {
        fill(&fixture);
        let before = kept(&fixture);
        let (mut step, mut rows) = (0, 0);
        loop {
            step += 1;
            let (on_progress, seen) = failing_at(1);
            let done = copy_with(&fixture, &*place, options(5), on_progress);
            let steps = seen.lock().unwrap().clone();
            let is_copying = |progress: &&Progress| !progress.is_comparing;
            let copied = steps.iter().filter(is_copying).count();
            rows += copied;
            let expected = if step == 1 { Began::New } else { Began::Continued };
            if copied == 0 {
                assert!(done.is_err());
                break;
            }
            assert!(matches!(done, Err(CopyError::Source(_) | CopyError::Target(_))), "{done:?}");
            assert_eq!(open_error(&*place), StoreError::UnfinishedCopy("the source".into()), "{expected:?}");
            let created = Store::create(&place.named(), Clock::observer(), Arc::default());
            if let StorePlace::Postgres(_) = place.named() {
                assert!(matches!(created, Err(StoreError::UnfinishedCopy(_))), "{created:?}");
            }
            assert!(step < 100);
        }
        assert!(rows > 15 && step > 8, "{rows} {step}");
        assert_eq!(copy(&fixture, &*place).unwrap().began, Began::Continued);
        assert_eq!(kept(&fixture.beside(place)), before);
    });
}

#[test]
fn copy_begins_from_the_first_row_where_its_source_has_changed() {
    on_every_pair(|fixture, place| {
        fill(&fixture);
        let (on_progress, _) = failing_at(9);
        copy_with(&fixture, &*place, options(5), on_progress).unwrap_err();
        fixture.change("emil", UserChange::Remove);
        let before = kept(&fixture);
        assert_eq!(copy(&fixture, &*place).unwrap().began, Began::Again);
        assert_eq!(kept(&fixture.beside(place)), before);
    });
}

#[test]
fn copy_of_a_source_that_changes_meanwhile_is_no_store() {
    on_every_pair(|fixture, place| {
        fill(&fixture);
        let writer = fixture.another(START + 5 * 3600);
        let which = Arc::new(AtomicU64::new(90));
        let write = move || {
            let command = revoke_id(which.fetch_add(1, Ordering::Relaxed), START + DAY, None);
            block_on(writer.execute(command, actor())).map(drop)
        };
        let writing = || -> OnProgress {
            let mut write = Some(write.clone());
            Box::new(move |_| write.take().map_or(Ok(()), |write| write()))
        };
        let refused = copy_with(&fixture, &*place, options(5), writing());
        assert!(matches!(refused, Err(CopyError::Changed)), "{refused:?}");
        assert!(matches!(open_error(&*place), StoreError::UnfinishedCopy(_)));
        let (other, may_change) = ((ENGINES[0].1)(), CopyOptions { may_change: true, ..options(5) });
        assert!(copy_with(&fixture, &*other, may_change, writing()).unwrap().is_outdated);
        let copied = copy(&fixture, &*place).unwrap();
        assert_eq!((copied.began, copied.is_outdated), (Began::Again, false));
        assert_eq!(kept(&fixture.beside(place)), kept(&fixture));
    });
}

#[test]
fn row_that_somebody_changes_in_the_target_is_found() {
    let fixture = Fixture::new((ENGINES[0].1)());
    fill(&fixture);
    let place = (ENGINES[1].1)();
    let StorePlace::Postgres(settings) = place.named() else { panic!("not PostgreSQL") };
    let mut is_done = false;
    let on_progress: OnProgress = Box::new(move |progress| {
        if progress.is_comparing && !std::mem::replace(&mut is_done, true) {
            let sql = "UPDATE users SET disabled = NOT disabled WHERE name = 'anna'; DELETE FROM unlocks";
            TestServer::shared().psql_in(&settings.database, sql);
        }
        Ok(())
    });
    let refused = copy_with(&fixture, &*place, options(5), on_progress).unwrap_err();
    assert!(matches!(&refused, CopyError::Differs(tables) if tables == &["users", "unlocks"]), "{refused}");
    assert!(matches!(open_error(&*place), StoreError::UnfinishedCopy(_)));
    assert_eq!(copy(&fixture, &*place).unwrap().began, Began::Again);
    assert_eq!(kept(&fixture.beside(place)), kept(&fixture));
}

#[test]
fn nothing_is_overwritten_by_a_copy() {
    on_every_pair(|fixture, place| {
        fill(&fixture);
        copy(&fixture, &*place).unwrap();
        let copied = fixture.beside(place);
        let before = kept(&copied);
        let refused = copy(&fixture, &*copied.place);
        assert!(matches!(refused, Err(CopyError::Occupied)), "{refused:?}");
        assert_eq!(kept(&copied), before);
        let refused = copy(&fixture, &*fixture.place);
        assert!(matches!(refused, Err(CopyError::Occupied)), "{refused:?}");
    });
}

#[test]
fn unfinished_copy_of_another_store_stays_as_it_is() {
    on_every_pair(|fixture, place| {
        fill(&fixture);
        let (on_progress, _) = failing_at(3);
        copy_with(&fixture, &*place, options(5), on_progress).unwrap_err();
        let other = CopyOptions { source: "another".into(), ..options(5) };
        let refused = copy_with(&fixture, &*place, other, silent());
        assert!(matches!(&refused, Err(CopyError::OtherSource(name)) if name == "the source"), "{refused:?}");
        assert_eq!(copy(&fixture, &*place).unwrap().began, Began::Continued);
    });
}

#[test]
fn many_rows_are_copied_in_both_directions() {
    const ROWS: u64 = 100_000;
    let fixture = Fixture::new((ENGINES[0].1)());
    fixture.execute_many((0..ROWS).map(|which| revoke_id(which, START + DAY, Some("anna"))));
    let mut from = fixture;
    for (name, target) in [ENGINES[1], ENGINES[0]] {
        let (place, began) = (target(), Instant::now());
        let copied = copy_with(&from, &*place, options(CopyOptions::ROWS), silent()).unwrap();
        let rows: u64 = copied.tables.iter().map(|table| table.rows).sum();
        println!("{rows} rows to {name}: {:?}", began.elapsed());
        assert!(copied.tables.iter().any(|table| table.name == "revoked_tokens" && table.rows == ROWS));
        from = from.beside(place);
    }
}

#[test]
fn every_table_and_column_of_the_schema_is_copied() {
    let fixture = Fixture::new((ENGINES[1].1)());
    let StorePlace::Postgres(settings) = fixture.place.named() else { panic!("not PostgreSQL") };
    let sql = "SELECT table_name, string_agg(column_name, ',' ORDER BY column_name COLLATE \"C\") \
               FROM information_schema.columns WHERE table_schema = 'public' GROUP BY table_name";
    let text = TestServer::shared().psql_in(&settings.database, sql);
    let mut found: Vec<&str> = text.lines().collect();
    // What is of one database and its gateways alone.
    let own = ["commits|", "ds_gateway|", "forks|", "gateways|"];
    found.retain(|line| !own.iter().any(|table| line.starts_with(table)));
    let mut copied: Vec<String> = tables::all().map(Table::described).collect();
    found.sort_unstable();
    copied.sort_unstable();
    assert_eq!(found, copied);
}
