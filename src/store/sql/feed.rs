//! The change feed: what changed after a sequence, in order, and everything at once for a start.

use super::connection::Connection;
use super::revocations::read_token;
use super::value::Row;
use super::{cutoffs, keys, sequence, time};
use crate::auth::revocation::{Account, Cutoff, Subject};
use crate::auth::token_set::RevokedToken;
use crate::store::error::StoreError;
use crate::store::records::Changes;

/// At most about `limit` rows of what changed after the transaction `after`, as of one moment.
pub(in crate::store) fn changes_after(
    connection: &Connection<'_>,
    after: u64,
    limit: usize,
) -> Result<Changes, StoreError> {
    let (sequence, requested) = sequence::current_and_requested(connection)?;
    if sequence < after {
        // An older store was put in the place of this one: what it gives out next was given out before.
        return Err(StoreError::Replaced);
    }
    let time = time::read(connection)?;
    let mut changes = Changes { time, through: sequence, sequence, requested, ..Changes::default() };
    if sequence == after {
        return Ok(changes);
    }
    let mut cut = Cut { after, limit, through: sequence };
    let (cutoffs, tokens, users) =
        (cut.cutoffs(connection)?, cut.tokens(connection)?, cut.users(connection)?);
    let keys = keys::after(connection, after)?;
    // Cut where the first of the lists ends: all of them are complete up to there.
    changes.through = cut.through;
    changes.tokens = upto(cut.through, tokens).collect();
    changes.users = upto(cut.through, users).collect();
    changes.cutoffs = upto(cut.through, cutoffs).collect();
    changes.keys = upto(cut.through, keys).collect();
    Ok(changes)
}

/// Asks what [`changes_after`] asks where anything has changed, and does nothing with the answers.
pub(in crate::store) fn foresee(connection: &Connection<'_>, after: u64, limit: usize) {
    drop(sequence::current_and_requested(connection));
    drop(time::read(connection));
    let mut cut = Cut { after, limit, through: after };
    drop((cut.cutoffs(connection), cut.tokens(connection), cut.users(connection)));
    drop(keys::after(connection, after));
}

/// Rows of one table, each with its sequence.
type Rows<T> = Vec<(T, u64)>;

/// Where a piece of the feed begins, how much it may hold and how far it reaches.
struct Cut {
    after: u64,
    limit: usize,
    through: u64,
}

impl Cut {
    fn cutoffs(&mut self, connection: &Connection<'_>) -> Result<Rows<(Subject, Cutoff)>, StoreError> {
        self.rows(
            connection,
            "SELECT kind, name, number, second, lived, closed, reason IS NOT NULL FROM marks WHERE number > ?1 ORDER BY number LIMIT ?2",
            |row| Ok((cutoffs::read(row)?, row.get(2)?)),
        )
    }

    fn tokens(&mut self, connection: &Connection<'_>) -> Result<Rows<RevokedToken>, StoreError> {
        self.rows(
            connection,
            "SELECT token_id, keep, dated, lived, number FROM revoked_tokens WHERE number > ?1 ORDER BY number LIMIT ?2",
            |row| Ok((read_token(row)?, row.get(4)?)),
        )
    }

    fn users(&mut self, connection: &Connection<'_>) -> Result<Rows<(Box<str>, Account)>, StoreError> {
        self.rows(
            connection,
            "SELECT name, disabled, number FROM users WHERE number > ?1 ORDER BY number LIMIT ?2",
            |row| Ok((read_account(row)?, row.get(2)?)),
        )
    }

    /// The first rows of one table, each with its sequence. If there are more, the piece ends before the first that is
    /// left out.
    fn rows<T>(
        &mut self,
        connection: &Connection<'_>,
        query: &str,
        read: impl Fn(&Row<'_>) -> Result<(T, u64), StoreError>,
    ) -> Result<Rows<T>, StoreError> {
        let mut rows = connection.all(query, (self.after, self.limit + 1), read)?;
        if rows.len() > self.limit
            && let Some((_, next)) = rows.pop()
        {
            self.through = self.through.min(next.saturating_sub(1));
        }
        Ok(rows)
    }
}

fn upto<T>(through: u64, rows: Rows<T>) -> impl Iterator<Item = T> {
    rows.into_iter().filter(move |(_, sequence)| *sequence <= through).map(|(row, _)| row)
}

/// Everything as of one moment, in pieces that are handed to `take`; only the last says how far they reach.
pub(in crate::store) fn snapshot(
    connection: &Connection<'_>,
    mut take: impl FnMut(Changes) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    // A whole table is read in its own order, which is far quicker than in another.
    in_portions(
        connection,
        "SELECT kind, name, number, second, lived, closed, reason IS NOT NULL FROM marks",
        cutoffs::read,
        |cutoffs| take(Changes { cutoffs, ..Changes::default() }),
    )?;
    in_portions(
        connection,
        "SELECT token_id, keep, dated, lived FROM revoked_tokens",
        read_token,
        |tokens| take(Changes { tokens, ..Changes::default() }),
    )?;
    // After the cutoffs, as [`Changes::apply`] has them.
    in_portions(connection, "SELECT name, disabled FROM users", read_account, |users| {
        take(Changes { users, ..Changes::default() })
    })?;
    let (sequence, requested) = sequence::current_and_requested(connection)?;
    take(Changes {
        keys: keys::all(connection)?,
        time: time::read(connection)?,
        through: sequence,
        sequence,
        requested,
        ..Changes::default()
    })
}

fn in_portions<T>(
    connection: &Connection<'_>,
    query: &str,
    read: impl Fn(&Row<'_>) -> Result<T, StoreError>,
    mut take: impl FnMut(Vec<T>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut portion = Vec::with_capacity(PORTION);
    connection.each(query, (), |row| {
        portion.push(read(row)?);
        if portion.len() == PORTION {
            take(std::mem::replace(&mut portion, Vec::with_capacity(PORTION)))?;
        }
        Ok(())
    })?;
    take(portion)
}

fn read_account(row: &Row<'_>) -> Result<(Box<str>, Account), StoreError> {
    let account = if row.get(1)? { Account::Disabled } else { Account::Enabled };
    Ok((row.get(0)?, account))
}

/// Rows of one table that a start applies at once.
const PORTION: usize = 1 << 16;
