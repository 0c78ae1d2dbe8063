//! The one writer: a thread that takes commands from a bounded queue and commits together what is waiting.
//!
//! A caller hears of its command only after the commit that holds it is on the disk. A command that fails is
//! rolled back alone; a commit that fails, fails for all that were in it.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::oneshot;

use super::file::DatabaseFile;
use super::time;
use super::transaction::{Apply, Time, Transaction};
use crate::clock::Clock;
use crate::metrics::{Metrics, Span};
use crate::store::command::Actor;
use crate::store::error::StoreError;

/// Hands commands to the writer's thread. Dropping it ends the thread once the queue is empty.
pub(super) struct Writer {
    queue: Option<SyncSender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread; it connects when the first command comes.
    pub(super) fn start(file: DatabaseFile, clock: Clock, metrics: Arc<Metrics>) -> Result<Self, StoreError> {
        let (queue, jobs) = sync_channel(QUEUE);
        let thread = thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || work(&file, &jobs, &clock, &metrics))?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// Carries a command out; the future resolves when it is durable, or has failed. Never waits for room.
    pub(super) async fn execute<C: Apply>(&self, command: C, actor: Actor) -> Result<C::Outcome, StoreError> {
        let (reply, receiver) = oneshot::channel();
        let job = Box::new(Queued { command: Some(command), actor, result: None, reply });
        let queue = self.queue.as_ref().ok_or(StoreError::Stopped)?;
        queue.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::QueueFull,
            TrySendError::Disconnected(_) => StoreError::Stopped,
        })?;
        receiver.await.unwrap_or(Err(StoreError::Stopped))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        // What was accepted is committed, and the connection closed, before the caller goes on.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A command in the queue, whatever its type.
trait Job: Send {
    /// Carries it out in a savepoint; says whether that is to be kept.
    fn run(&mut self, connection: &Connection, time: &Time) -> bool;
    /// Tells the caller what became of it, once the commit is over.
    fn settle(self: Box<Self>, commit: &Result<(), StoreError>);
}

struct Queued<C: Apply> {
    command: Option<C>,
    actor: Actor,
    result: Option<Result<C::Outcome, StoreError>>,
    reply: oneshot::Sender<Result<C::Outcome, StoreError>>,
}

impl<C: Apply> Job for Queued<C> {
    fn run(&mut self, connection: &Connection, time: &Time) -> bool {
        if let Some(command) = self.command.take() {
            let transaction = Transaction::new(connection, &self.actor, time);
            self.result = Some(command.apply(&transaction));
        }
        matches!(self.result, Some(Ok(_)))
    }

    fn settle(self: Box<Self>, commit: &Result<(), StoreError>) {
        let result = match (self.result, commit) {
            (Some(Err(error)), _) => Err(error),
            (_, Err(error)) => Err(error.clone()),
            (Some(outcome), Ok(())) => outcome,
            (None, Ok(())) => Err(StoreError::Stopped),
        };
        // A caller that went away does not want to know.
        let _ = self.reply.send(result);
    }
}

fn work(file: &DatabaseFile, jobs: &Receiver<Box<dyn Job>>, clock: &Clock, metrics: &Metrics) {
    let mut connection = None;
    while let Ok(first) = jobs.recv() {
        let mut batch: Vec<_> = std::iter::once(first).chain(jobs.try_iter().take(BATCH - 1)).collect();
        let began = Instant::now();
        let verdict = commit(file, &mut connection, &mut batch, clock);
        metrics.span(Span::Commit, began.elapsed());
        if let Err(error) = &verdict {
            metrics.commit_failed();
            log::error!("store commit failed: {error}");
            connection = None;
        }
        batch.into_iter().for_each(|job| job.settle(&verdict));
    }
}

fn commit(
    file: &DatabaseFile,
    connection: &mut Option<Connection>,
    batch: &mut [Box<dyn Job>],
    clock: &Clock,
) -> Result<(), StoreError> {
    file.check_in_place()?;
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(file.connect()?),
    };
    let mut transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let time = time::advance(&transaction, clock)?;
    for job in batch {
        let mut savepoint = transaction.savepoint()?;
        if !job.run(&savepoint, &time) {
            savepoint.rollback()?;
        }
        savepoint.commit()?;
    }
    Ok(transaction.commit()?)
}

/// More waiting commands than this, and the next one is told that the store is busy.
const QUEUE: usize = 1024;

/// The most commands in one commit.
const BATCH: usize = 256;

#[cfg(test)]
mod tests {
    use super::super::sequence;
    use super::*;
    use crate::auth::time::UnixTime;
    use crate::store::command::Command;

    /// Takes a sequence, then fails if it is told to.
    struct Take(Option<StoreError>);

    impl Command for Take {
        type Outcome = u64;
    }

    impl Apply for Take {
        fn apply(self, transaction: &Transaction<'_>) -> Result<u64, StoreError> {
            let sequence = sequence::next(transaction)?;
            self.0.map_or(Ok(sequence), Err)
        }
    }

    #[test]
    fn a_failed_command_is_rolled_back_and_its_neighbours_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let file = DatabaseFile::create(&folder.path().join("s.db"), UnixTime(0)).unwrap();
        let writer = Writer::start(file.clone(), Clock::start(), Arc::new(Metrics::new())).unwrap();
        let execute = |failure| writer.execute(Take(failure), Actor::gateway());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let outcomes = runtime.block_on(async {
            tokio::join!(execute(None), execute(Some(StoreError::Signing)), execute(None))
        });
        assert_eq!(outcomes, (Ok(2), Err(StoreError::Signing), Ok(3)));
        drop(writer);
        assert_eq!(sequence::current(&file.connect().unwrap()), Ok(3));
    }
}
