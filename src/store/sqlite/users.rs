//! Users: adding, importing and changing them, and their rows.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, Row};

use super::transaction::{Apply, Transaction};
use super::{audit, cutoffs, known_sources};
use crate::auth::identity::Identity;
use crate::auth::name::Name;
use crate::auth::password::Phc;
use crate::auth::revocation::Subject;
use crate::auth::time::UnixTime;
use crate::store::command::{AddUser, ChangeOutcome, ChangeUser, ImportUsers, NameConflict, NewUser, Rehash};
use crate::store::decision;
use crate::store::error::StoreError;
use crate::store::records::{User, UserRecord};

impl Apply for AddUser {
    fn apply(self, transaction: &Transaction<'_>) -> Result<Self::Outcome, StoreError> {
        match conflict(transaction, &self.user)? {
            Some(conflict) => Ok(Err(conflict)),
            None => add(self.user, transaction).map(Ok),
        }
    }
}

impl Apply for ImportUsers {
    fn apply(self, transaction: &Transaction<'_>) -> Result<Self::Outcome, StoreError> {
        let conflicts = conflicts(transaction, &self.users)?;
        if !conflicts.is_empty() {
            return Ok(Err(conflicts));
        }
        for user in self.users {
            if !is_imported(transaction, &user)? {
                add(user, transaction)?;
            }
        }
        Ok(Ok(()))
    }
}

impl Apply for ChangeUser {
    fn apply(self, transaction: &Transaction<'_>) -> Result<ChangeOutcome, StoreError> {
        let Some(record) = find(transaction, &self.name)? else {
            return Ok(ChangeOutcome::Unknown);
        };
        if decision::is_unchanged(&self.change, &record.user) {
            return Ok(ChangeOutcome::Unchanged);
        }
        let (name, action) = (self.name.clone(), decision::audit_of_change(&self.change));
        let stamp = transaction.stamp()?;
        let changed = decision::change_user(self, record, stamp);
        match &changed.record {
            Some(record) => update(transaction, record, stamp.sequence)?,
            None => {
                transaction.prepare_cached("DELETE FROM users WHERE name = ?1")?.execute([&name])?;
                // A user who gets the name later is somebody else.
                known_sources::forget(transaction, &name)?;
            }
        }
        let subject = Subject::User(name.clone());
        let cutoff = decision::cutoff(cutoffs::get(transaction, &subject)?, stamp, changed.blocked);
        cutoffs::set(transaction, &subject, cutoff, Some(action))?;
        audit::write(transaction, stamp, action, &name, None)?;
        Ok(ChangeOutcome::Changed)
    }
}

impl Apply for Rehash {
    fn apply(self, transaction: &Transaction<'_>) -> Result<(), StoreError> {
        transaction
            .prepare_cached("UPDATE users SET phc = ?3 WHERE name = ?1 AND credential_version = ?2")?
            .execute((self.user.as_str(), self.credential_version, self.phc.as_str()))?;
        Ok(())
    }
}

/// The user of that name.
pub(super) fn find(connection: &Connection, name: &str) -> Result<Option<UserRecord>, StoreError> {
    let mut statement = connection.prepare_cached(&format!("{SELECT} WHERE name = ?1"))?;
    statement.query_row([name], read).optional()?.transpose()
}

/// Is there a user of that organization?
pub(super) fn organization_exists(connection: &Connection, name: &str) -> Result<bool, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM users WHERE organization = ?1)")?;
    Ok(statement.query_row([name], |row| row.get(0))?)
}

/// At most `limit` users after the one of that name, by name.
pub(super) fn page(connection: &Connection, after: &str, limit: usize) -> Result<Vec<User>, StoreError> {
    let mut statement =
        connection.prepare_cached(&format!("{SELECT} WHERE name > ?1 ORDER BY name LIMIT ?2"))?;
    let rows = statement.query_map((after, limit), read)?;
    rows.map(|row| Ok(row??.user)).collect()
}

