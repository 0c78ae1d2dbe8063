//! Copies of the store, made while it is in use.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::file::{APPLICATION_ID, check_application, check_schema, quick_check};
use crate::store::error::StoreError;

/// Writes the store as of one moment to a new file, which only its owner may read.
pub(super) fn write(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let text = path.to_str().ok_or_else(|| StoreError::Failed("the copy's path is not UTF-8".into()))?;
    // Made before SQLite would make it, which would let others read it.
    let file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
    // A connection that may only read may not write another file either.
    connection.pragma_update(None, "query_only", false)?;
    let copied = connection.execute("VACUUM INTO ?1", [text]);
    connection.pragma_update(None, "query_only", true)?;
    copied?;
    // SQLite does not wait for the disk here.
    Ok(file.sync_all()?)
}

/// Does the file say that it is a store of ours, whole or not? Nothing but its first bytes is read.
pub(super) fn is_ours(path: &Path) -> Result<bool, StoreError> {
    let mut head = [0; 72];
    match File::open(path)?.read_exact(&mut head) {
        Ok(()) => Ok(head.starts_with(b"SQLite format 3\0") && head.ends_with(&APPLICATION_ID.to_be_bytes())),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Is the file a whole store that this program can use? It is not written to.
pub(super) fn verify(path: &Path) -> Result<(), StoreError> {
    check_application(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    check_schema(&connection)?;
    quick_check(&connection)
}
