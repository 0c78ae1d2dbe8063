//! The durable state: users, revocations, keys' fingerprints and the audit trail. Commands in, outcomes out.
//!
//! Every change is a [`Command`], carried out as one transaction that takes the next sequence, so that the order of mints and
//! revocations comes from here and not from a clock. No caller sees a connection, takes a time or writes SQL:
//! the store stamps the time, decides by the pure functions of `decision`, and answers once the change is durable.
//! [`replica`] brings what any process has changed into the gate's memory.
//!
//! [`Store`] is asynchronous and works on threads of its own: a future of it may be awaited on any Tokio runtime that has timers.
//!
//! It may use `auth` and the layers that all use.

mod activity;
pub mod after_restore;
mod beside;
mod blocking;
pub mod command;
#[cfg(test)]
mod conformance;
pub mod copy;
mod decision;
mod ending;
mod engine;
pub mod error;
pub mod health;
pub mod heartbeats;
pub mod inspection;
pub mod peers;
mod postgres;
mod queue;
pub mod read_gap;
mod reader;
pub mod recorded_login;
pub mod records;
pub mod replica;
pub mod sequence_waits;
#[cfg(test)]
mod simulation;
mod sql;
mod sqlite;
pub mod user_change;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

pub use self::blocking::block_on;
pub use self::error::StoreError;
pub use self::health::Health;
pub use self::sqlite::Opening;

use self::after_restore::Legacy;
use self::command::{Actor, Command, ImportEffect, ImportedUser, KeyRecord};
use self::engine::Engine;
use self::health::COMMAND_TIMEOUT;
use self::peers::Peers;
use self::records::{
    Acknowledgement, AuditFilter, AuditRow, Changes, ListedUser, LoginRecord, MintedToken, RecordedKey,
    Revocation, RevocationFilter, StoredTime, TokenFilter, UserFilter, UserRecord,
};
use self::sql::connection::Connection;
use self::sql::transaction::Apply;
use self::sql::{about, audit, heartbeat, keys, logins, revocations, time, tokens, user_changes, users};
use self::sqlite::Sqlite;
use crate::auth::gate::Gate;
use crate::auth::identity::Identity;
use crate::auth::keys::Fingerprint;
use crate::auth::revocation::{RevocationSnapshot, Subject};
use crate::auth::source::Source;
use crate::auth::token::TokenId;
use crate::clock::Clock;
use crate::config::StorePlace;
use crate::metrics::Metrics;

/// A command of this store's: the set is closed, since only the store's engines can carry one out.
pub trait Executable: Command + Apply {}

impl<C: Command + Apply> Executable for C {}

