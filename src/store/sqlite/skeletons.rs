//! What the names of users look like, so that none is added that a person would take for another one's.

use rusqlite::{Connection, OptionalExtension};

use crate::auth::name::Name;
use crate::store::error::StoreError;

/// A user whose name looks like this one, one of the two with letters beyond ASCII: names of plain letters that look alike (`m` and
/// `rn`, `l` and `1`) are as their operators chose them.
pub(super) fn confusable(connection: &Connection, name: &Name) -> Result<Option<String>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT name FROM skeletons WHERE skeleton IN (?1, ?2) AND name <> ?3 AND (?4 OR name GLOB ?5) LIMIT 1",
    )?;
    let [one, other] = name.skeletons();
    let is_ascii = name.as_str().is_ascii();
    let found = statement.query_row((one, other, name.as_str(), !is_ascii, BEYOND_ASCII), |row| row.get(0));
    Ok(found.optional()?)
}

/// Remembers what a new user's name looks like.
pub(super) fn remember(connection: &Connection, name: &Name) -> Result<(), StoreError> {
    let mut statement =
        connection.prepare_cached("INSERT OR IGNORE INTO skeletons (skeleton, name) VALUES (?1, ?2)")?;
    for skeleton in name.skeletons() {
        statement.execute((skeleton, name.as_str()))?;
    }
    Ok(())
}

/// Forgets a user's name.
pub(super) fn forget(connection: &Connection, name: &str) -> Result<(), StoreError> {
    let Ok(parsed) = Name::parse_user(name) else { return Ok(()) };
    let [one, other] = parsed.skeletons();
    connection
        .prepare_cached("DELETE FROM skeletons WHERE skeleton IN (?1, ?2) AND name = ?3")?
        .execute((one, other, name))?;
    Ok(())
}

/// Remembers every user of a store that is migrated.
pub(super) fn remember_all(connection: &Connection) -> Result<(), StoreError> {
    let mut names = connection.prepare_cached("SELECT name FROM users")?;
    let mut names = names.query([])?;
    while let Some(row) = names.next()? {
        let name: String = row.get(0)?;
        // A row that no program of ours wrote is refused where it is read.
        if let Ok(name) = Name::parse_user(&name) {
            remember(connection, &name)?;
        }
    }
    Ok(())
}

/// A name with a character beyond ASCII, as SQLite's GLOB has it.
const BEYOND_ASCII: &str = "*[^\u{1}-\u{7f}]*";
