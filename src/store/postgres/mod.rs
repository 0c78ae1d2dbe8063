//! The store in PostgreSQL: one connection that writes, one that hears of changes, one for what is looked up.

#[cfg(test)]
pub(in crate::store) mod connect;
#[cfg(not(test))]
mod connect;
pub(in crate::store) mod copy;
mod database;
mod error;
mod history;
mod notes;
mod parameter;
mod questions;
mod reading;
mod reconnect;
mod reunion;
mod session;
#[cfg(test)]
pub(crate) mod test_server;
mod tls;
mod warnings;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::mpsc::Receiver;

pub(in crate::store) use self::database::time;

use self::connect::Purpose;
use self::database::opened;
use self::history::History;
use self::notes::Notes;
use self::questions::Questions;
use self::reading::{Open, Reading};
use self::session::Session;

use super::command::{Actor, KeyRecord};
use super::error::StoreError;
use super::health::Health;
use super::queue::Writer;
use super::reader::Reader;
use super::records::{Changes, RecordedKey};
use super::sql::connection::Connection;
use super::sql::transaction::Apply;
use super::sql::{feed, keys};
use super::sqlite::Opening;
use crate::auth::revocation::RevocationSnapshot;
use crate::auth::time::UnixTime;
use crate::clock::Clock;
use crate::config::PostgresSettings;
use crate::metrics::Metrics;

/// A database and the threads that work on it.
pub(super) struct Postgres {
    settings: Arc<PostgresSettings>,
    notes: Notes,
    reader: Reader<Reading>,
    feed: Reader<Reading>,
    commits: Arc<Commits>,
    history: Arc<History>,
    clock: Clock,
    /// By how many seconds the wall clock here was ahead of the server's.
    clock_skew: Arc<AtomicI64>,
    writer: Writer,
}

impl Postgres {
    /// Makes the store, or opens one that somebody else has just made.
    pub(super) fn create(
        settings: &PostgresSettings,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StoreError> {
        let session = Session::open(settings, Purpose::new("start"), || {})?;
        database::check_durability(&session.connection(), settings.durability)?;
        database::create(&session, clock.now())?;
        let notes = Notes::on(&database::check_schema(&session)?, settings);
        drop(session);
        Self::start(settings, clock, metrics, notes)
    }

    /// Opens the store that is there.
    pub(super) fn open(
        settings: &PostgresSettings,
        opening: Opening,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StoreError> {
        let session = Session::open(settings, Purpose::new("start"), || {})?;
        let notes = Notes::on(&database::check_schema(&session)?, settings);
        match opening {
            Opening::Restored => database::resume(&session, settings.durability, &clock, &notes)?,
            Opening::Run | Opening::Successor | Opening::Command | Opening::Look => {
                notes.check(&session.connection())?
            }
        }
        database::check_durability(&session.connection(), settings.durability)?;
        if opening.is_start() {
            database::revoke_forgotten(&session, settings.durability, &clock, &notes)?;
            notes.add_revoked_keys(&keys::revoked(&session.connection())?);
        }
        drop(session);
        Self::start(settings, clock, metrics, notes)
    }

    fn start(
        settings: &PostgresSettings,
        clock: Clock,
        metrics: Arc<Metrics>,
        notes: Notes,
    ) -> Result<Self, StoreError> {
        let (commits, history) = (Arc::<Commits>::default(), Arc::<History>::default());
        let (looked_up, followed, told) = (settings.clone(), settings.clone(), Arc::clone(&commits));
        let look_up: Open = Box::new(move || opened(&looked_up, "reader", || {}));
        let follow: Open = Box::new(move || {
            let commits = Arc::clone(&told);
            commits.are_heard.store(false, Ordering::Relaxed);
            let session = opened(&followed, "feed", move || {
                commits.are_heard.store(true, Ordering::Relaxed);
                commits.changed.notify_one();
            })?;
            database::listen(&session)?;
            Ok(session)
        });
        Ok(Self {
            reader: Reader::start("store-reader", Reading::over(look_up))?,
            feed: Reader::start("store-feed", Reading::over(follow))?,
            commits,
            writer: writer::start(
                settings.clone(),
                clock.clone(),
                metrics,
                Arc::clone(&history),
                notes.clone(),
            )?,
            notes,
            settings: Arc::new(settings.clone()),
            history,
            clock,
            clock_skew: Arc::default(),
        })
    }

    pub(super) fn health(&self) -> Health {
        let health = self.writer.health();
        Health { fault: self.history.fork().or(health.fault), ..health }
    }

    pub(super) async fn execute<C: Apply>(&self, command: C, actor: Actor) -> Result<C::Outcome, StoreError> {
        self.writer.execute(command, actor).await
    }

    /// Reads as of one moment.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let history = Arc::clone(&self.history);
        let known = history.known();
        let questions = Questions::default();
        drop(history::check(&questions.connection(), known));
        let checked = move |connection: &Connection<'_>| {
            history.check(connection, known)?;
            read(connection)
        };
        self.reader.run(move |reading| reading.read(questions, checked)).await
    }