/// The store, as all its users share it. The last one to be dropped waits until what was accepted is durable.
#[derive(Clone)]
pub struct Store {
    engine: Arc<Engine>,
    clock: Clock,
    timeout: Duration,
    peers: Peers,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl Store {
    /// Creates a store with a cutoff on everybody: nothing minted before it is trusted.
    pub fn create(place: &StorePlace, clock: Clock, metrics: Arc<Metrics>) -> Result<Self, StoreError> {
        Ok(Self::of(Engine::create(place, clock.clone(), metrics)?, clock))
    }

    /// Opens the store and begins to check that it is one.
    pub fn open(
        place: &StorePlace,
        opening: Opening,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StoreError> {
        Ok(Self::of(Engine::open(place, opening, clock.clone(), metrics)?, clock))
    }

    fn of(engine: Engine, clock: Clock) -> Self {
        Self { engine: Arc::new(engine), clock, timeout: COMMAND_TIMEOUT, peers: Peers::default() }
    }

    /// The same store, for a caller that waits this long for each of its commands.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// How its writer is doing. Waits for nothing.
    pub fn health(&self) -> Health {
        self.engine.health()
    }

    /// What the store at `path`, of whatever schema, and what was noted beside it hand on to a store that takes its place. Blocks.
    pub fn legacy(path: &Path) -> Legacy {
        Sqlite::legacy(path)
    }

    /// Notes beside `path` that these keys are revoked, for every store that is put there. Blocks.
    pub fn note_revoked_keys(path: &Path, keys: &[KeyRecord]) {
        Sqlite::note_revoked_keys(path, keys);
    }

    /// Carries a command out. The outcome of a change arrives once the change is durable.
    ///
    /// # Errors
    ///
    /// On an error nothing was acknowledged: the change may be durable all the same if the disk failed while it
    /// was being committed, so a command may be given again. After [`TimedOut`](StoreError::TimedOut) it is still in
    /// the queue: nobody hears of its outcome, so a token that it mints is handed out to nobody.
    pub async fn execute<C: Executable>(&self, command: C, actor: Actor) -> Result<C::Outcome, StoreError> {
        self.in_time(self.engine.execute(command, actor)).await
    }

    /// The same, for what a client is told of as done: the other process of an upgrade, if there is one, has applied it too.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute). After [`NotEverywhere`](StoreError::NotEverywhere) the change is durable.
    pub async fn execute_everywhere<C: Executable>(
        &self,
        command: C,
        actor: Actor,
    ) -> Result<C::Outcome, StoreError> {
        let outcome = self.execute(command, actor).await?;
        self.peers.applied().await?;
        Ok(outcome)
    }

    /// The other process of an upgrade.
    pub const fn peers(&self) -> &Peers {
        &self.peers
    }

    /// The user of that name, byte for byte.
    pub async fn user(&self, name: &str) -> Result<Option<UserRecord>, StoreError> {
        let name = name.to_owned();
        self.in_time(self.read(move |connection| users::find(connection, &name))).await
    }

    /// What a login of that name from there needs to know. Which name it is, and whether a user bears it, makes no difference to the
    /// statements that are run.
    pub async fn login_record(&self, name: &str, source: Option<Source>) -> Result<LoginRecord, StoreError> {
        let name = name.to_owned();
        self.in_time(self.read(move |connection| logins::record(connection, &name, source))).await
    }

    /// Reads as of one moment.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.engine.read(read).await
    }

    async fn in_time<T>(&self, answer: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        timeout(self.timeout, answer).await.unwrap_or(Err(StoreError::TimedOut))
    }

    /// At most `limit` users after the one of that name, by name.
    pub async fn users(
        &self,
        filter: UserFilter,
        after: &str,
        limit: usize,
    ) -> Result<Vec<ListedUser>, StoreError> {
        let (after, limit, now) = (after.to_owned(), limit.min(MAX_ROWS), self.clock.now());
        self.read(move |connection| users::page(connection, &filter, &after, limit, now)).await
    }

    /// The user of that name, byte for byte, as lists show it.
    pub async fn listed_user(&self, name: &str) -> Result<Option<ListedUser>, StoreError> {
        let (name, now) = (name.to_owned(), self.clock.now());
        self.read(move |connection| users::find_listed(connection, &name, now)).await
    }

    /// At most `limit` tokens that were minted here for the user of that name before that sequence, the newest first, as far as
    /// the audit trail goes back. The user may be gone.
    pub async fn tokens(
        &self,
        user: &str,
        filter: TokenFilter,
        before: u64,
        limit: usize,
    ) -> Result<Vec<MintedToken>, StoreError> {
        let (user, limit, now) = (user.to_owned(), limit.min(MAX_ROWS), self.clock.now());
        self.read(move |connection| tokens::page(connection, &user, filter, before, limit, now)).await
    }

    /// The user of a token that was minted here, as far as the audit trail goes back. The user may be gone.
    pub async fn token_user(&self, id: TokenId) -> Result<Option<String>, StoreError> {
        self.read(move |connection| Ok(tokens::owner(connection, id)?.map(|owner| owner.user.into()))).await
    }

    /// What [`ImportUsers`](command::ImportUsers) would do with each of the users, by themselves.
    pub async fn import_effects(
        &self,
        users: Vec<ImportedUser>,
        update: bool,
    ) -> Result<Vec<ImportEffect>, StoreError> {
        self.read(move |connection| users::import_effects(connection, &users, update)).await
    }

    /// Has the store a user of that organization?
    pub async fn organization_exists(&self, name: &str) -> Result<bool, StoreError> {
        let name = name.to_owned();
        self.read(move |connection| users::organization_exists(connection, &name)).await
    }

    /// Has the store a user with that e-mail address, folded?
    pub async fn email_exists(&self, folded: &str) -> Result<bool, StoreError> {
        let folded = folded.to_owned();
        self.read(move |connection| users::email_exists(connection, &folded)).await
    }

    /// At most `limit` revocations in force that came before that sequence, the newest first. The cutoff that a new user begins
    /// with is not one.
    pub async fn revocations(
        &self,
        filter: RevocationFilter,
        before: u64,
        limit: usize,
    ) -> Result<Vec<Revocation>, StoreError> {
        let limit = limit.min(MAX_ROWS);
        self.read(move |connection| revocations::page(connection, &filter, before, limit)).await
    }

    /// At most `limit` rows of the audit trail behind the one of that id, oldest first.
    pub async fn audit(
        &self,
        filter: AuditFilter,
        after: i64,
        limit: usize,
    ) -> Result<Vec<AuditRow>, StoreError> {
        let limit = limit.min(MAX_ROWS);
        self.read(move |connection| audit::page(connection, &filter, after, limit)).await
    }

    /// Copies the store, as of one moment, to a file that must not be there yet and that only its owner may read. Others go on
    /// reading and writing meanwhile.
    pub async fn back_up(&self, path: &Path) -> Result<(), StoreError> {
        self.engine.back_up(path).await
    }

    /// Checks that a file which nobody uses is a whole store, of this program's schema or an older one. Blocks.
    pub fn verify(path: &Path) -> Result<(), StoreError> {
        Sqlite::verify(path)
    }

    /// Does the file say that it is a store of this program, whole or not? Blocks.
    pub fn is_store_file(path: &Path) -> Result<bool, StoreError> {
        Sqlite::is_ours(path)
    }

    /// Every key that was ever recorded.
    pub async fn keys(&self) -> Result<Vec<RecordedKey>, StoreError> {
        self.read(keys::all).await
    }

    /// What the store keeps of time.
    pub async fn time(&self) -> Result<StoredTime, StoreError> {
        self.read(time::read).await
    }

    /// How far each gateway has come that has not said that it stopped.
    pub async fn acknowledgements(&self) -> Result<Vec<Acknowledgement>, StoreError> {
        let (kind, clock) = (self.engine.kind(), self.clock.clone());
        let read = move |connection: &Connection<'_>| {
            heartbeat::acknowledgements(connection, kind.time(connection, &clock)?)
        };
        self.read(read).await
    }

