//! The one writer: a thread that takes commands from a bounded queue and commits together what is waiting.
//!
//! Upkeep waits until nothing else does, or has waited for long.
//!
//! A caller hears of its command only after the commit that holds it is on the disk. A command that fails is
//! rolled back alone; a commit that fails, fails for all that were in it. After a failure nothing is acknowledged
//! until everything that can be read has been written and synced once more (see [`Wal::sync`]).

use std::cell::Cell;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use rusqlite::{Connection, TransactionBehavior};

use super::check::Verdict;
use super::connection::of;
use super::file::DatabaseFile;
use super::wal::{self, Change, Wal};
use crate::clock::Clock;
use crate::metrics::{Latency, Metrics};
use crate::store::activity::Activity;
use crate::store::beside::latest_commit::{Commit, LatestCommit};
use crate::store::beside::revoked_keys;
use crate::store::error::StoreError;
use crate::store::queue::{Job, Upkeep, Writer, next};
use crate::store::sql::{keys, sequence, time};

/// Starts the thread; it connects when the first command comes, and the file was found to be whole.
pub(super) fn start(
    file: DatabaseFile,
    verdict: Verdict,
    clock: Clock,
    metrics: Arc<Metrics>,
) -> Result<Writer, StoreError> {
    let latest_commit = LatestCommit::beside(file.path());
    let mut work = Work { latest_commit, file, verdict, session: None, clock, metrics };
    Writer::start(move |jobs, activity| work.run(jobs, activity))
}

/// What the thread works with.
struct Work {
    file: DatabaseFile,
    verdict: Verdict,
    session: Option<Session>,
    latest_commit: LatestCommit,
    clock: Clock,
    metrics: Arc<Metrics>,
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
    fn run(&mut self, jobs: &Receiver<Box<dyn Job>>, activity: &Activity) {
        let mut upkeep = Upkeep::default();
        while let Some(mut batch) = next(jobs, &mut upkeep) {
            activity.taken(batch.len());
            activity.commit_begins();
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
                self.latest_commit.record(Commit { sequence, nonce: 0 });
            }
            activity.commit_ends();
            activity.is_faulty(verdict.err().or_else(|| self.file.check_access().err()));
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
        let taken = Cell::new(sequence::current(&of(&transaction))?);
        let time = time::advance(&of(&transaction), &self.clock, taken.get(), None)?;
        let before = taken.get();
        let revokes_keys = batch.iter().any(|job| job.revokes_keys());
        for job in batch {
            let (mut savepoint, kept) = (transaction.savepoint()?, taken.get());
            if !job.run(of(&savepoint), &taken, &time) {
                savepoint.rollback()?;
                taken.set(kept);
            }
            savepoint.commit()?;
        }
        if taken.get() != before {
            sequence::set(&of(&transaction), taken.get())?;
        }
        transaction.commit()?;
        if is_bulk {
            session.wal.sync_data()?;
        }
        // Once more: what was committed to a file without a name is not durable.
        self.file.check_in_place()?;
        session.check_log()?;
        session.committed()?;
        if revokes_keys {
            match keys::revoked(&of(&session.connection)) {
                Ok(revoked) => revoked_keys::add(self.file.path(), &revoked),
                // They are revoked all the same, and the next start adds them.
                Err(error) => log::warn!("revoked keys cannot be read: {error}"),
            }
        }
        Ok(taken.get())
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

/// How often it is tried to empty the log after a slice of an import: others write to it meanwhile.
const CHECKPOINTS: usize = 3;

#[cfg(test)]
mod tests;
