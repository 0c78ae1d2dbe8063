//! The change feed: what changed after a sequence, in order, and everything at once for a start.
//!
//! One connection alone watches `PRAGMA data_version`, which changes with every commit of another
//! connection and costs no read of the tables; the sequence is the truth and is read every few seconds regardless.

use std::time::{Duration, Instant};

use rusqlite::{Connection, Row};
use tokio::sync::mpsc::Sender;

use super::file::DatabaseFile;
use super::revocations::read_token;
use super::{cutoffs, keys, sequence, time};
use crate::auth::revocation::Account;
use crate::store::error::StoreError;
use crate::store::records::Changes;

/// The feed's connection, and where it is.
pub(super) struct Feed {
    file: DatabaseFile,
    connection: Option<Connection>,
    last: Option<Look>,
}

/// What the last look saw.
struct Look {
    /// `PRAGMA data_version`
    version: i64,
    sequence: u64,
    requested: u64,
    at: Instant,
}

impl Feed {
    pub(super) const fn new(file: DatabaseFile) -> Self {
        Self { file, connection: None, last: None }
    }

    /// At most about `limit` rows of what changed after the transaction `after`.
    pub(super) fn changes(&mut self, after: u64, limit: usize) -> Result<Changes, StoreError> {
        let changes = self.look(after, limit);
        if changes.is_err() {
            (self.connection, self.last) = (None, None);
        }
        changes
    }

    fn look(&mut self, after: u64, limit: usize) -> Result<Changes, StoreError> {
        self.file.check_in_place()?;
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => self.connection.insert(self.file.connect_to_read()?),
        };
        let version: i64 =
            connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))?;
        if let Some(last) = &self.last
            && (last.version, last.sequence) == (version, after)
            && last.at.elapsed() < REGARDLESS
        {
            let (sequence, requested) = (last.sequence, last.requested);
            return Ok(Changes { through: after, sequence, requested, ..Changes::default() });
        }
        let at = Instant::now();
        let changes = changes_after(connection, after, limit)?;
        let Changes { sequence, requested, .. } = changes;
        self.last = Some(Look { version, sequence, requested, at });
        Ok(changes)
    }

    /// Everything as of one moment, in pieces; only the last says how far they reach.
    pub(super) fn snapshot(&mut self, pieces: &Sender<Result<Changes, StoreError>>) {
        let mut connection = match self.file.connect_to_read() {
            Ok(connection) => connection,
            Err(error) => return drop(pieces.blocking_send(Err(error))),
        };
        if let Err(error) = send_all(&mut connection, pieces) {
            let _ = pieces.blocking_send(Err(error));
        }
    }
}

fn changes_after(connection: &mut Connection, after: u64, limit: usize) -> Result<Changes, StoreError> {
    let snapshot = connection.transaction()?;
    let (sequence, requested) = sequence::current_and_requested(&snapshot)?;
    if sequence < after {
        // An older store was put in the place of this one: what it gives out next was given out before.
        return Err(StoreError::Replaced);
    }
    let time = time::read(&snapshot)?;
    let mut changes = Changes { time, through: sequence, sequence, requested, ..Changes::default() };
    if sequence == after {
        return Ok(changes);
    }
    let mut cut = Cut { after, limit, through: sequence };
    let cutoffs = cut.rows(
        &snapshot,
        "SELECT kind, name, number, second, lived, closed, reason IS NOT NULL FROM marks WHERE number > ?1 ORDER BY number LIMIT ?2",
        cutoffs::read,
    )?;
    let tokens = cut.rows(
        &snapshot,
        "SELECT token_id, keep, dated, lived, number FROM revoked_tokens WHERE number > ?1 ORDER BY number LIMIT ?2",
        read_token,
    )?;
    let users = cut.rows(
        &snapshot,
        "SELECT name, disabled, number FROM users WHERE number > ?1 ORDER BY number LIMIT ?2",
        read_account,
    )?;
    let keys = keys::after(&snapshot, after)?;
    // Cut where the first of the lists ends: all of them are complete up to there.
    changes.through = cut.through;
    changes.tokens = upto(cut.through, tokens).collect();
    changes.users = upto(cut.through, users).collect();
    changes.cutoffs = upto(cut.through, cutoffs).collect::<Option<_>>().ok_or_else(cutoffs::unknown_kind)?;
    changes.keys = upto(cut.through, keys).collect();
    Ok(changes)
}

