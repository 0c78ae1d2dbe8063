//! What a login needs to know before a password is hashed.

use rusqlite::{Connection, OptionalExtension};

use super::{known_sources, users};
use crate::auth::source::Source;
use crate::store::error::StoreError;
use crate::store::records::LoginRecord;

/// What is known of that name and of a login from there. The statements are the same whether or not there is such a user, so that
/// the time they take does not tell.
pub(super) fn record(
    connection: &Connection,
    name: &str,
    source: Option<Source>,
) -> Result<LoginRecord, StoreError> {
    // One moment for all of it.
    let snapshot = connection.unchecked_transaction()?;
    Ok(LoginRecord {
        user: users::find(&snapshot, name)?,
        is_known_source: known_sources::is_known(&snapshot, name, source)?,
        unlocks: unlocks(&snapshot, name)?,
    })
}

/// How often the user of that name was unlocked.
fn unlocks(connection: &Connection, name: &str) -> Result<u64, StoreError> {
    let mut statement = connection.prepare_cached("SELECT count FROM unlocks WHERE user = ?1")?;
    Ok(statement.query_row([name], |row| row.get(0)).optional()?.unwrap_or(0))
}
