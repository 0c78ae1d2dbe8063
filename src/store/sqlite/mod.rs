//! The store in a SQLite file: a thread that writes, one that reads, one that watches for changes.

mod about;
mod activity;
mod after_restore;
mod audit;
mod backup;
mod cutoffs;
mod ending;
mod error;
mod feed;
mod file;
mod heartbeat;
mod keys;
mod mint;
mod reader;
mod retention;
mod revocations;
mod sequence;
mod sequence_file;
mod time;
mod transaction;
mod users;
mod wal;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::mpsc::{Receiver, channel};

pub use self::file::Opening;
pub(super) use self::transaction::Apply;

use self::feed::Feed;
use self::file::DatabaseFile;
use self::reader::Reader;
use self::writer::Writer;
use super::command::{Actor, NameConflict, NewUser};
use super::error::StoreError;
use super::health::Health;
use super::records::{
    Acknowledgement, AuditFilter, AuditRow, Changes, RecordedKey, Revocation, RevocationFilter, StoredTime,
    User, UserRecord,
};
use crate::auth::token::TokenId;
use crate::clock::Clock;
use crate::metrics::Metrics;

/// A SQLite file and the threads that work on it.
pub(super) struct Sqlite {
    clock: Clock,
    writer: Writer,
    reader: Reader<Rows>,
    feed: Reader<Feed>,
}

impl Sqlite {
    /// Creates the file, or opens one that somebody else has just created.
    pub(super) fn create(path: &Path, clock: Clock, metrics: Arc<Metrics>) -> Result<Self, StoreError> {
        Self::start(DatabaseFile::create(path, clock.now())?, clock, metrics)
    }

    /// Opens an existing file.
    pub(super) fn open(
        path: &Path,
        opening: Opening,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StoreError> {
        Self::start(DatabaseFile::open(path, opening, clock.now())?, clock, metrics)
    }

    /// The last sequence that was noted beside the file; 0 where none was.
    pub(super) fn noted_sequence(path: &Path) -> Result<u64, StoreError> {
        sequence_file::read(path)
    }

    fn start(file: DatabaseFile, clock: Clock, metrics: Arc<Metrics>) -> Result<Self, StoreError> {
        Ok(Self {
            writer: Writer::start(file.clone(), clock.clone(), metrics)?,
            reader: Reader::start("store-reader", Rows { file: file.clone(), connection: None })?,
            feed: Reader::start("store-feed", Feed::new(file))?,
            clock,
        })
    }

    pub(super) fn health(&self) -> Health {
        self.writer.health()
    }

    pub(super) async fn execute<C: Apply>(&self, command: C, actor: Actor) -> Result<C::Outcome, StoreError> {
        self.writer.execute(command, actor).await
    }

    pub(super) async fn user(&self, name: &str) -> Result<Option<UserRecord>, StoreError> {
        let name = name.to_owned();
        self.read(move |connection| users::find(connection, &name)).await
    }

    pub(super) async fn users(&self, after: &str, limit: usize) -> Result<Vec<User>, StoreError> {
        let (after, limit) = (after.to_owned(), limit.min(MAX_ROWS));
        self.read(move |connection| users::page(connection, &after, limit)).await
    }

    pub(super) async fn conflicts(
        &self,
        new: Vec<NewUser>,
    ) -> Result<Vec<(usize, NameConflict)>, StoreError> {
        self.read(move |connection| users::conflicts(connection, &new)).await
    }

    pub(super) async fn organization_exists(&self, name: &str) -> Result<bool, StoreError> {
        let name = name.to_owned();
        self.read(move |connection| users::organization_exists(connection, &name)).await
    }

    pub(super) async fn revocations(
        &self,
        filter: RevocationFilter,
        before: u64,
        limit: usize,
    ) -> Result<Vec<Revocation>, StoreError> {
        let limit = limit.min(MAX_ROWS);
        self.read(move |connection| revocations::page(connection, &filter, before, limit)).await
    }

    pub(super) async fn audit(
        &self,
        filter: AuditFilter,
        after: i64,
        limit: usize,
    ) -> Result<Vec<AuditRow>, StoreError> {
        let limit = limit.min(MAX_ROWS);
        self.read(move |connection| audit::page(connection, &filter, after, limit)).await
    }

    /// Copies the store to a new file.
    pub(super) async fn back_up(&self, path: &Path) -> Result<(), StoreError> {
        let path = path.to_owned();
        self.read(move |connection| backup::write(connection, &path)).await
    }

    /// Is the file a whole store?
    pub(super) fn verify(path: &Path) -> Result<(), StoreError> {
        backup::verify(path)
    }

    pub(super) async fn keys(&self) -> Result<Vec<RecordedKey>, StoreError> {
        self.read(keys::all).await
    }

    pub(super) async fn time(&self) -> Result<StoredTime, StoreError> {
        self.read(time::read).await
    }

    pub(super) async fn acknowledgements(
        &self,
        within: Duration,
    ) -> Result<Vec<Acknowledgement>, StoreError> {
        let since = self.clock.now().minus(within.as_secs());
        self.read(move |connection| heartbeat::acknowledgements(connection, since)).await
    }

    pub(super) async fn changes(&self, after: u64, limit: usize) -> Result<Changes, StoreError> {
        let limit = limit.min(MAX_ROWS);
        self.feed.run(move |feed| feed.changes(after, limit)).await
    }

    pub(super) async fn about(
        &self,
        user: &str,
        organization: &str,
        token: TokenId,
    ) -> Result<Changes, StoreError> {
        let (user, organization) = (user.to_owned(), organization.to_owned());
        self.read(move |connection| about::read(connection, &user, &organization, token)).await
    }

    pub(super) fn snapshot(&self) -> Receiver<Result<Changes, StoreError>> {
        let (sender, pieces) = channel(PIECES);
        let failed = sender.clone();
        if let Err(error) = self.feed.submit(move |feed| feed.snapshot(&sender)) {
            let _ = failed.try_send(Err(error));
        }
        pieces
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.reader.run(move |rows| rows.read(read)).await
    }
}

/// The reader's connection, made when it is first needed and made again after an error.
struct Rows {
    file: DatabaseFile,
    connection: Option<Connection>,
}

impl Rows {
    fn read<T>(&mut self, read: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let connection = match &self.connection {
            Some(connection) => connection,
            None => self.connection.insert(self.file.connect()?),
        };
        let found = read(connection);
        if found.is_err() {
            self.connection = None;
        }
        found
    }
}

/// More rows than a store holds. SQLite counts in 63 bits, and the feed asks for one row more.
const MAX_ROWS: usize = i32::MAX as usize;

/// Pieces of a snapshot that are read ahead of whoever applies them.
const PIECES: usize = 2;
