//! The sequence: one row, from which the order of everything comes.

use rusqlite::Connection;

use crate::store::after_restore::resume_after;
use crate::store::error::StoreError;

/// The sequence of the last transaction.
pub(super) fn current(connection: &Connection) -> Result<u64, StoreError> {
    Ok(current_and_requested(connection)?.0)
}

/// That sequence, and the one up to which acknowledgements are requested.
pub(super) fn current_and_requested(connection: &Connection) -> Result<(u64, u64), StoreError> {
    let mut statement = connection.prepare_cached("SELECT number, wanted FROM sequence")?;
    Ok(statement.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?)
}

/// Takes the next sequence for the running transaction.
pub(super) fn next(connection: &Connection) -> Result<u64, StoreError> {
    // Two statements: for RETURNING, SQLite builds a table and keeps what it would need to undo the statement alone.
    connection.prepare_cached("UPDATE sequence SET number = number + 1 WHERE id = 1")?.execute([])?;
    current(connection)
}

/// Goes on behind everything that any store in this place may have given out, of which `known` is the last that was noted.
pub(super) fn skip(connection: &Connection, known: u64) -> Result<(), StoreError> {
    let resumed = resume_after(current(connection)?, known);
    connection.prepare_cached("UPDATE sequence SET number = ?1")?.execute([resumed])?;
    Ok(())
}

/// Requests acknowledgements up to the current sequence.
pub(super) fn request_acknowledgements(connection: &Connection) -> Result<(), StoreError> {
    connection.prepare_cached("UPDATE sequence SET wanted = number")?.execute([])?;
    Ok(())
}
