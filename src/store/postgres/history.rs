//! Whether the database still has what it had committed: a standby that lagged behind and was promoted, or a backup in its place, has
//! not, and gives out the same sequences again. That is a *fork*.
//!
//! Each transaction leaves its last sequence with a random nonce. A gateway remembers the latest pair that it has seen or written, and looks for it
//! before it believes anything else.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::store::beside::latest_commit::Commit;
use crate::store::error::StoreError;
use crate::store::sql::connection::Connection;
use crate::store::sql::sequence;

/// What this process knows of the database's past. Its lock is never held across I/O.
#[derive(Debug, Default)]
pub(super) struct History(Mutex<Past>);

#[derive(Debug, Default)]
struct Past {
    /// Commits that were seen or made, the latest one last, a tenth of a second apart.
    seen: VecDeque<(Instant, Commit)>,
    /// The newest fork of which all that the database has is known here; none before anything was read.
    united: Option<u64>,
    /// What was found missing, from when on nothing else is believed.
    fork: Option<StoreError>,
}

/// What must be in every state of the database that is read from now on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known {
    pub(super) latest: Option<Commit>,
    pub(super) united: Option<u64>,
}

/// Where somebody found that commits were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fork {
    /// The sequence at which the database goes on, behind all that was lost.
    pub(super) number: u64,
    /// Up to this sequence nothing was lost.
    pub(super) parted: u64,
    /// Up to this sequence what was lost is written back.
    pub(super) known: u64,
}

impl History {
    /// What must be there from now on.
    pub(super) fn known(&self) -> Known {
        let past = self.0.lock();
        Known { latest: past.seen.back().map(|(_, commit)| *commit), united: past.united }
    }

    /// Commits that were seen or made, the latest one first.
    pub(super) fn seen(&self) -> Vec<Commit> {
        self.0.lock().seen.iter().rev().map(|(_, commit)| *commit).collect()
    }

    /// Why nothing is believed.
    pub(super) fn fork(&self) -> Option<StoreError> {
        self.0.lock().fork.clone()
    }

    /// Remembers a commit, if none that came later is remembered.
    pub(super) fn remember(&self, commit: Commit) {
        let mut past = self.0.lock();
        let seen = &mut past.seen;
        if seen.back().is_some_and(|(_, latest)| latest.sequence >= commit.sequence) {
            return;
        }
        let now = Instant::now();
        let mut before = seen.iter().rev().skip(1);
        if before.next().is_some_and(|(at, _)| now.duration_since(*at) < APART) {
            seen.pop_back();
        }
        seen.push_back((now, commit));
        if seen.len() > SEEN {
            seen.pop_front();
        }
    }

    /// Remembers the latest commit of a snapshot.
    pub(super) fn read(&self, connection: &Connection<'_>) -> Result<(), StoreError> {
        latest(connection)?.into_iter().for_each(|commit| self.remember(commit));
        let number = fork_number(connection)?;
        self.0.lock().united.get_or_insert(number);
        Ok(())
    }

    /// Is what was known before the snapshot there, and has no gateway missed anything?
    ///
    /// # Errors
    ///
    /// Something is missing that has not been forgotten for its age, or once was.
    pub(super) fn check(&self, connection: &Connection<'_>, known: Known) -> Result<(), StoreError> {
        if let Some(fork) = self.fork() {
            return Err(fork);
        }
        let checked = check(connection, known);
        if let Err(fork @ StoreError::Forked { .. }) = &checked {
            let mut past = self.0.lock();
            // Or what is looked for is from before a fork that has been mended meanwhile.
            if past.united == known.united {
                past.fork.get_or_insert(fork.clone());
            }
        }
        checked
    }

    /// Learns the past of a database of which nothing is known yet, or nothing is believed.
    pub(super) fn learn(&self, connection: &Connection<'_>) -> Result<(), StoreError> {
        let past = self.known();
        if past.united.is_none() {
            self.begin(fork_number(connection)?, commits(connection)?);
        }
        Ok(())
    }

    /// All that was known here is in the database, up to that fork, and so are these commits, the latest first.
    pub(super) fn begin(&self, number: u64, commits: Vec<Commit>) {
        let now = Instant::now();
        let seen = commits.into_iter().rev().map(|commit| (now, commit)).collect();
        *self.0.lock() = Past { seen, united: Some(number), fork: None };
    }
}

/// Asks what [`History::read`] asks, and does nothing with the answers.
pub(super) fn foresee(connection: &Connection<'_>) {
    drop((latest(connection), newest_fork(connection)));
}

