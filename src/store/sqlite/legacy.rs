//! What is left of a store that is about to be replaced: of whatever schema, and damaged or not.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::connection::of;
use super::file::check_application;
use crate::store::after_restore::Legacy;
use crate::store::beside::{latest_commit, revoked_keys};
use crate::store::command::KeyRecord;
use crate::store::error::StoreError;
use crate::store::sql::{keys, sequence};

/// Reads what can be read, of the store and of what was noted beside it.
pub(super) fn read(path: &Path) -> Legacy {
    let mut legacy = Legacy::default();
    match latest_commit::read(path) {
        Ok(commit) => legacy.sequence = commit.sequence,
        Err(error) => legacy.fault = Some(error),
    }
    match revoked_keys::read(path) {
        Ok(keys) => legacy.revoked_keys = keys,
        Err(error) => legacy.fault = Some(error),
    }
    match read_store(path) {
        Ok((found, keys)) => {
            let known = legacy.sequence.max(found);
            legacy.sequence = known;
            legacy.revoked_keys.extend(keys);
            if found < known {
                legacy.fault = Some(StoreError::Rewound { found, known });
            }
        }
        Err(error) => legacy.fault = Some(error),
    }
    legacy
}

fn read_store(path: &Path) -> Result<(u64, Vec<KeyRecord>), StoreError> {
    if std::fs::metadata(path)?.len() == 0 {
        return Err(StoreError::Missing);
    }
    check_application(path)?;
    // One that may write takes its log away when it is closed, so that nothing is left beside the file.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.pragma_update(None, "query_only", true)?;
    let connection = of(&connection);
    Ok((sequence::current(&connection)?, keys::revoked(&connection)?))
}
