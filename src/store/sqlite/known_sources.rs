//! The sources that each user's tokens were minted from.

use rusqlite::Connection;

use super::transaction::Transaction;
use crate::auth::source::Source;
use crate::store::decision::{SOURCE_REFRESH, SOURCES_PER_USER};
use crate::store::error::StoreError;

/// Remembers where a token of that user was minted from.
pub(super) fn remember(transaction: &Transaction<'_>, user: &str, source: Source) -> Result<(), StoreError> {
    let (source, lived) = (source.to_string(), transaction.lived);
    // Most mints find a row that is young enough, and write nothing.
    let written = transaction
        .prepare_cached(
            "INSERT INTO known_sources (user, source, lived) VALUES (?1, ?2, ?3)
             ON CONFLICT (user, source) DO UPDATE SET lived = excluded.lived WHERE lived < ?4",
        )?
        .execute((user, &source, lived.0, lived.minus(SOURCE_REFRESH).0))?;
    if written > 0 {
        // The new one is none of those that go, though others may be of the same second.
        transaction
            .prepare_cached(
                "DELETE FROM known_sources WHERE user = ?1 AND source IN (
                   SELECT source FROM known_sources WHERE user = ?1 AND source <> ?2
                   ORDER BY lived DESC LIMIT -1 OFFSET ?3)",
            )?
            .execute((user, &source, SOURCES_PER_USER - 1))?;
    }
    Ok(())
}

/// Was a token of that user minted from there?
pub(super) fn is_known(
    connection: &Connection,
    user: &str,
    source: Option<Source>,
) -> Result<bool, StoreError> {
    let mut statement = connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM known_sources WHERE user = ?1 AND source = ?2)")?;
    // NULL, where there is none, is equal to nothing.
    let source = source.map(|source| source.to_string());
    Ok(statement.query_row((user, source), |row| row.get(0))?)
}

/// Forgets all of a user's.
pub(super) fn forget(connection: &Connection, user: &str) -> Result<(), StoreError> {
    connection.prepare_cached("DELETE FROM known_sources WHERE user = ?1")?.execute([user])?;
    Ok(())
}

/// Deletes those that were last seen then or before, at most so many; says how many it were.
pub(super) fn purge(connection: &Connection, last_seen: u64, rows: usize) -> Result<usize, StoreError> {
    let mut old = connection.prepare_cached(
        "DELETE FROM known_sources WHERE (user, source) IN (
           SELECT user, source FROM known_sources WHERE lived <= ?1 ORDER BY lived LIMIT ?2)",
    )?;
    Ok(old.execute((last_seen, rows))?)
}
