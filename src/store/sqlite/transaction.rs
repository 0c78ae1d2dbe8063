//! What a command works with while its transaction runs.

use std::ops::Deref;

use rusqlite::Connection;

use super::sequence;
use crate::auth::time::{Lived, UnixTime};
use crate::store::command::{Actor, Command};
use crate::store::decision::Stamp;
use crate::store::error::StoreError;

/// A command that SQLite can carry out.
pub trait Apply: Command {
    /// Whether it waits until nothing else does.
    const IS_UPKEEP: bool = false;
    /// Whether so much is written by commands like it that the writer empties the log after each, and waits for the disk without the
    /// lock.
    const IS_BULK: bool = false;
    /// Whether keys may be revoked by it, which is noted beside the store as well.
    const REVOKES_KEYS: bool = false;

    /// Carries it out in a transaction of its own. An error leaves nothing behind.
    fn apply(self, transaction: &Transaction<'_>) -> Result<Self::Outcome, StoreError>;
}

/// The time of a transaction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Time {
    /// To stamp changes with.
    pub(super) now: UnixTime,
    /// How long the store has lived.
    pub(super) lived: Lived,
    /// To issue tokens at.
    pub(super) issue_time: UnixTime,
    /// What the wall clock says, right or wrong.
    pub(super) wall: UnixTime,
}

/// A running transaction, with its time and its actor.
pub struct Transaction<'t> {
    connection: &'t Connection,
    pub(super) actor: &'t Actor,
    pub(super) now: UnixTime,
    pub(super) lived: Lived,
    pub(super) issue_time: UnixTime,
    pub(super) wall: UnixTime,
}

impl<'t> Transaction<'t> {
    /// What `connection` has begun.
    pub(super) const fn new(connection: &'t Connection, actor: &'t Actor, time: &Time) -> Self {
        let Time { now, lived, issue_time, wall } = *time;
        Self { connection, actor, now, lived, issue_time, wall }
    }

    /// Takes the next sequence.
    pub(super) fn stamp(&self) -> Result<Stamp, StoreError> {
        Ok(Stamp { sequence: sequence::next(self.connection)?, now: self.now, lived: self.lived })
    }
}

impl Deref for Transaction<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection
    }
}
