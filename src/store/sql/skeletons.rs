//! What the names of users look like, so that none is added that a person would take for another one's.

use super::connection::Connection;
use crate::auth::name::Name;
use crate::store::error::StoreError;

/// A user whose name looks like this one, one of the two with letters beyond ASCII: names of plain letters that look alike (`m` and
/// `rn`, `l` and `1`) are as their operators chose them.
pub(in crate::store) fn confusable(
    connection: &Connection<'_>,
    name: &Name,
) -> Result<Option<String>, StoreError> {
    let [one, other] = name.skeletons();
    let is_ascii = name.as_str().is_ascii();
    let names: Vec<String> = connection.all(
        "SELECT name FROM skeletons WHERE skeleton IN (?1, ?2) AND name <> ?3",
        (one, other, name.as_str()),
        |row| row.get(0),
    )?;
    Ok(names.into_iter().find(|other| !is_ascii || !other.is_ascii()))
}

/// Remembers what a new user's name looks like.
pub(in crate::store) fn remember(connection: &Connection<'_>, name: &Name) -> Result<(), StoreError> {
    for skeleton in name.skeletons() {
        connection.write(
            "INSERT INTO skeletons (skeleton, name) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
            (skeleton, name.as_str()),
        )?;
    }
    Ok(())
}

/// Forgets a user's name.
pub(in crate::store) fn forget(connection: &Connection<'_>, name: &str) -> Result<(), StoreError> {
    let Ok(parsed) = Name::parse_user(name) else { return Ok(()) };
    let [one, other] = parsed.skeletons();
    connection.write("DELETE FROM skeletons WHERE skeleton IN (?1, ?2) AND name = ?3", (one, other, name))
}

/// Remembers every user of a store that is migrated.
pub(in crate::store) fn remember_all(connection: &Connection<'_>) -> Result<(), StoreError> {
    let names: Vec<String> = connection.all("SELECT name FROM users", (), |row| row.get(0))?;
    for name in names {
        // A row that no program of ours wrote is refused where it is read.
        if let Ok(name) = Name::parse_user(&name) {
            remember(connection, &name)?;
        }
    }
    Ok(())
}
