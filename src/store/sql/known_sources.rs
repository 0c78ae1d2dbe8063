//! The sources that each user's tokens were minted from.

use super::connection::Connection;
use super::transaction::Transaction;
use crate::auth::source::Source;
use crate::store::decision::{SOURCE_REFRESH, SOURCES_PER_USER};
use crate::store::error::StoreError;

/// Remembers where a token of that user was minted from.
pub(in crate::store) fn remember(
    transaction: &Transaction<'_>,
    user: &str,
    source: Source,
) -> Result<(), StoreError> {
    let lived = transaction.lived;
    // Most mints find a row that is young enough, and write nothing.
    if last_seen(transaction, user, source)?.is_some_and(|seen| seen >= lived.minus(SOURCE_REFRESH).0) {
        return Ok(());
    }
    let source = source.to_string();
    transaction.write(
        "INSERT INTO known_sources (\"user\", source, lived) VALUES (?1, ?2, ?3)
         ON CONFLICT (\"user\", source) DO UPDATE SET lived = excluded.lived",
        (user, &source, lived.0),
    )?;
    // The new one is none of those that go, though others may be of the same second.
    transaction.write(
        "DELETE FROM known_sources WHERE \"user\" = ?1 AND source IN (
           SELECT source FROM known_sources WHERE \"user\" = ?1 AND source <> ?2
           ORDER BY lived DESC LIMIT ?3 OFFSET ?4)",
        (user, &source, i64::MAX, SOURCES_PER_USER - 1),
    )
}

/// When a token of that user was last minted from there, in lived time and to a day.
pub(super) fn last_seen(
    connection: &Connection<'_>,
    user: &str,
    source: Source,
) -> Result<Option<u64>, StoreError> {
    connection.find(
        "SELECT lived FROM known_sources WHERE \"user\" = ?1 AND source = ?2",
        (user, source.to_string()),
        |row| row.get(0),
    )
}

/// Was a token of that user minted from there?
pub(in crate::store) fn is_known(
    connection: &Connection<'_>,
    user: &str,
    source: Option<Source>,
) -> Result<bool, StoreError> {
    // NULL, where there is none, is equal to nothing.
    let source = source.map(|source| source.to_string());
    connection.one(
        "SELECT EXISTS (SELECT 1 FROM known_sources WHERE \"user\" = ?1 AND source = ?2)",
        (user, source),
        |row| row.get(0),
    )
}

/// Forgets all of a user's.
pub(in crate::store) fn forget(connection: &Connection<'_>, user: &str) -> Result<(), StoreError> {
    connection.write("DELETE FROM known_sources WHERE \"user\" = ?1", [user])
}

/// Deletes those that were last seen then or before, at most so many; says how many it were.
pub(in crate::store) fn purge(
    connection: &Connection<'_>,
    last_seen: u64,
    rows: usize,
) -> Result<usize, StoreError> {
    connection.change(
        "DELETE FROM known_sources WHERE (\"user\", source) IN (
           SELECT \"user\", source FROM known_sources WHERE lived <= ?1 ORDER BY lived LIMIT ?2)",
        (last_seen, rows),
    )
}
