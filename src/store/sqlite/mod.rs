//! The store in a SQLite file: a thread that writes, one that reads, one that watches for changes.

mod backup;
mod check;
mod connection;
pub(in crate::store) mod copy;
mod error;
mod feed;
mod file;
mod legacy;
#[cfg(test)]
mod plans;
mod wal;
mod writer;

use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection as Database;
use tokio::sync::mpsc::Receiver;

pub use self::file::Opening;

use self::check::Check;
use self::feed::Feed;
use self::file::{Checkpoints, DatabaseFile, Opened};
use super::after_restore::Legacy;
use super::beside::revoked_keys;
use super::command::{Actor, KeyRecord};
use super::error::StoreError;
use super::health::Health;
use super::queue::Writer;
use super::reader::{Kept, Reader};
use super::records::Changes;
use super::sql::connection::Connection;
use super::sql::transaction::Apply;
use crate::clock::Clock;
use crate::metrics::Metrics;

/// A SQLite file and the threads that work on it.
pub(super) struct Sqlite {
    check: Check,
    reader: Reader<Rows>,
    feed: Reader<Feed>,
    /// Dropped last: the last connection to be closed empties the log.
    writer: Writer,
}

impl Sqlite {
    /// Creates the file, or opens one that somebody else has just created.
    pub(super) fn create(path: &Path, clock: Clock, metrics: Arc<Metrics>) -> Result<Self, StoreError> {
        Self::start(DatabaseFile::create(path, clock.now())?, Check::passed(), clock, metrics)
    }

    /// Opens an existing file.
    pub(super) fn open(
        path: &Path,
        opening: Opening,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StoreError> {
        let Opened { file, is_checked } = DatabaseFile::open(path, opening, clock.now())?;
        let check = if is_checked { Check::passed() } else { Check::start(&file)? };
        Self::start(file, check, clock, metrics)
    }

    /// What the store at that place hands on to the one that replaces it.
    pub(super) fn legacy(path: &Path) -> Legacy {
        legacy::read(path)
    }

    /// Notes beside the place of a store that these keys are revoked, whatever is put there.
    pub(super) fn note_revoked_keys(path: &Path, keys: &[KeyRecord]) {
        revoked_keys::add(path, keys);
    }

    fn start(
        file: DatabaseFile,
        check: Check,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StoreError> {
        // One place checkpoints: a gateway's writer, as long as there is one.
        let (writing, reading) = match clock.is_observer() {
            false => (Checkpoints::After(LOG_PAGES), Checkpoints::Never),
            true => (Checkpoints::After(LONG_LOG_PAGES), Checkpoints::AtClose),
        };
        let (writing, file) = (file.with(writing), file.with(reading));
        Ok(Self {
            writer: writer::start(writing, check.verdict(), clock.clone(), metrics)?,
            reader: Reader::start("store-reader", Rows { file: file.clone(), database: None })?,
            feed: Reader::start("store-feed", Feed::new(file))?,
            check,
        })
    }

    pub(super) fn health(&self) -> Health {
        self.writer.health()
    }

    pub(super) async fn execute<C: Apply>(&self, command: C, actor: Actor) -> Result<C::Outcome, StoreError> {
        self.writer.execute(command, actor).await
    }

    /// Reads as of one moment.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.reader.run(move |rows| rows.read(read)).await
    }

    /// Copies the store to a new file.
    pub(super) async fn back_up(&self, path: &Path) -> Result<(), StoreError> {
        let path = path.to_owned();
        self.reader.run(move |rows| rows.connected(|database| backup::write(database, &path))).await
    }

    /// Waits until the file was checked.
    pub(super) async fn checked(&self) -> Result<(), StoreError> {
        let verdict = self.check.verdict();
        self.feed.run(move |_| verdict.wait()).await
    }

    /// Does the file say that it is a store of ours, whole or not?
    pub(super) fn is_ours(path: &Path) -> Result<bool, StoreError> {
        backup::is_ours(path)
    }

    /// Is the file a whole store?
    pub(super) fn verify(path: &Path) -> Result<(), StoreError> {
        backup::verify(path)
    }

    pub(super) async fn changes(&self, after: u64, limit: usize) -> Result<Changes, StoreError> {
        self.feed.run(move |feed| feed.changes(after, limit)).await
    }

    pub(super) fn snapshot(&self) -> Receiver<Result<Changes, StoreError>> {
        self.feed.pieces(|feed, send| feed.snapshot(send))
    }
}

/// The reader's connection, made when it is first needed and made again after an error.
struct Rows {
    file: DatabaseFile,
    database: Option<Database>,
}

impl Kept for Rows {}

impl Rows {
    fn read<T>(
        &mut self,
        read: impl FnOnce(&Connection<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.connected(|database| read(&connection::of(&*database.unchecked_transaction()?)))
    }

    fn connected<T>(
        &mut self,
        work: impl FnOnce(&Database) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let database = match &self.database {
            Some(database) => database,
            None => self.database.insert(self.file.connect_to_read()?),
        };
        let done = work(database);
        if done.is_err() {
            self.database = None;
        }
        done
    }
}

/// Pages of 4 KiB that a gateway lets gather in the log.
const LOG_PAGES: u32 = 1000;

/// The same for the command line, which leaves it to the gateway: only where none runs, or one cannot keep up with a long
/// import, does the log become as long as this.
const LONG_LOG_PAGES: u32 = 16 * LOG_PAGES;

#[cfg(test)]
mod tests;
