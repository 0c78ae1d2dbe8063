//! The one writer: a thread that takes commands from a bounded queue and commits together what is waiting.
//!
//! Upkeep waits until nothing else does, or has waited for long.
//!
//! A caller hears of its command only after the commit that holds it is on the disk. A command that fails is
//! rolled back alone; a commit that fails, fails for all that were in it. After a failure nothing is acknowledged
//! until everything that can be read has been written and synced once more (see [`Wal::sync`]).

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::oneshot;

use super::activity::Activity;
use super::check::Verdict;
use super::ending;
use super::file::DatabaseFile;
use super::sequence_file::SequenceFile;
use super::time;
use super::transaction::{Apply, Time, Transaction};
use super::wal::{self, Change, Wal};
use super::{keys, revoked_keys_file, sequence};
use crate::clock::Clock;
use crate::metrics::{Latency, Metrics};
use crate::store::command::Actor;
use crate::store::error::StoreError;
use crate::store::health::Health;

/// Hands commands to the writer's thread. Dropping it ends the thread once the queue is empty.
pub(super) struct Writer {
    queue: Option<SyncSender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
    activity: Arc<Activity>,
}

impl Writer {
    /// Starts the thread; it connects when the first command comes, and the file was found to be whole.
    pub(super) fn start(
        file: DatabaseFile,
        verdict: Verdict,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StoreError> {
        let (queue, jobs) = sync_channel(QUEUE);
        let activity = Arc::<Activity>::default();
        let mut work = Work {
            sequence_file: SequenceFile::beside(file.path()),
            file,
            verdict,
            session: None,
            clock,
            metrics,
            activity: Arc::clone(&activity),
        };
        let thread = thread::Builder::new().name("store-writer".into()).spawn(move || work.run(&jobs))?;
        Ok(Self { queue: Some(queue), thread: Some(thread), activity })
    }

    /// How it is doing.
    pub(super) fn health(&self) -> Health {
        self.activity.health()
    }

    /// Carries a command out; the future resolves when it is durable, or has failed. Never waits for room.
    pub(super) async fn execute<C: Apply>(&self, command: C, actor: Actor) -> Result<C::Outcome, StoreError> {
        let (reply, receiver) = oneshot::channel();
        let job = Box::new(Queued { command: Some(command), actor, result: None, reply });
        let queue = self.queue.as_ref().ok_or(StoreError::Stopped)?;
        self.activity.queued();
        queue.try_send(job).map_err(|error| {
            self.activity.taken(1);
            match error {
                TrySendError::Full(_) => StoreError::QueueFull,
                TrySendError::Disconnected(_) => StoreError::Stopped,
            }
        })?;
        receiver.await.unwrap_or(Err(StoreError::Stopped))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        // What was accepted is committed, and the connection closed, before the caller goes on. A commit that hangs is
        // waited for by nobody: its caller was told so.
        if let Some(thread) = self.thread.take() {
            ending::join(thread, || self.activity.health().hangs());
        }
    }
}

/// A command in the queue, whatever its type.
trait Job: Send {
    /// Whether it waits until nothing else does.
    fn is_upkeep(&self) -> bool;
    /// Whether much is written by it and by commands like it.
    fn is_bulk(&self) -> bool;
    /// Whether keys may be revoked by it.
    fn revokes_keys(&self) -> bool;
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
    fn is_upkeep(&self) -> bool {
        C::IS_UPKEEP
    }

    fn is_bulk(&self) -> bool {
        C::IS_BULK
    }

    fn revokes_keys(&self) -> bool {
        C::REVOKES_KEYS
    }

