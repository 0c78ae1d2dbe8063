//! The sequence: one row, from which the order of everything comes.

use super::connection::Connection;
use crate::store::error::StoreError;

/// The sequence of the last transaction.
pub(in crate::store) fn current(connection: &Connection<'_>) -> Result<u64, StoreError> {
    Ok(current_and_requested(connection)?.0)
}

/// That sequence, and the one up to which acknowledgements are requested.
pub(in crate::store) fn current_and_requested(connection: &Connection<'_>) -> Result<(u64, u64), StoreError> {
    connection.one("SELECT number, wanted FROM sequence", (), |row| Ok((row.get(0)?, row.get(1)?)))
}

/// Notes which sequence was taken last, at the end of a transaction.
pub(in crate::store) fn set(connection: &Connection<'_>, sequence: u64) -> Result<(), StoreError> {
    connection.write("UPDATE sequence SET number = ?1", [sequence])
}

/// Writes it again as it is, so that the transaction is one that writes.
pub(in crate::store) fn touch(connection: &Connection<'_>) -> Result<(), StoreError> {
    connection.write("UPDATE sequence SET number = number", ())
}

/// Requests acknowledgements up to that sequence.
pub(super) fn request_acknowledgements(connection: &Connection<'_>, sequence: u64) -> Result<(), StoreError> {
    connection.write("UPDATE sequence SET wanted = ?1", [sequence])
}
