//! The writer: a thread that takes commands from the queue and commits together what is waiting, under the lock that gives all gateways
//! of a database one order.
//!
//! The lock is taken at the beginning of a transaction and given back by its commit, so that a sequence is visible before the next one
//! is taken: the order of sequences is the order of commits.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use super::connect::Purpose;
use super::database;
use super::history::{self, History, Known};
use super::notes::Notes;
use super::questions::Questions;
use super::reconnect::Reconnect;
use super::session::Session;
use crate::clock::Clock;
use crate::config::{Durability, PostgresSettings};
use crate::metrics::{Latency, Metrics};
use crate::store::activity::Activity;
use crate::store::beside::latest_commit::{Commit, LatestCommit};
use crate::store::error::StoreError;
use crate::store::queue::{Job, Upkeep, Writer, next};
use crate::store::sql::connection::Connection;
use crate::store::sql::transaction::Group;
use crate::store::sql::{keys, sequence, time};

/// Starts the thread; it connects when the first command comes.
pub(super) fn start(
    settings: PostgresSettings,
    clock: Clock,
    metrics: Arc<Metrics>,
    history: Arc<History>,
    notes: Notes,
) -> Result<Writer, StoreError> {
    let latest_commit = notes.latest_commit();
    let mut work = Work {
        settings,
        clock,
        metrics,
        history,
        notes,
        latest_commit,
        session: None,
        reconnect: Reconnect::default(),
        alone: 0,
    };
    Writer::start(move |jobs, activity| work.run(jobs, activity))
}

struct Work {
    settings: PostgresSettings,
    clock: Clock,
    metrics: Arc<Metrics>,
    history: Arc<History>,
    notes: Notes,
    latest_commit: Option<LatestCommit>,
    session: Option<Session>,
    reconnect: Reconnect,
    /// So many commands are carried out one by one, since one like them has failed all that it was with.
    alone: usize,
}

impl Work {
    fn run(&mut self, jobs: &Receiver<Box<dyn Job>>, activity: &Activity) {
        let mut upkeep = Upkeep::default();
        while let Some(batch) = next(jobs, &mut upkeep) {
            activity.taken(batch.len());
            let mut waiting = batch;
            while !waiting.is_empty() {
                let together = if self.alone > 0 { 1 } else { waiting.len() };
                self.alone = self.alone.saturating_sub(1);
                let behind = waiting.split_off(together);
                let mut rest = self.commit_and_settle(waiting, activity);
                rest.extend(behind);
                waiting = rest;
            }
        }
    }

    /// Commits what can be done of a batch in a short time; gives back the rest.
    fn commit_and_settle(&mut self, mut batch: Vec<Box<dyn Job>>, activity: &Activity) -> Vec<Box<dyn Job>> {
        activity.commit_begins();
        let began = Instant::now();
        let committed = self.commit(&mut batch);
        self.metrics.latency(Latency::Commit, began.elapsed());
        if committed.is_ok() {
            self.reconnect.succeeded();
        }
        if let Err(error) = &committed {
            self.metrics.commit_failed();
            log::error!("store commit failed: {error}");
            // What was begun is rolled back by the end of the connection.
            self.session = None;
            self.alone = if batch.len() > 1 { ALONE } else { self.alone };
        }
        let rest = committed.as_ref().map_or_else(|_| Vec::new(), |done| batch.split_off(*done));
        let verdict = committed.map(drop);
        let revokes_keys = verdict.is_ok() && batch.iter().any(|job| job.revokes_keys());
        if verdict.is_ok() {
            self.note(revokes_keys);
        }
        batch.into_iter().for_each(|job| job.settle(&verdict));
        activity.commit_ends();
        activity.is_faulty(verdict.err());
        rest
    }

    /// Notes in the state folder what was committed.
    fn note(&mut self, revokes_keys: bool) {
        if let (Some(file), Some(latest)) = (&mut self.latest_commit, self.history.known().latest) {
            file.record(latest);
        }
        if let (true, Some(session)) = (revokes_keys, &self.session) {
            match keys::revoked(&session.connection()) {
                Ok(revoked) => self.notes.add_revoked_keys(&revoked),
                // They are revoked all the same, and the next start adds them.
                Err(error) => log::warn!("revoked keys cannot be read: {error}"),
            }
        }
    }

