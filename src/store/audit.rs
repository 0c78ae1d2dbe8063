//! The audit trail: every mint, every change of a user or key, and failed logins, summed.
//!
//! A row is written in the transaction that it tells of. Rows leave by age and by the room that they take.

use rusqlite::Connection;
use rusqlite::types::ToSql;

use super::sqlite::StoreError;
use crate::auth::time::UnixTime;
use crate::auth::token::TokenId;

/// One thing that happened.
#[derive(Clone, Copy, Debug)]
pub struct Event<'e> {
    /// The transaction that it happened in.
    pub number: u64,
    /// When.
    pub at: UnixTime,
    /// Who did it: a user of the API, or the account that ran the command line.
    pub actor: &'e str,
    /// What: `mint`, `user_add`, `login_failed`, …
    pub action: &'e str,
    /// To whom or what.
    pub subject: &'e str,
    /// For actions on a token.
    pub token: Option<TokenId>,
    /// From where: a client's address, a block of them, or the command line.
    pub origin: &'e str,
    /// How often; more than 1 only where events are summed.
    pub count: u32,
}

impl Event<'_> {
    /// Adds the row to the running transaction.
    pub fn write(&self, connection: &Connection) -> Result<(), StoreError> {
        let mut statement = connection.prepare_cached(
            "INSERT INTO audit (number, at, actor, action, subject, token_id, origin, count)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?;
        statement.execute((
            self.number,
            self.at.0,
            self.actor,
            self.action,
            self.subject,
            self.token.map(|id| id.to_string()),
            self.origin,
            self.count,
        ))?;
        Ok(())
    }
}

/// A row as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// As in [`Event`].
    pub number: u64,
    /// As in [`Event`].
    pub at: UnixTime,
    /// As in [`Event`].
    pub actor: String,
    /// As in [`Event`].
    pub action: String,
    /// As in [`Event`].
    pub subject: String,
    /// 32 hexadecimal digits.
    pub token_id: Option<String>,
    /// As in [`Event`].
    pub origin: String,
    /// As in [`Event`].
    pub count: u32,
}

/// Calls `each` with the rows since `since`, oldest first; with `user`, those that it did or that were
/// done to it.
pub fn list(
    connection: &Connection,
    user: Option<&str>,
    since: UnixTime,
    mut each: impl FnMut(Row),
) -> Result<(), StoreError> {
    let filter = if user.is_some() { "AND (subject = ?2 OR actor = ?2)" } else { "" };
    let mut statement = connection.prepare(&format!(
        "SELECT number, at, actor, action, subject, token_id, origin, count
         FROM audit WHERE at >= ?1 {filter} ORDER BY id"
    ))?;
    let parameters: Vec<&dyn ToSql> = match &user {
        Some(user) => vec![&since.0, user],
        None => vec![&since.0],
    };
    let rows = statement.query_map(parameters.as_slice(), |row| {
        Ok(Row {
            number: row.get(0)?,
            at: UnixTime(row.get(1)?),
            actor: row.get(2)?,
            action: row.get(3)?,
            subject: row.get(4)?,
            token_id: row.get(5)?,
            origin: row.get(6)?,
            count: row.get(7)?,
        })
    })?;
    for row in rows {
        each(row?);
    }
    Ok(())
}

/// How much of the trail is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// In seconds.
    pub age: u64,
    /// In bytes of the file.
    pub bytes: u64,
}

/// Deletes at most [`PRUNE`] of the oldest rows that are too old or too many; says how many it were. Few at
/// a time, so that no mint waits for long.
pub fn prune(connection: &Connection, keep: Retention, now: UnixTime) -> Result<usize, StoreError> {
    let too_old = now.minus(keep.age).0;
    let deleted = connection.execute(
        "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at < ?1 ORDER BY id LIMIT ?2)",
        (too_old, PRUNE),
    )?;
    if deleted > 0 {
        return Ok(deleted);
    }
    // Ids are given out in order and taken from the front, so their span is the number of rows.
    let rows: u64 =
        connection.query_row("SELECT coalesce(max(id) - min(id) + 1, 0) FROM audit", [], |row| row.get(0))?;
    let too_many = rows.saturating_sub(keep.bytes / ROW_BYTES).min(PRUNE);
    let oldest = "DELETE FROM audit WHERE id IN (SELECT id FROM audit ORDER BY id LIMIT ?1)";
    Ok(connection.execute(oldest, [too_many])?)
}

/// Rows that go in one step.
pub const PRUNE: u64 = 1000;

/// What a row takes on the disk with its two indexes, on average and rounded up.
const ROW_BYTES: u64 = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    fn event(at: u64, subject: &str) -> Event<'_> {
        Event {
            number: at,
            at: UnixTime(at),
            actor: "root",
            action: "user_add",
            subject,
            token: None,
            origin: "command line",
            count: 1,
        }
    }

    fn times(connection: &Connection, user: Option<&str>, since: u64) -> Vec<u64> {
        let mut times = Vec::new();
        list(connection, user, UnixTime(since), |row| times.push(row.at.0)).unwrap();
        times
    }

    #[test]
    fn rows_are_found_by_user_and_time() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::create(&folder.path().join("s.db"), UnixTime(0)).unwrap();
        let connection = store.connect().unwrap();
        for (at, subject) in [(10, "anna"), (20, "bert"), (30, "anna")] {
            event(at, subject).write(&connection).unwrap();
        }
        assert_eq!(times(&connection, None, 0), [10, 20, 30]);
        assert_eq!(times(&connection, None, 20), [20, 30]);
        assert_eq!(times(&connection, Some("anna"), 0), [10, 30]);
        assert_eq!(times(&connection, Some("root"), 0), [10, 20, 30]);
        assert_eq!(times(&connection, Some("anna"), 11), [30]);
    }

    #[test]
    fn rows_leave_by_age_and_by_room_a_few_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::create(&folder.path().join("s.db"), UnixTime(0)).unwrap();
        store
            .transact(|connection| (0..2500).try_for_each(|at| event(at, "anna").write(connection)))
            .unwrap();
        let connection = store.connect().unwrap();
        let keep = Retention { age: 1000, bytes: 800 * ROW_BYTES };
        let steps: Vec<usize> = (0..5).map(|_| prune(&connection, keep, UnixTime(2500)).unwrap()).collect();
        assert_eq!(steps, [1000, 500, 200, 0, 0]);
        assert_eq!(times(&connection, None, 0).first(), Some(&1700));
    }
}