/// Those of the users that cannot be added, by their places; of two confusable names in `users` the second.
pub(super) fn conflicts(
    connection: &Connection,
    users: &[NewUser],
) -> Result<Vec<(usize, NameConflict)>, StoreError> {
    let mut found = Vec::new();
    let mut earlier: HashMap<String, &str> = HashMap::new();
    for (place, user) in users.iter().enumerate() {
        let name = &user.identity.user;
        let within = earlier.insert(name.folded(), name.as_str());
        let stored = if is_imported(connection, user)? { None } else { conflict(connection, user)? };
        let conflict = stored.or_else(|| decision::refuse_user(user, within));
        found.extend(conflict.map(|conflict| (place, conflict)));
    }
    Ok(found)
}

fn conflict(connection: &Connection, user: &NewUser) -> Result<Option<NameConflict>, StoreError> {
    let confusable: Option<String> = connection
        .prepare_cached("SELECT name FROM users WHERE folded = ?1")?
        .query_row([user.identity.user.folded()], |row| row.get(0))
        .optional()?;
    Ok(decision::refuse_user(user, confusable.as_deref()))
}

fn is_imported(connection: &Connection, user: &NewUser) -> Result<bool, StoreError> {
    let found = find(connection, user.identity.user.as_str())?;
    Ok(found.is_some_and(|record| decision::is_imported(user, &record)))
}

fn add(user: NewUser, transaction: &Transaction<'_>) -> Result<(), StoreError> {
    let stamp = transaction.stamp()?;
    let UserRecord { user, phc } = decision::add_user(user, stamp);
    let name = user.identity.user.as_str();
    transaction
        .prepare_cached(
            "INSERT INTO users (name, folded, email, organization, phc, disabled, credential_version,
                                created_at, updated_at, number)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute((
            name,
            user.identity.user.folded(),
            &user.identity.email,
            user.identity.organization.as_str(),
            phc.as_str(),
            user.disabled,
            user.credential_version,
            user.created_at.0,
            user.updated_at.0,
            stamp.sequence,
        ))?;
    let subject = Subject::User(name.into());
    let cutoff = decision::first_cutoff(cutoffs::get(transaction, &subject)?, stamp);
    cutoffs::set(transaction, &subject, cutoff, None)?;
    audit::write(transaction, stamp, "user_add", name, None)
}

/// Lets the feed bring the user's account again, if there is such a user.
pub(super) fn touch(connection: &Connection, name: &str, sequence: u64) -> Result<(), StoreError> {
    connection.prepare_cached("UPDATE users SET number = ?2 WHERE name = ?1")?.execute((name, sequence))?;
    Ok(())
}

fn update(connection: &Connection, record: &UserRecord, sequence: u64) -> Result<(), StoreError> {
    let UserRecord { user, phc } = record;
    connection
        .prepare_cached(
            "UPDATE users SET email = ?2, organization = ?3, phc = ?4, disabled = ?5, credential_version = ?6,
               updated_at = ?7, number = ?8 WHERE name = ?1",
        )?
        .execute((
            user.identity.user.as_str(),
            &user.identity.email,
            user.identity.organization.as_str(),
            phc.as_str(),
            user.disabled,
            user.credential_version,
            user.updated_at.0,
            sequence,
        ))?;
    Ok(())
}

/// A row of [`SELECT`]; an error inside for one that somebody else wrote.
fn read(row: &Row<'_>) -> rusqlite::Result<Result<UserRecord, StoreError>> {
    let (name, organization, phc): (String, String, String) =
        (row.get("name")?, row.get("organization")?, row.get("phc")?);
    let parsed = (Name::parse_user(&name), Name::parse(&organization), Phc::parse(&phc));
    let (Ok(user), Ok(organization), Ok(phc)) = parsed else {
        return Ok(Err(StoreError::Damaged(format!("the row of user {name:?} is malformed"))));
    };
    let user = User {
        identity: Identity { user, email: row.get("email")?, organization },
        disabled: row.get("disabled")?,
        credential_version: row.get("credential_version")?,
        created_at: UnixTime(row.get("created_at")?),
        updated_at: UnixTime(row.get("updated_at")?),
    };
    Ok(Ok(UserRecord { user, phc }))
}

const SELECT: &str = "SELECT name, email, organization, phc, disabled, credential_version,
                             created_at, updated_at FROM users";
