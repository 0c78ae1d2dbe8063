use std::time::Duration;

use super::*;
use crate::auth::time::UnixTime;
use crate::store::command::{Actor, Command};
use crate::store::sql::transaction::{Apply, Transaction};

/// Takes a sequence, then fails if it is told to.
struct Take(Option<StoreError>);

impl Command for Take {
    type Outcome = u64;
}

impl Apply for Take {
    fn apply(self, transaction: &Transaction<'_>) -> Result<u64, StoreError> {
        let sequence = transaction.stamp().sequence;
        self.0.map_or(Ok(sequence), Err)
    }
}

/// Keeps the writer until it is told to go on.
struct Wait(std::sync::mpsc::Receiver<()>);

impl Command for Wait {
    type Outcome = ();
}

impl Apply for Wait {
    fn apply(self, _: &Transaction<'_>) -> Result<(), StoreError> {
        let _ = self.0.recv();
        Ok(())
    }
}

/// Takes a sequence in the time that nobody else wants.
struct TidyUp;

impl Command for TidyUp {
    type Outcome = u64;
}

impl Apply for TidyUp {
    const IS_UPKEEP: bool = true;

    fn apply(self, transaction: &Transaction<'_>) -> Result<u64, StoreError> {
        Ok(transaction.stamp().sequence)
    }
}

fn writer(folder: &tempfile::TempDir) -> Writer {
    let file = DatabaseFile::create(&folder.path().join("s.db"), UnixTime(0)).unwrap();
    start(file, Verdict::passed(), Clock::start(), Arc::new(Metrics::new())).unwrap()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

#[test]
fn upkeep_waits_for_every_command_that_waits_whatever_came_first() {
    let folder = tempfile::tempdir().unwrap();
    let writer = writer(&folder);
    let (go_on, waits) = std::sync::mpsc::channel();
    let outcomes = block_on(async {
        let take = || writer.execute(Take(None), Actor::gateway());
        let tidy_up = || writer.execute(TidyUp, Actor::gateway());
        let keep = writer.execute(Wait(waits), Actor::gateway());
        // Polled in this order: all are in the queue before the writer goes on.
        tokio::join!(keep, tidy_up(), tidy_up(), take(), take(), async { drop(go_on) })
    });
    assert_eq!(outcomes, (Ok(()), Ok(4), Ok(5), Ok(2), Ok(3), ()));
}

#[test]
fn upkeep_is_done_though_the_writer_is_never_idle() {
    let folder = tempfile::tempdir().unwrap();
    let writer = writer(&folder);
    let busy = || async {
        loop {
            writer.execute(Take(None), Actor::gateway()).await.unwrap();
        }
    };
    let upkeep = block_on(async {
        tokio::select! {
            done = writer.execute(TidyUp, Actor::gateway()) => done,
            () = async { tokio::join!(busy(), busy(), busy()); } => unreachable!(),
            () = tokio::time::sleep(Duration::from_secs(60)) => panic!("upkeep waits for ever"),
        }
    });
    assert!(upkeep.is_ok());
}

#[test]
fn a_failed_command_is_rolled_back_and_its_neighbours_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let file = DatabaseFile::create(&folder.path().join("s.db"), UnixTime(0)).unwrap();
    let writer = start(file.clone(), Verdict::passed(), Clock::start(), Arc::new(Metrics::new())).unwrap();
    let execute = |failure| writer.execute(Take(failure), Actor::gateway());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let outcomes = runtime
        .block_on(async { tokio::join!(execute(None), execute(Some(StoreError::Signing)), execute(None)) });
    assert_eq!(outcomes, (Ok(2), Err(StoreError::Signing), Ok(3)));
    drop(writer);
    assert_eq!(sequence::current(&of(&file.connect().unwrap())), Ok(3));
}