/// Where a piece of the feed begins, how much it may hold and how far it reaches.
struct Cut {
    after: u64,
    limit: usize,
    through: u64,
}

impl Cut {
    /// The first rows of one table, each with its sequence. If there are more, the piece ends before the first that is
    /// left out.
    fn rows<T>(
        &mut self,
        connection: &Connection,
        query: &str,
        read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<(T, u64)>, StoreError> {
        let mut statement = connection.prepare_cached(query)?;
        let rows =
            statement.query_map((self.after, self.limit + 1), |row| Ok((read(row)?, row.get("number")?)))?;
        let mut rows: Vec<(T, u64)> = rows.collect::<Result<_, _>>()?;
        if rows.len() > self.limit
            && let Some((_, next)) = rows.pop()
        {
            self.through = self.through.min(next.saturating_sub(1));
        }
        Ok(rows)
    }
}

fn upto<T>(through: u64, rows: Vec<(T, u64)>) -> impl Iterator<Item = T> {
    rows.into_iter().filter(move |(_, sequence)| *sequence <= through).map(|(row, _)| row)
}

fn send_all(
    connection: &mut Connection,
    pieces: &Sender<Result<Changes, StoreError>>,
) -> Result<(), StoreError> {
    let snapshot = connection.transaction()?;
    // A whole table is read in its own order, which is far quicker than in another.
    let mut statement = snapshot
        .prepare("SELECT kind, name, number, second, lived, closed, reason IS NOT NULL FROM marks")?;
    let cutoffs = statement.query_map([], cutoffs::read)?;
    let cutoffs = cutoffs.map(|row| row?.ok_or_else(cutoffs::unknown_kind));
    send(pieces, cutoffs, |cutoffs| Changes { cutoffs, ..Changes::default() })?;
    let mut statement = snapshot.prepare("SELECT token_id, keep, dated, lived FROM revoked_tokens")?;
    let tokens = statement.query_map([], read_token)?;
    send(pieces, tokens.map(|row| Ok(row?)), |tokens| Changes { tokens, ..Changes::default() })?;
    // After the cutoffs, as [`Changes::apply`] has them.
    let mut statement = snapshot.prepare("SELECT name, disabled FROM users")?;
    let users = statement.query_map([], read_account)?;
    send(pieces, users.map(|row| Ok(row?)), |users| Changes { users, ..Changes::default() })?;
    let (sequence, requested) = sequence::current_and_requested(&snapshot)?;
    let last = Changes {
        keys: keys::all(&snapshot)?,
        time: time::read(&snapshot)?,
        through: sequence,
        sequence,
        requested,
        ..Changes::default()
    };
    // Anyone who does not take it has gone.
    let _ = pieces.blocking_send(Ok(last));
    Ok(())
}

fn send<T>(
    pieces: &Sender<Result<Changes, StoreError>>,
    rows: impl Iterator<Item = Result<T, StoreError>>,
    piece: impl Fn(Vec<T>) -> Changes,
) -> Result<(), StoreError> {
    let mut portion = Vec::with_capacity(PORTION);
    for row in rows {
        portion.push(row?);
        if portion.len() == PORTION {
            let full = std::mem::replace(&mut portion, Vec::with_capacity(PORTION));
            if pieces.blocking_send(Ok(piece(full))).is_err() {
                return Ok(());
            }
        }
    }
    let _ = pieces.blocking_send(Ok(piece(portion)));
    Ok(())
}

fn read_account(row: &Row<'_>) -> rusqlite::Result<(Box<str>, Account)> {
    let account = if row.get(1)? { Account::Disabled } else { Account::Enabled };
    Ok((row.get(0)?, account))
}

/// How often the sequence is read even if nothing seems to have changed.
const REGARDLESS: Duration = Duration::from_secs(5);

/// Rows of one table that a start applies at once.
const PORTION: usize = 1 << 16;
