//! What a command works with while its transaction runs.

use std::cell::Cell;
use std::collections::HashSet;
use std::ops::Deref;

use super::connection::Connection;
use crate::auth::time::{Lived, UnixTime};
use crate::auth::token::TokenId;
use crate::store::command::{Actor, Command};
use crate::store::decision::Stamp;
use crate::store::error::StoreError;

/// A command that the engines can carry out.
pub trait Apply: Command {
    /// Whether it waits until nothing else does.
    const IS_UPKEEP: bool = false;
    /// Whether so much is written by commands like it that SQLite's writer empties the log after each, and waits for the disk without the
    /// lock.
    const IS_BULK: bool = false;
    /// Whether keys may be revoked by it, which is noted beside a file as well.
    const REVOKES_KEYS: bool = false;

    /// Whether gateways are told of it though it takes no sequence.
    const IS_TOLD: bool = false;

    /// With which commands it may ask together.
    fn group(&self) -> Group {
        Group::Alone
    }

    /// Asks what it is known to ask in any case, and does nothing with the answers: an engine that is far from its database notes the questions,
    /// and asks them all at once. One that is missing here is asked when it comes up.
    fn foresee(&self, _connection: &Connection<'_>) {}

    /// Carries it out in a transaction of its own. An error leaves nothing behind.
    fn apply(self, transaction: &Transaction<'_>) -> Result<Self::Outcome, StoreError>;
}

/// Commands of which none writes what another one asks, so that all of them may ask before any has written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// With no other.
    Alone,
    /// Mints.
    Mints,
    /// Revocations, each of another token.
    Revocation(TokenId),
}

impl Group {
    /// How many of these commands may ask together, from the first on; at least one.
    pub(in crate::store) fn together(mut commands: impl Iterator<Item = Self>) -> usize {
        let more = match commands.next() {
            None | Some(Self::Alone) => 0,
            Some(Self::Mints) => commands.take_while(|group| *group == Self::Mints).count(),
            Some(Self::Revocation(first)) => {
                let mut tokens = HashSet::from([first]);
                let is_new = |group: &Self| matches!(group, Self::Revocation(token) if tokens.insert(*token));
                commands.take_while(is_new).count()
            }
        };
        1 + more
    }
}

/// The time of a transaction.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Time {
    /// To stamp changes with.
    pub(in crate::store) now: UnixTime,
    /// How long the store has lived.
    pub(in crate::store) lived: Lived,
    /// To issue tokens at.
    pub(in crate::store) issue_time: UnixTime,
    /// What the wall clock says, right or wrong.
    pub(in crate::store) wall: UnixTime,
    /// What the clock says that all gateways of the store share: the database's, or this machine's.
    pub(in crate::store) shared: UnixTime,
}

/// A running transaction, with its time and its actor.
pub struct Transaction<'t> {
    connection: Connection<'t>,
    /// The last sequence that was taken. The engine writes it before the commit.
    sequence: &'t Cell<u64>,
    pub(super) actor: &'t Actor,
    pub(super) now: UnixTime,
    pub(super) lived: Lived,
    pub(super) issue_time: UnixTime,
    pub(super) wall: UnixTime,
    pub(super) shared: UnixTime,
}

impl<'t> Transaction<'t> {
    /// What `connection` has begun.
    pub(in crate::store) const fn new(
        connection: Connection<'t>,
        sequence: &'t Cell<u64>,
        actor: &'t Actor,
        time: &Time,
    ) -> Self {
        let Time { now, lived, issue_time, wall, shared } = *time;
        Self { connection, sequence, actor, now, lived, issue_time, wall, shared }
    }

    /// Takes the next sequence.
    pub(in crate::store) fn stamp(&self) -> Stamp {
        self.sequence.update(|sequence| sequence + 1);
        Stamp { sequence: self.sequence.get(), now: self.now, lived: self.lived }
    }

    /// The sequence that was taken last, in this transaction or an earlier one.
    pub(in crate::store) const fn sequence(&self) -> u64 {
        self.sequence.get()
    }

    /// Goes on behind everything that any store in this place may have given out.
    pub(in crate::store) fn skip_to(&self, sequence: u64) {
        self.sequence.set(sequence);
    }
}

impl<'t> Deref for Transaction<'t> {
    type Target = Connection<'t>;

    fn deref(&self) -> &Connection<'t> {
        &self.connection
    }
}

#[cfg(test)]
mod tests {
    use super::Group::{Alone, Mints, Revocation};
    use super::*;

    #[test]
    fn revocations_of_different_tokens_ask_together() {
        let [one, other] = [1, 2].map(|number| Revocation(TokenId([number; 16])));
        let together = |groups: &[Group]| Group::together(groups.iter().copied());
        assert_eq!(together(&[one, other, one, other]), 2);
        assert_eq!(together(&[one, Mints, other]), 1);
        assert_eq!(together(&[Mints, Mints, one]), 2);
        assert_eq!(together(&[Alone, Alone]), 1);
    }
}
