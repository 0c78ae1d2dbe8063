//! Whether the database still has what it had committed: a standby that lagged behind and was promoted, or a backup in its place, has
//! not, and gives out the same sequences again.
//!
//! Each transaction leaves its last sequence with a random nonce. A gateway remembers the latest pair that it has seen or written, and looks for it
//! before it believes anything else.

use parking_lot::Mutex;

use crate::store::error::StoreError;
use crate::store::sql::connection::Connection;
use crate::store::sql::sequence;

/// The last sequence of a transaction, and its nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Commit {
    pub(super) sequence: u64,
    pub(super) nonce: i64,
}

/// What this process knows of the database's past. Its locks are never held across I/O.
#[derive(Debug, Default)]
pub(super) struct History {
    latest: Mutex<Option<Commit>>,
    /// What was found missing, from when on nothing else is believed.
    fork: Mutex<Option<StoreError>>,
}

impl History {
    /// What must be in every state of the database that is read from now on.
    pub(super) fn latest(&self) -> Option<Commit> {
        *self.latest.lock()
    }

    /// Remembers a commit, if none that came later is remembered.
    pub(super) fn remember(&self, commit: Commit) {
        let mut latest = self.latest.lock();
        if latest.is_none_or(|latest| latest.sequence < commit.sequence) {
            *latest = Some(commit);
        }
    }

    /// Remembers the latest commit of a snapshot.
    pub(super) fn read(&self, connection: &Connection<'_>) -> Result<(), StoreError> {
        let sequence = sequence::current(connection)?;
        let nonce = nonce_at(connection, sequence)?;
        nonce.into_iter().for_each(|nonce| self.remember(Commit { sequence, nonce }));
        Ok(())
    }

    /// Is what was known before the snapshot there, and has no gateway missed anything?
    ///
    /// # Errors
    ///
    /// Something is missing that has not been forgotten for its age, or once was.
    pub(super) fn check(&self, connection: &Connection<'_>, known: Option<Commit>) -> Result<(), StoreError> {
        if let Some(fork) = self.fork.lock().clone() {
            return Err(fork);
        }
        let checked = check(connection, known);
        if let Err(fork @ StoreError::Forked { .. }) = &checked {
            self.fork.lock().get_or_insert(fork.clone());
        }
        checked
    }
}

/// What is asked to find that out.
pub(super) fn check(connection: &Connection<'_>, known: Option<Commit>) -> Result<(), StoreError> {
    let found = known.map(|commit| nonce_at(connection, commit.sequence)).transpose()?.flatten();
    let missed = connection.find("SELECT known FROM forks LIMIT 1", (), |row| row.get(0))?;
    let current = sequence::current(connection)?;
    if let Some(known) = missed {
        return Err(StoreError::Forked { found: current, known });
    }
    let Some(Commit { sequence, nonce }) = known else { return Ok(()) };
    let lost = StoreError::Forked { found: current, known: sequence };
    match found {
        Some(found) if found == nonce && current >= sequence => Ok(()),
        Some(_) => Err(lost),
        None => {
            let oldest: Option<u64> =
                connection.one("SELECT min(number) FROM commits", (), |row| row.get(0))?;
            let is_forgotten = current >= sequence && oldest.is_some_and(|oldest| sequence < oldest);
            if is_forgotten { Ok(()) } else { Err(lost) }
        }
    }
}

/// Notes for all others, who may not have read what is lost, that something is.
pub(super) fn tell(connection: &Connection<'_>, known: Commit) -> Result<(), StoreError> {
    connection.write("INSERT INTO forks (known) VALUES (?1) ON CONFLICT DO NOTHING", [known.sequence])
}

/// Nothing that was lost counts any more: no token of before does.
pub(super) fn begin_anew(connection: &Connection<'_>) -> Result<(), StoreError> {
    connection.write("DELETE FROM forks", ())
}

fn nonce_at(connection: &Connection<'_>, sequence: u64) -> Result<Option<i64>, StoreError> {
    connection.find("SELECT nonce FROM commits WHERE number = ?1", [sequence], |row| row.get(0))
}

/// Leaves the running transaction's last sequence.
pub(super) fn leave(connection: &Connection<'_>, commit: Commit) -> Result<(), StoreError> {
    sequence::set(connection, commit.sequence)?;
    connection.write("INSERT INTO commits (number, nonce) VALUES (?1, ?2)", (commit.sequence, commit.nonce))
}

/// Forgets those that no gateway remembers any more: a gateway that has not looked for so many commits knows of none.
pub(super) fn forget(connection: &Connection<'_>) -> Result<(), StoreError> {
    connection.write(
        "DELETE FROM commits WHERE number < (SELECT number FROM commits ORDER BY number DESC OFFSET ?1 LIMIT 1)",
        [KEPT],
    )
}

const KEPT: i64 = 100_000;