    fn run(&mut self, connection: &Connection, time: &Time) -> bool {
        if let Some(command) = self.command.take() {
            let transaction = Transaction::new(connection, &self.actor, time);
            // A panic costs one command, not the thread that all of them need; the hook has logged it.
            let applied = catch_unwind(AssertUnwindSafe(|| command.apply(&transaction)));
            self.result = Some(applied.unwrap_or_else(|_| Err(StoreError::Failed("a task panicked".into()))));
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

/// What the thread works with.
struct Work {
    file: DatabaseFile,
    verdict: Verdict,
    session: Option<Session>,
    sequence_file: SequenceFile,
    clock: Clock,
    metrics: Arc<Metrics>,
    activity: Arc<Activity>,
}

/// A connection whose every byte was synced, and what it has seen since.
struct Session {
    connection: Connection,
    wal: Wal,
    syncs_in_commit: bool,
    /// Changes when somebody else commits.
    version: i64,
    /// The change of the log that was noticed last.
    change: Option<Change>,
}

impl Work {
    fn run(&mut self, jobs: &Receiver<Box<dyn Job>>) {
        let mut upkeep = Upkeep::default();
        while let Some(mut batch) = next(jobs, &mut upkeep) {
            self.activity.taken(batch.len());
            self.activity.commit_begins();
            let began = Instant::now();
            let committed = self.commit(&mut batch);
            self.metrics.latency(Latency::Commit, began.elapsed());
            let verdict = committed.as_ref().map(drop).map_err(Clone::clone);
            if let Err(error) = &verdict {
                self.metrics.commit_failed();
                log::error!("store commit failed: {error}");
                if !keeps_session(error) {
                    self.session = None;
                }
            }
            let is_bulk = batch.iter().any(|job| job.is_bulk());
            batch.into_iter().for_each(|job| job.settle(&verdict));
            if is_bulk && let Some(session) = &self.session {
                session.empty_log();
            }
            if let Ok(sequence) = committed {
                self.sequence_file.record(sequence);
            }
            self.activity.commit_ends();
            self.activity.is_faulty(verdict.err().or_else(|| self.file.check_access().err()));
        }
    }

    /// Commits what can be done of a batch; says up to which sequence everything is on the disk.
    fn commit(&mut self, batch: &mut [Box<dyn Job>]) -> Result<u64, StoreError> {
        self.verdict.wait()?;
        self.file.check_in_place()?;
        let session = match &mut self.session {
            Some(session) => session,
            None => self.session.insert(Session::begin(&self.file)?),
        };
        session.check_log()?;
        let is_bulk = batch.iter().all(|job| job.is_bulk());
        session.sync_in_commit(!is_bulk)?;
        let mut transaction = session.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let time = time::advance(&transaction, &self.clock)?;
        let revokes_keys = batch.iter().any(|job| job.revokes_keys());
        for job in batch {
            let mut savepoint = transaction.savepoint()?;
            if !job.run(&savepoint, &time) {
                savepoint.rollback()?;
            }
            savepoint.commit()?;
        }
        let sequence = sequence::current(&transaction)?;
        transaction.commit()?;
        if is_bulk {
            session.wal.sync_data()?;
        }
        // Once more: what was committed to a file without a name is not durable.
        self.file.check_in_place()?;
        session.check_log()?;
        session.committed()?;
        if revokes_keys {
            match keys::revoked(&session.connection) {
                Ok(revoked) => revoked_keys_file::add(self.file.path(), &revoked),
                // They are revoked all the same, and the next start adds them.
                Err(error) => log::warn!("revoked keys cannot be read: {error}"),
            }
        }
        Ok(sequence)
    }
}

/// Upkeep that was taken from the queue, and since when it waits.
type Upkeep = VecDeque<(Instant, Box<dyn Job>)>;

/// What is committed together next: what waits, or one of upkeep where nothing else does; `None` at the end.
fn next(jobs: &Receiver<Box<dyn Job>>, upkeep: &mut Upkeep) -> Option<Vec<Box<dyn Job>>> {
    loop {
        let first = if upkeep.is_empty() { Some(jobs.recv().ok()?) } else { None };
        let (waiting, more): (Vec<_>, Vec<_>) =
            first.into_iter().chain(jobs.try_iter()).take(BATCH).partition(|job| job.is_upkeep());
        upkeep.extend(waiting.into_iter().map(|job| (Instant::now(), job)));
        let is_due =
            |(since, _): &mut (Instant, _)| more.is_empty() || since.elapsed() >= LONGEST_UPKEEP_WAIT;
        let due = upkeep.pop_front_if(is_due);
        let batch: Vec<_> = more.into_iter().chain(due.map(|(_, job)| job)).collect();
        if !batch.is_empty() {
            return Some(batch);
        }
    }
}

impl Session {
    fn begin(file: &DatabaseFile) -> Result<Self, StoreError> {
        let mut connection = file.connect()?;
        let wal = file.sync(&mut connection)?;
        let version = wal::version(&connection)?;
        Ok(Self { connection, wal, syncs_in_commit: true, version, change: None })
    }

    /// Is the log still the one that was open? If it was removed, what is in it is saved to the database once, so
    /// that not even a crash loses it.
    fn check_log(&mut self) -> Result<(), StoreError> {
        let change = self.wal.change(&self.connection)?;
        let before = std::mem::replace(&mut self.change, change);
        if change.is_none() {
            return Ok(());
        }
        if change == before {
            return Err(StoreError::LogChanged);
        }
        match change {
            // If somebody else has committed since, it may have been to another log.
            Some(Change::LogRemoved)
                if wal::version(&self.connection)? == self.version && wal::checkpoint(&self.connection)? =>
            {
                log::error!(
                    "the store's -wal file was removed; what was committed is safe in the database; restart the gateway"
                );
            }
            Some(Change::IndexRemoved) => {
                log::error!(
                    "the store's -shm file was removed; what was committed is safe in -wal; restart the gateway"
                );
            }
            _ => log::error!(
                "the store's -wal file was removed or truncated: the latest commits may be lost; restore it or restart the gateway"
            ),
        }
        Err(StoreError::LogChanged)
    }

    /// Whether a commit waits for the disk, with the lock that others wait for. Where it does not, the caller does.
    fn sync_in_commit(&mut self, syncs: bool) -> Result<(), StoreError> {
        if self.syncs_in_commit != syncs {
            self.connection.pragma_update(None, "synchronous", if syncs { "FULL" } else { "NORMAL" })?;
            self.syncs_in_commit = syncs;
        }
        Ok(())
    }

    /// Moves what is in the log into the file, so that the next who writes begins it again. Others have the lock meanwhile. A gateway
    /// would do it in the commit of a mint, once the log is long.
    fn empty_log(&self) {
        // What fails is tried again after the next slice, and what is wrong with the disk is found by it.
        _ = (0..CHECKPOINTS).any(|_| wal::checkpoint(&self.connection).unwrap_or(true));
    }

    fn committed(&mut self) -> Result<(), StoreError> {
        self.version = wal::version(&self.connection)?;
        self.wal.committed()
    }
}

/// Does the connection stay as good as it was? The one of a log without a name is the only way to what is in it, and a store that
/// was moved may be put back.
const fn keeps_session(error: &StoreError) -> bool {
    matches!(error, StoreError::Locked | StoreError::LogChanged | StoreError::Replaced)
}

/// More waiting commands than this, and the next one is told that the store is busy.
const QUEUE: usize = 1024;

/// The most commands in one commit.
const BATCH: usize = 256;

/// How often it is tried to empty the log after a slice of an import: others write to it meanwhile.
const CHECKPOINTS: usize = 3;

/// Upkeep that has waited so long joins the next commit, or a writer that is never idle would fill the disk.
const LONGEST_UPKEEP_WAIT: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests;
