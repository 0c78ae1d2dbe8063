//! Revocation cutoffs, in the table `marks`.

use super::connection::Connection;
use super::value::Row;
use crate::auth::identity::Identity;
use crate::auth::name::fold_email;
use crate::auth::revocation::{Cutoff, Subject};
use crate::auth::time::{Lived, UnixTime};
use crate::store::error::StoreError;

/// The cutoff of a subject, if it has one.
pub(in crate::store) fn get(
    connection: &Connection<'_>,
    subject: &Subject,
) -> Result<Option<Cutoff>, StoreError> {
    let found = connection.find("SELECT kind, name, number, second, lived, closed, reason IS NOT NULL FROM marks WHERE kind = ?1 AND name = ?2", key_of(subject), read)?;
    Ok(found.map(|(_, cutoff)| cutoff))
}

/// Why the cutoff of a subject was set, as the audit trail calls it.
pub(in crate::store) fn reason(
    connection: &Connection<'_>,
    subject: &Subject,
) -> Result<Option<String>, StoreError> {
    let found = connection.find(
        "SELECT reason FROM marks WHERE kind = ?1 AND name = ?2",
        key_of(subject),
        |row| row.get(0),
    )?;
    Ok(found.flatten())
}

/// Puts a cutoff in the place of the one that is there. The reason is that of the audit trail; without one it is not a
/// revocation, and leaves one that is there what it is.
pub(in crate::store) fn set(
    connection: &Connection<'_>,
    subject: &Subject,
    cutoff: Cutoff,
    reason: Option<&str>,
) -> Result<(), StoreError> {
    let (kind, name) = key_of(subject);
    let Cutoff { sequence: number, time: second, lived, blocked: closed, revocation: _ } = cutoff;
    connection.write("INSERT INTO marks (kind, name, number, second, lived, closed, reason) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (kind, name) DO UPDATE SET number = excluded.number, second = excluded.second,
           lived = excluded.lived, closed = excluded.closed, reason = coalesce(excluded.reason, marks.reason)", (kind, name, number, second.0, lived.0, closed, reason))
}

/// Sets the time of every cutoff that lies after `latest` to it; says how many there were.
pub(in crate::store) fn bound(connection: &Connection<'_>, latest: UnixTime) -> Result<usize, StoreError> {
    connection.change("UPDATE marks SET second = ?1 WHERE second > ?1", [latest.0])
}

/// The cutoffs that concern a user of an organization with that e-mail address.
pub(in crate::store) fn concerning(
    connection: &Connection<'_>,
    user: &str,
    organization: &str,
    email: &str,
) -> Result<Vec<(Subject, Cutoff)>, StoreError> {
    connection.all(
        "SELECT kind, name, number, second, lived, closed, reason IS NOT NULL FROM marks
         WHERE (kind, name) IN (VALUES ('everybody', ''), ('user', ?1), ('organization', ?2), ('email', ?3))",
        [user, organization, &fold_email(email)],
        read,
    )
}

/// Those that concern an identity.
pub(in crate::store) fn of(
    connection: &Connection<'_>,
    identity: &Identity,
) -> Result<Vec<(Subject, Cutoff)>, StoreError> {
    let Identity { user, email, organization } = identity;
    concerning(connection, user.as_str(), organization.as_str(), email)
}

/// A row of `kind, name, number, second, lived, closed` and whether there is a reason.
pub(in crate::store) fn read(row: &Row<'_>) -> Result<(Subject, Cutoff), StoreError> {
    let subject = read_subject(row)?;
    let cutoff = Cutoff {
        sequence: row.get(2)?,
        time: UnixTime(row.get(3)?),
        lived: Lived(row.get(4)?),
        blocked: row.get(5)?,
        revocation: row.get(6)?,
    };
    Ok((subject, cutoff))
}

/// A row that begins with `kind, name`.
///
/// # Errors
///
/// The kind is one that this program does not know.
pub(in crate::store) fn read_subject(row: &Row<'_>) -> Result<Subject, StoreError> {
    let name = row.text(1).into();
    Ok(match row.text(0) {
        "everybody" => Subject::Everybody,
        "user" => Subject::User(name),
        "organization" => Subject::Organization(name),
        "email" => Subject::Email(name),
        _ => return Err(StoreError::Damaged("unknown kind of cutoff".into())),
    })
}

/// A subject as the table names it.
pub(in crate::store) fn key_of(subject: &Subject) -> (&'static str, &str) {
    match subject {
        Subject::Everybody => ("everybody", ""),
        Subject::User(name) => ("user", name),
        Subject::Organization(name) => ("organization", name),
        Subject::Email(email) => ("email", email),
    }
}