    /// The keys that every running gateway has; `None` if none has said which it has.
    pub async fn shared_keys(&self) -> Result<Option<HashSet<Fingerprint>>, StoreError> {
        let (kind, clock) = (self.engine.kind(), self.clock.clone());
        self.read(move |connection| heartbeat::shared_keys(connection, kind.time(connection, &clock)?)).await
    }

    /// What changed after the transaction `after`, at most about `limit` rows of each kind: a piece that reaches up to
    /// [`Changes::through`].
    pub async fn changes(&self, after: u64, limit: usize) -> Result<Changes, StoreError> {
        self.engine.changes(after, limit.min(MAX_ROWS)).await
    }

    /// How often it is to be asked for changes where that is configured: less often where [`changed`](Self::changed) tells of them.
    pub fn poll_interval(&self, configured: Duration) -> Duration {
        self.engine.poll_interval(configured)
    }

    /// By how many seconds the wall clock here is ahead of the database's, as of the last time that changes were read.
    pub fn clock_skew(&self) -> i64 {
        self.engine.clock_skew()
    }

    /// What an operator should know of the database, and is no reason not to start.
    pub async fn warnings(&self) -> Result<Vec<String>, StoreError> {
        self.engine.warnings().await
    }

    /// May gateways of other machines share it? One that cannot write its heartbeats ceases to admit anything then.
    pub fn is_shared(&self) -> bool {
        !self.engine.kind().is_file()
    }

    /// Waits until it is known that [`changes`](Self::changes) has something new; for ever where nobody tells.
    pub async fn changed(&self) {
        self.engine.changed().await;
    }

    /// What concerns one token of that identity: all that the gate needs to decide on it.
    pub async fn about(&self, identity: &Identity, token: TokenId) -> Result<Changes, StoreError> {
        let identity = identity.clone();
        self.read(move |connection| about::read(connection, &identity, token)).await
    }

    /// Whose tokens the changes on the platform end that were begun and nobody has ended.
    pub async fn open_changes(&self) -> Result<Vec<Subject>, StoreError> {
        self.read(user_changes::open).await
    }

    /// Waits until it is known whether the store is whole, which is found out while it is loaded. No command is carried out
    /// before.
    pub async fn checked(&self) -> Result<(), StoreError> {
        self.engine.checked().await
    }

    /// Reads all that the gate needs, as of one moment.
    pub async fn load(&self) -> Result<RevocationSnapshot, StoreError> {
        let mut snapshot = RevocationSnapshot::default();
        self.load_into(|piece| piece.apply(&mut snapshot)).await?;
        self.checked().await?;
        // Before the first heartbeat has said it: no token is to be signed by a key that another gateway does not have.
        snapshot.set_shared_keys(self.shared_keys().await?);
        Ok(snapshot)
    }

    /// Unites the gate's memory with a database that has lost commits ([`Forked`](StoreError::Forked)): what the memory knows of
    /// revocations is written back, and what the database has is taken in. Says at which sequence the database goes on: a gateway that has
    /// applied that has done the same.
    pub async fn unite(&self, gate: &Gate) -> Result<u64, StoreError> {
        let number = self.engine.unite(gate.snapshot()).await?;
        self.load_into(|piece| gate.apply(|snapshot| piece.apply(snapshot))).await?;
        Ok(number)
    }

    /// Reads all that the gate needs, as of one moment, in pieces.
    async fn load_into(&self, mut take: impl FnMut(Changes)) -> Result<(), StoreError> {
        let mut pieces: Receiver<Result<Changes, StoreError>> = self.engine.snapshot();
        let mut is_complete = false;
        while let Some(piece) = pieces.recv().await {
            let piece = piece?;
            // Only the last piece has a sequence.
            is_complete = piece.sequence > 0;
            take(piece);
        }
        if is_complete { Ok(()) } else { Err(StoreError::Stopped) }
    }
}

/// More rows than a store holds. Databases count in 63 bits, and the feed asks for one row more.
const MAX_ROWS: usize = i32::MAX as usize;