/// The latest commit.
pub(super) fn latest(connection: &Connection<'_>) -> Result<Option<Commit>, StoreError> {
    let asked = "SELECT number, nonce FROM commits ORDER BY number DESC LIMIT 1";
    connection.find(asked, (), |row| Ok(Commit { sequence: row.get(0)?, nonce: row.get(1)? }))
}

/// What is asked to find that out.
pub(super) fn check(connection: &Connection<'_>, known: Known) -> Result<(), StoreError> {
    let there = known.latest.map(|commit| nonce_at(connection, commit.sequence)).transpose()?.flatten();
    let fork = newest_fork(connection)?;
    let found = sequence::current(connection)?;
    if let (Some(fork), Some(united)) = (fork, known.united)
        && fork.number > united
    {
        return Err(StoreError::Forked { found, known: fork.parted });
    }
    let Some(Commit { sequence, nonce }) = known.latest else { return Ok(()) };
    let lost = StoreError::Forked { found, known: sequence };
    match there {
        Some(there) if there == nonce && found >= sequence => Ok(()),
        Some(_) => Err(lost),
        None => {
            let oldest: Option<u64> =
                connection.one("SELECT min(number) FROM commits", (), |row| row.get(0))?;
            let is_forgotten = found >= sequence && oldest.is_some_and(|oldest| sequence < oldest);
            if is_forgotten { Ok(()) } else { Err(lost) }
        }
    }
}

/// The newest fork that somebody has found.
pub(super) fn newest_fork(connection: &Connection<'_>) -> Result<Option<Fork>, StoreError> {
    connection.find("SELECT number, parted, known FROM forks ORDER BY number DESC LIMIT 1", (), |row| {
        Ok(Fork { number: row.get(0)?, parted: row.get(1)?, known: row.get(2)? })
    })
}

/// At which sequence the database goes on since the newest fork; 0 if there was none.
pub(super) fn fork_number(connection: &Connection<'_>) -> Result<u64, StoreError> {
    Ok(newest_fork(connection)?.map_or(0, |fork| fork.number))
}

/// Has a gateway that knew that commit written back what was lost with it?
pub(super) fn is_mended(connection: &Connection<'_>, lost: Commit) -> Result<bool, StoreError> {
    let asked = "SELECT EXISTS (SELECT 1 FROM forks WHERE number > ?1 AND parted < ?1 AND known >= ?1)";
    connection.one(asked, [lost.sequence], |row| row.get(0))
}

/// Tells everybody that the database goes on there.
pub(super) fn note_fork(
    connection: &Connection<'_>,
    Fork { number, parted, known }: Fork,
) -> Result<(), StoreError> {
    connection.write("INSERT INTO forks (number, parted, known) VALUES (?1, ?2, ?3)", (number, parted, known))
}

/// Notes that what was lost is written back up to that sequence.
pub(super) fn note_written_back(
    connection: &Connection<'_>,
    number: u64,
    known: u64,
) -> Result<(), StoreError> {
    connection.write("UPDATE forks SET known = ?2 WHERE number = ?1 AND known < ?2", (number, known))
}

/// The latest commits, the last first, as far as this process would remember them.
pub(super) fn commits(connection: &Connection<'_>) -> Result<Vec<Commit>, StoreError> {
    let asked = "SELECT number, nonce FROM commits ORDER BY number DESC LIMIT ?1";
    connection.all(asked, [SEEN], |row| Ok(Commit { sequence: row.get(0)?, nonce: row.get(1)? }))
}

/// Does the database have that commit?
pub(super) fn has(connection: &Connection<'_>, commit: Commit) -> Result<bool, StoreError> {
    Ok(nonce_at(connection, commit.sequence)? == Some(commit.nonce))
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

/// How far commits that are remembered lie apart, but for the latest.
const APART: Duration = Duration::from_millis(100);

/// So many of them: a standby that lags further behind than these reach has no past in common with this process, as far as it knows.
const SEEN: usize = 3000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_commit_is_remembered_and_earlier_ones_apart() {
        let history = History::default();
        let commit = |sequence| Commit { sequence, nonce: 7 };
        for sequence in 1..1000 {
            history.remember(commit(sequence));
        }
        history.remember(commit(5));
        assert_eq!(history.known().latest, Some(commit(999)));
        assert_eq!(history.seen(), [commit(999), commit(1)]);
        history.0.lock().seen.iter_mut().for_each(|(at, _)| *at -= APART);
        history.remember(commit(1000));
        history.remember(commit(1001));
        history.remember(commit(1002));
        assert_eq!(history.seen(), [commit(1002), commit(1000), commit(999), commit(1)]);
        history.begin(2000, vec![commit(3000), commit(2500)]);
        assert_eq!(history.seen(), [commit(3000), commit(2500)]);
        assert_eq!(history.known().united, Some(2000));
    }
}
