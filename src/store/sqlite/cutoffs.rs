//! Revocation cutoffs, in the table `marks`.

use rusqlite::{Connection, OptionalExtension, Row};

use crate::auth::identity::Identity;
use crate::auth::name::fold_email;
use crate::auth::revocation::{Cutoff, Subject};
use crate::auth::time::{Lived, UnixTime};
use crate::store::error::StoreError;

/// The cutoff of a subject, if it has one.
pub(super) fn get(connection: &Connection, subject: &Subject) -> Result<Option<Cutoff>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT kind, name, number, second, lived, closed, reason IS NOT NULL FROM marks WHERE kind = ?1 AND name = ?2",
    )?;
    let found = statement.query_row(key_of(subject), read).optional()?;
    Ok(found.map(|cutoff| cutoff.ok_or_else(unknown_kind)).transpose()?.map(|(_, cutoff)| cutoff))
}

/// Puts a cutoff in the place of the one that is there. The reason is that of the audit trail; without one it is not a
/// revocation, and leaves one that is there what it is.
pub(super) fn set(
    connection: &Connection,
    subject: &Subject,
    cutoff: Cutoff,
    reason: Option<&str>,
) -> Result<(), StoreError> {
    let (kind, name) = key_of(subject);
    let mut statement = connection.prepare_cached(
        "INSERT INTO marks (kind, name, number, second, lived, closed, reason) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (kind, name) DO UPDATE SET number = excluded.number, second = excluded.second,
           lived = excluded.lived, closed = excluded.closed, reason = coalesce(excluded.reason, reason)",
    )?;
    let Cutoff { sequence: number, time: second, lived, blocked: closed, revocation: _ } = cutoff;
    statement.execute((kind, name, number, second.0, lived.0, closed, reason))?;
    Ok(())
}

/// Sets the time of every cutoff that lies after `latest` to it; says how many there were.
pub(super) fn bound(connection: &Connection, latest: UnixTime) -> Result<usize, StoreError> {
    let mut statement = connection.prepare_cached("UPDATE marks SET second = ?1 WHERE second > ?1")?;
    Ok(statement.execute([latest.0])?)
}

/// The cutoffs that concern a user of an organization with that e-mail address.
pub(super) fn concerning(
    connection: &Connection,
    user: &str,
    organization: &str,
    email: &str,
) -> Result<Vec<(Subject, Cutoff)>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT kind, name, number, second, lived, closed, reason IS NOT NULL FROM marks
         WHERE (kind, name) IN (VALUES ('everybody', ''), ('user', ?1), ('organization', ?2), ('email', ?3))",
    )?;
    let rows = statement.query_map([user, organization, &fold_email(email)], read)?;
    rows.map(|row| row?.ok_or_else(unknown_kind)).collect()
}

/// Those that concern an identity.
pub(super) fn of(connection: &Connection, identity: &Identity) -> Result<Vec<(Subject, Cutoff)>, StoreError> {
    let Identity { user, email, organization } = identity;
    concerning(connection, user.as_str(), organization.as_str(), email)
}

/// A row of `kind, name, number, second, lived, closed` and whether there is a reason; `None` for a kind that this program does not know.
pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Option<(Subject, Cutoff)>> {
    let Some(subject) = subject(&row.get::<_, String>(0)?, row.get(1)?) else { return Ok(None) };
    let cutoff = Cutoff {
        sequence: row.get(2)?,
        time: UnixTime(row.get(3)?),
        lived: Lived(row.get(4)?),
        blocked: row.get(5)?,
        revocation: row.get(6)?,
    };
    Ok(Some((subject, cutoff)))
}

/// A subject by its names in the table; `None` for a kind that this program does not know.
pub(super) fn subject(kind: &str, name: Box<str>) -> Option<Subject> {
    Some(match kind {
        "everybody" => Subject::Everybody,
        "user" => Subject::User(name),
        "organization" => Subject::Organization(name),
        "email" => Subject::Email(name),
        _ => return None,
    })
}

/// A row that somebody else wrote.
pub(super) fn unknown_kind() -> StoreError {
    StoreError::Damaged("unknown kind of cutoff".into())
}

/// A subject as the table names it.
pub(super) fn key_of(subject: &Subject) -> (&'static str, &str) {
    match subject {
        Subject::Everybody => ("everybody", ""),
        Subject::User(name) => ("user", name),
        Subject::Organization(name) => ("organization", name),
        Subject::Email(email) => ("email", email),
    }
}
