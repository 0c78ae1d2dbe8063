//! What a command works with while its transaction runs.

use std::ops::Deref;

use rusqlite::Connection;

use super::sequence;
use crate::auth::time::UnixTime;
use crate::store::command::{Actor, Command};
use crate::store::decision::Stamp;
use crate::store::error::StoreError;

/// A command that SQLite can carry out.
pub trait Apply: Command {
    /// Carries it out in a transaction of its own. An error leaves nothing behind.
    fn apply(self, transaction: &Transaction<'_>) -> Result<Self::Outcome, StoreError>;
}

/// A running transaction, with its time and its actor.
pub struct Transaction<'t> {
    connection: &'t Connection,
    pub(super) actor: &'t Actor,
    pub(super) now: UnixTime,
}

impl<'t> Transaction<'t> {
    /// What `connection` has begun.
    pub(super) const fn new(connection: &'t Connection, actor: &'t Actor, now: UnixTime) -> Self {
        Self { connection, actor, now }
    }

    /// Takes the next sequence.
    pub(super) fn stamp(&self) -> Result<Stamp, StoreError> {
        Ok(Stamp { sequence: sequence::next(self.connection)?, now: self.now })
    }
}

impl Deref for Transaction<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection
    }
}
