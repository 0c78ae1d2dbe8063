//! The one writer: a thread that takes changes from a bounded queue and commits what is waiting together.
//!
//! A caller hears of its change only after the commit that holds it is on the disk. A change that fails is
//! rolled back alone; a commit that fails, fails for all that were in it.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Instant;

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::oneshot;

use super::sqlite::{Store, StoreError};
use crate::metrics::{Metrics, Span};

/// Hands changes to the writer's thread. Dropping it ends the thread once the queue is empty.
pub struct Writer {
    queue: SyncSender<Job>,
}

/// Makes the change, and returns what tells the caller how the commit went.
type Job = Box<dyn FnOnce(&Connection) -> Done + Send>;
type Done = (Outcome, Tell);
type Tell = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// Whether a change is to be kept.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Keep,
    RollBack,
}

impl Writer {
    /// Opens the writer's connection and starts its thread.
    pub fn start(store: Store, metrics: Arc<Metrics>) -> Result<Self, StoreError> {
        let connection = store.connect()?;
        let (queue, jobs) = sync_channel(QUEUE);
        thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || work(&store, Some(connection), &jobs, &metrics))?;
        Ok(Self { queue })
    }

    /// Makes a change; the future resolves when it is durable, or has failed. Never waits for room.
    pub async fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (sender, receiver) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            let result = change(connection);
            let outcome = if result.is_ok() { Outcome::Keep } else { Outcome::RollBack };
            let tell: Tell = Box::new(move |commit| {
                // A caller that went away does not want to know.
                let _ = sender.send(result.and_then(|value| commit.map(|()| value)));
            });
            (outcome, tell)
        });
        self.queue.try_send(job).map_err(|_| StoreError::Busy)?;
        // Dropped unmade: the commit could not even begin, and the log says why.
        receiver.await.unwrap_or_else(|_| Err(StoreError::Failed("the change was not made".into())))
    }
}

fn work(store: &Store, mut connection: Option<Connection>, jobs: &Receiver<Job>, metrics: &Metrics) {
    while let Ok(first) = jobs.recv() {
        let batch = std::iter::once(first).chain(jobs.try_iter().take(BATCH - 1));
        if connection.is_none() {
            connection = store.connect().ok();
        }
        let began = Instant::now();
        let mut tellers = Vec::new();
        let verdict = match connection.as_mut() {
            Some(connection) => store.check_in_place().and_then(|()| commit(connection, batch, &mut tellers)),
            // Dropping a job drops its channel, which tells its caller.
            None => Err(StoreError::Failed("the store cannot be opened".into())),
        };
        metrics.span(Span::Commit, began.elapsed());
        if let Err(error) = &verdict {
            metrics.commit_failed();
            log::error!("store commit failed: {error}");
            connection = None;
        }
        tellers.into_iter().for_each(|tell| tell(verdict.clone()));
    }
}

fn commit(
    connection: &mut Connection,
    batch: impl Iterator<Item = Job>,
    tellers: &mut Vec<Tell>,
) -> Result<(), StoreError> {
    let mut transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for job in batch {
        let mut savepoint = transaction.savepoint()?;
        let (outcome, tell) = job(&savepoint);
        tellers.push(tell);
        if outcome == Outcome::RollBack {
            savepoint.rollback()?;
        }
        savepoint.commit()?;
    }
    Ok(transaction.commit()?)
}

/// More waiting changes than this, and the next one is told that the store is busy.
const QUEUE: usize = 1024;

/// The most changes in one commit.
const BATCH: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::time::UnixTime;
    use crate::store::sqlite::{current_number, next_number};

    #[test]
    fn a_failed_change_is_rolled_back_and_its_neighbours_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::create(&folder.path().join("s.db"), UnixTime(0)).unwrap();
        let writer = Writer::start(store.clone(), Arc::new(Metrics::new())).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let good = || writer.write(next_number);
            let bad = writer.write(|connection| {
                next_number(connection)?;
                Err::<(), _>(StoreError::Failed("no".into()))
            });
            let (one, two, three) = tokio::join!(good(), bad, good());
            assert_eq!(one, Ok(2));
            assert_eq!(two, Err(StoreError::Failed("no".into())));
            assert_eq!(three, Ok(3));
        });
        assert_eq!(current_number(&store.connect().unwrap()), Ok(3));
    }
}