    /// Commits the first of a batch; says how many.
    fn commit(&mut self, batch: &mut [Box<dyn Job>]) -> Result<usize, StoreError> {
        let kept = self.session.take_if(|session| !session.is_over());
        let is_new = kept.is_none();
        let session = match kept {
            Some(session) => self.session.insert(session),
            None => self.session.insert(self.reconnect.attempt(|| {
                let session = Session::open(&self.settings, Purpose::new("writer"), || {})?;
                database::check_schema(&session)?;
                Ok(session)
            })?),
        };
        database::begin(session, self.settings.durability)?;
        let connection = session.connection();
        let known = self.history.known();
        let of_each_batch = || of_each_batch(known, self.settings.durability);
        let questions = of_each_batch();
        let mut together = ahead(batch, questions.connection());
        session.ask_ahead(questions, true)?;
        self.history.check(&connection, known)?;
        database::check_durability(&connection, self.settings.durability)?;
        let taken = Cell::new(sequence::current(&connection)?);
        let before = taken.get();
        let now = self.clock.of_database(database::time(&connection)?);
        if is_new {
            database::renew_leases(&connection, now)?;
        }
        let time = time::advance(&connection, &self.clock, before, Some(now))?;
        session.forget(of_each_batch(), is_independent(batch));
        let (began, mut done) = (Instant::now(), 0);
        for index in 0..batch.len() {
            // All other gateways wait for the lock meanwhile.
            if index > 0 && began.elapsed() > SLICE {
                break;
            }
            done = index + 1;
            if index >= together {
                let (questions, rest) = (Questions::default(), batch.get(index..).unwrap_or_default());
                together = index + ahead(rest, questions.connection());
                session.ask_ahead(questions, is_independent(rest))?;
            }
            let Some(job) = batch.get_mut(index) else { break };
            let kept = taken.get();
            session.begin("SAVEPOINT command");
            if !job.run(connection, &taken, &time) {
                // After an error of the server the transaction of all is over.
                session.fault().map_or(Ok(()), Err)?;
                session.begin("ROLLBACK TO SAVEPOINT command");
                taken.set(kept);
            }
            session.begin("RELEASE SAVEPOINT command");
        }
        if batch.iter().any(|job| job.is_upkeep()) {
            history::forget(&connection)?;
        }
        let commit = Commit { sequence: taken.get(), nonce: database::nonce() };
        let is_numbered = commit.sequence != before;
        if is_numbered {
            history::leave(&connection, commit)?;
        }
        if !is_numbered && self.settings.durability == Durability::RemoteApply {
            // What changes nothing waits for no standby, and may acknowledge a change that none has.
            sequence::touch(&connection)?;
        }
        if is_numbered || batch.iter().any(|job| job.is_told()) {
            database::notify(session)?;
        }
        // An aborted transaction would end without an error.
        session.fault().map_or(Ok(()), Err)?;
        database::commit(session, self.settings.durability)?;
        if is_numbered {
            self.history.remember(commit);
        }
        Ok(done)
    }
}

/// May the first of a batch ask together with others, so that what it asks changes by nothing that they write?
fn is_independent(batch: &[Box<dyn Job>]) -> bool {
    batch.first().is_some_and(|job| job.group() != Group::Alone)
}

/// What is asked whatever is to be done.
fn of_each_batch(known: Known, durability: Durability) -> Questions {
    let questions = Questions::default();
    // Its answers decide nothing here.
    drop(history::check(&questions.connection(), known));
    drop(database::check_durability(&questions.connection(), durability));
    drop(sequence::current(&questions.connection()));
    drop(time::read(&questions.connection()));
    drop(database::time(&questions.connection()));
    questions
}

/// Asks what the first of the commands are known to ask, as far as they may ask together; says how many that are.
fn ahead(batch: &[Box<dyn Job>], questions: Connection<'_>) -> usize {
    let together = Group::together(batch.iter().map(|job| job.group()));
    batch.iter().take(together).for_each(|job| job.foresee(questions));
    together
}

/// No command is begun after a transaction has had the lock for this long.
const SLICE: Duration = Duration::from_millis(50);

/// So many commands go one by one after a batch that failed.
const ALONE: usize = 256;
