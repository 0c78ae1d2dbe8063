//! The store in a SQLite file: a thread that writes, one that reads, one that watches for changes.

mod about;
mod activity;
mod after_restore;
mod audit;
mod audit_shares;
mod backup;
mod check;
mod cutoffs;
mod ending;
mod error;
mod feed;
mod file;
mod heartbeat;
mod keys;
mod known_sources;
mod legacy;
mod logins;
mod mint;
#[cfg(test)]
mod plans;
mod reader;
mod retention;
mod revocations;
mod revoked_keys_file;
mod sequence;
mod sequence_file;
mod skeletons;
mod slice;
mod time;
mod tokens;
mod transaction;
mod user_changes;
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

use self::check::Check;
use self::feed::Feed;
use self::file::{Checkpoints, DatabaseFile, Opened};
use self::reader::Reader;
use self::writer::Writer;
use super::after_restore::Legacy;
use super::command::{Actor, ImportEffect, ImportedUser, KeyRecord};
use super::error::StoreError;
use super::health::Health;
use super::records::{
    Acknowledgement, AuditFilter, AuditRow, Changes, ListedUser, LoginRecord, MintedToken, RecordedKey,
    Revocation, RevocationFilter, StoredTime, TokenFilter, UserFilter, UserRecord,
};
use crate::auth::identity::Identity;
use crate::auth::revocation::Subject;
use crate::auth::source::Source;
use crate::auth::token::TokenId;
use crate::clock::Clock;
use crate::metrics::Metrics;

/// A SQLite file and the threads that work on it.
pub(super) struct Sqlite {
    clock: Clock,
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
        revoked_keys_file::add(path, keys);
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
            writer: Writer::start(writing, check.verdict(), clock.clone(), metrics)?,
            reader: Reader::start("store-reader", Rows { file: file.clone(), connection: None })?,
            feed: Reader::start("store-feed", Feed::new(file))?,
            check,
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

    pub(super) async fn login_record(
        &self,
        name: &str,
        source: Option<Source>,
    ) -> Result<LoginRecord, StoreError> {
        let name = name.to_owned();
        self.read(move |connection| logins::record(connection, &name, source)).await
    }

    pub(super) async fn users(
        &self,
        filter: UserFilter,
        after: &str,
        limit: usize,
    ) -> Result<Vec<ListedUser>, StoreError> {
        let (after, limit, now) = (after.to_owned(), limit.min(MAX_ROWS), self.clock.now());
        self.read(move |connection| users::page(connection, &filter, &after, limit, now)).await
    }

    pub(super) async fn listed_user(&self, name: &str) -> Result<Option<ListedUser>, StoreError> {
        let (name, now) = (name.to_owned(), self.clock.now());
        self.read(move |connection| users::find_listed(connection, &name, now)).await
    }

    pub(super) async fn tokens(
        &self,
        user: &str,
        filter: TokenFilter,
        before: u64,
        limit: usize,
    ) -> Result<Vec<MintedToken>, StoreError> {
        let (user, limit, now) = (user.to_owned(), limit.min(MAX_ROWS), self.clock.now());
        self.read(move |connection| tokens::page(connection, &user, filter, before, limit, now)).await
    }

    pub(super) async fn token_user(&self, id: TokenId) -> Result<Option<String>, StoreError> {
        self.read(move |connection| Ok(tokens::owner(connection, id)?.map(|owner| owner.user.into()))).await
    }

    pub(super) async fn import_effects(
        &self,
        users: Vec<ImportedUser>,
        update: bool,
    ) -> Result<Vec<ImportEffect>, StoreError> {
        self.read(move |connection| users::import_effects(connection, &users, update)).await
    }

    pub(super) async fn organization_exists(&self, name: &str) -> Result<bool, StoreError> {
        let name = name.to_owned();
        self.read(move |connection| users::organization_exists(connection, &name)).await
    }

    pub(super) async fn email_exists(&self, folded: &str) -> Result<bool, StoreError> {
        let folded = folded.to_owned();
        self.read(move |connection| users::email_exists(connection, &folded)).await
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

    /// Waits until the file was checked.
    pub(super) async fn checked(&self) -> Result<(), StoreError> {
        let verdict = self.check.verdict();
        self.feed.run(move |_| verdict.wait()).await
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

    pub(super) async fn open_changes(&self) -> Result<Vec<Subject>, StoreError> {
        self.read(user_changes::open).await
    }

    pub(super) async fn about(&self, identity: &Identity, token: TokenId) -> Result<Changes, StoreError> {
        let identity = identity.clone();
        self.read(move |connection| about::read(connection, &identity, token)).await
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
            None => self.connection.insert(self.file.connect_to_read()?),
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

/// Pages of 4 KiB that a gateway lets gather in the log.
const LOG_PAGES: u32 = 1000;

/// The same for the command line, which leaves it to the gateway: only where none runs, or one cannot keep up with a long
/// import, does the log become as long as this.
const LONG_LOG_PAGES: u32 = 16 * LOG_PAGES;

/// Pieces of a snapshot that are read ahead of the caller that applies them.
const PIECES: usize = 2;

#[cfg(test)]
mod tests;
