//! What a table comes to: its rows, and one hash of all of them in the order of the key.

use sha2::{Digest as _, Sha256};

use crate::store::error::StoreError;
use crate::store::sql::connection::Connection;
use crate::store::sql::tables::{Record, Table};

/// Of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TableDigest {
    pub(super) rows: u64,
    pub(super) hash: [u8; 32],
}

/// Reads all of a table, page by page.
pub(super) fn of_table(
    connection: &Connection<'_>,
    table: &Table,
    page: usize,
    mut read: impl FnMut(u64) -> Result<(), StoreError>,
) -> Result<TableDigest, StoreError> {
    let (mut hash, mut rows, mut last) = (Sha256::new(), 0, None::<Record>);
    loop {
        let mut records = table.page(connection, last.as_ref(), page)?;
        records.iter().for_each(|record| record.feed(|bytes| hash.update(bytes)));
        rows += records.len() as u64;
        let is_last = records.len() < page;
        read(rows)?;
        last = records.pop();
        if is_last {
            return Ok(TableDigest { rows, hash: hash.finalize().into() });
        }
    }
}