    pub(super) async fn changes(&self, after: u64, limit: usize) -> Result<Changes, StoreError> {
        let (history, clock) = (Arc::clone(&self.history), self.clock.clone());
        let clock_skew = Arc::clone(&self.clock_skew);
        // Before the snapshot, which then must have it.
        let known = history.known();
        let questions = Questions::default();
        drop(history::check(&questions.connection(), known));
        drop(database::time(&questions.connection()));
        feed::foresee(&questions.connection(), after, limit);
        history::foresee(&questions.connection());
        let before = clock.wall();
        let look = move |connection: &Connection<'_>| {
            history.check(connection, known)?;
            let server = database::time(connection)?;
            clock_skew.store(skew(before, clock.wall(), server), Ordering::Relaxed);
            let changes = feed::changes_after(connection, after, limit)?;
            history.read(connection)?;
            Ok(changes)
        };
        let changes = self.feed.run(move |reading| reading.read(questions, look)).await?;
        self.note_revoked_keys(&changes.keys)?;
        Ok(changes)
    }

    /// Notes in the state folder which keys others have revoked, where nobody waits for it.
    fn note_revoked_keys(&self, keys: &[RecordedKey]) -> Result<(), StoreError> {
        let record = |key: &RecordedKey| KeyRecord { kid: key.kid.clone(), fingerprint: key.fingerprint };
        let revoked: Vec<KeyRecord> = keys.iter().filter(|key| key.is_revoked()).map(record).collect();
        if revoked.is_empty() {
            return Ok(());
        }
        let notes = self.notes.clone();
        self.reader.submit(move |_| notes.add_revoked_keys(&revoked))
    }

    /// Unites what `memory` knows with a database that has lost commits, which can be read again after it; says at which sequence it goes on.
    pub(super) async fn unite(&self, memory: Arc<RevocationSnapshot>) -> Result<u64, StoreError> {
        let (history, clock, settings) =
            (Arc::clone(&self.history), self.clock.clone(), Arc::clone(&self.settings));
        let unite = move |reading: &mut Reading| {
            let session = database::opened_for(
                &settings,
                Purpose { silence: LONG_SILENCE, ..Purpose::new("reunion") },
                || {},
            )?;
            let number = reunion::unite(&session, settings.durability, &clock, &history, &memory)?;
            reading.is_free_again();
            Ok(number)
        };
        self.feed.run(unite).await
    }

    /// What an operator should know of the database.
    pub(super) async fn warnings(&self) -> Result<Vec<String>, StoreError> {
        let settings = Arc::clone(&self.settings);
        self.reader.run(move |_| warnings::find(&settings)).await
    }

    /// By how many seconds the wall clock here is ahead of the server's, as of the last look.
    pub(super) fn clock_skew(&self) -> i64 {
        self.clock_skew.load(Ordering::Relaxed)
    }

    /// Waits until anybody has committed since it was last asked.
    pub(super) async fn changed(&self) {
        self.commits.changed.notified().await;
    }

    /// How often changes are to be asked for: rarely while their notifications are heard, as often as is configured behind a pooler that
    /// keeps them.
    pub(super) fn poll_interval(&self, configured: Duration) -> Duration {
        let is_told = self.commits.are_heard.load(Ordering::Relaxed);
        if is_told { configured.max(REGARDLESS) } else { configured }
    }

    pub(super) fn snapshot(&self) -> Receiver<Result<Changes, StoreError>> {
        let history = Arc::clone(&self.history);
        self.feed.pieces(move |reading, send| {
            let known = history.known();
            reading.read(Questions::default(), |connection| {
                history.check(connection, known)?;
                history.learn(connection)?;
                history.read(connection)?;
                feed::snapshot(connection, send)
            })
        })
    }
}

/// How far a server's time lies outside of the time in which it was asked for.
fn skew(before: UnixTime, after: UnixTime, server: UnixTime) -> i64 {
    let ahead = before.0.saturating_sub(server.0);
    let behind = server.0.saturating_sub(after.0);
    i64::try_from(ahead).unwrap_or(i64::MAX).saturating_sub_unsigned(behind)
}

/// What is heard of commits.
#[derive(Default)]
struct Commits {
    /// Told of each.
    changed: Notify,
    /// Has this connection heard of any? Behind a pooler nobody does.
    are_heard: AtomicBool,
}

/// Longer than it takes to change each of some million rows.
const LONG_SILENCE: Duration = Duration::from_secs(600);

/// How often changes are asked for though nobody has told of any: a notification may be lost, and only an answer says that the database is
/// there.
const REGARDLESS: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
