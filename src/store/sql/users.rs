//! Users: adding, importing and changing them, and their rows.

use super::connection::Connection;
use super::value::Row;
use std::time::Duration;

use super::audit::Details;
use super::slice::{self, Slice};
use super::transaction::{Apply, Transaction};
use super::{audit, cutoffs, known_sources, skeletons, tokens};
use crate::auth::identity::Identity;
use crate::auth::name::{Name, fold_email};
use crate::auth::password::{HashDigest, Phc};
use crate::auth::revocation::Subject;
use crate::auth::time::UnixTime;
use crate::auth::user_source::SourceName;
use crate::store::command::{
    AddUser, ChangeOutcome, ChangeUser, ImportEffect, ImportUsers, Imported, ImportedUser, NameConflict,
    NewUser, Rehash,
};
use crate::store::decision::{self, ImportStep, Stamp};
use crate::store::error::StoreError;
use crate::store::records::{ListedUser, Remembered, User, UserFilter, UserRecord};

impl Apply for AddUser {
    fn apply(self, transaction: &Transaction<'_>) -> Result<Self::Outcome, StoreError> {
        match conflict(transaction, &self.user)? {
            Some(conflict) => Ok(Err(conflict)),
            None => add(self.user, None, transaction).map(Ok),
        }
    }
}

impl Apply for ImportUsers {
    const IS_BULK: bool = true;

    fn apply(self, transaction: &Transaction<'_>) -> Result<Imported, StoreError> {
        let (mut imported, mut users) = (Imported::default(), self.users.into_iter());
        slice::in_steps(SLICE, |count| {
            let before = imported.done();
            for user in users.by_ref().take(count) {
                import(user, self.update, transaction, &mut imported)?;
                if imported.conflict.is_some() {
                    break;
                }
            }
            Ok(if imported.conflict.is_some() { 0 } else { imported.done() - before })
        })?;
        Ok(imported)
    }
}

fn import(
    user: ImportedUser,
    update: bool,
    transaction: &Transaction<'_>,
    imported: &mut Imported,
) -> Result<(), StoreError> {
    let ImportedUser { user: NewUser { identity, phc }, .. } = &user;
    let (name, digest) = (Box::<str>::from(identity.user.as_str()), Some(phc.digest()));
    let (counter, changes) = match step(transaction, &user, update)? {
        ImportStep::Nothing => (&mut imported.unchanged, Vec::new()),
        ImportStep::Change(changes) => (&mut imported.updated, changes),
        ImportStep::Add(changes) => {
            add(user.user, digest, transaction)?;
            (&mut imported.added, changes)
        }
        ImportStep::Refuse(conflict) => {
            imported.conflict = Some(conflict);
            return Ok(());
        }
    };
    *counter += 1;
    for change in changes {
        change_user(ChangeUser { name: name.clone(), change }, digest, transaction)?;
    }
    Ok(())
}

/// What an import would do with each of the users, by themselves.
pub(in crate::store) fn import_effects(
    connection: &Connection<'_>,
    users: &[ImportedUser],
    update: bool,
) -> Result<Vec<ImportEffect>, StoreError> {
    users.iter().map(|user| Ok(step(connection, user, update)?.effect())).collect()
}

fn step(connection: &Connection<'_>, user: &ImportedUser, update: bool) -> Result<ImportStep, StoreError> {
    let read = |row: &Row<'_>| Ok((read(row)?, row.get::<Option<[u8; 16]>>(8)?.map(HashDigest)));
    let known =
        connection.find(&format!("{SELECT} WHERE folded = ?1"), [user.user.identity.user.folded()], read)?;
    Ok(decision::import_user(user, known.as_ref().map(|(record, last)| (record, *last)), update))
}

impl Apply for ChangeUser {
    fn apply(self, transaction: &Transaction<'_>) -> Result<ChangeOutcome, StoreError> {
        change_user(self, None, transaction)
    }
}

/// Changes a user. A new password came from an import where it has a digest.
fn change_user(
    command: ChangeUser,
    imported: Option<HashDigest>,
    transaction: &Transaction<'_>,
) -> Result<ChangeOutcome, StoreError> {
    let Some(record) = find(transaction, &command.name)? else {
        return Ok(ChangeOutcome::Unknown);
    };
    if decision::is_unchanged(&command.change, &record.user) {
        return Ok(ChangeOutcome::Unchanged);
    }
    let (name, action) = (command.name.clone(), decision::audit_of_change(&command.change));
    let changes = decision::changed_fields(&command.change, &record.user);
    let stamp = transaction.stamp();
    let changed = decision::change_user(command, record, stamp);
    match &changed.record {
        Some(record) => update(transaction, record, imported, stamp.sequence)?,
        None => {
            transaction.write("DELETE FROM users WHERE name = ?1", [&name])?;
            // A user who gets the name later is somebody else.
            known_sources::forget(transaction, &name)?;
            skeletons::forget(transaction, &name)?;
        }
    }
    let subject = Subject::User(name.clone());
    let cutoff = decision::cutoff(cutoffs::get(transaction, &subject)?, stamp, changed.blocked);
    cutoffs::set(transaction, &subject, cutoff, Some(action))?;
    let details = Details { changes, ..Details::default() };
    audit::write_details(transaction, stamp, action, &name, &details)?;
    Ok(ChangeOutcome::Changed)
}

impl Apply for Rehash {
    fn apply(self, transaction: &Transaction<'_>) -> Result<(), StoreError> {
        transaction.write(
            "UPDATE users SET phc = ?3 WHERE name = ?1 AND credential_version = ?2",
            (self.user.as_str(), self.credential_version, self.phc.as_str()),
        )
    }
}

/// The user of that name.
pub(in crate::store) fn find(
    connection: &Connection<'_>,
    name: &str,
) -> Result<Option<UserRecord>, StoreError> {
    connection.find(&format!("{SELECT} WHERE name = ?1"), [name], read)
}

/// The version of that user's password and claims, and whether it is disabled.
pub(super) fn version(connection: &Connection<'_>, name: &str) -> Result<Option<(u64, bool)>, StoreError> {
    connection.find("SELECT credential_version, disabled FROM users WHERE name = ?1", [name], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })
}

/// Is there a user of that organization?
pub(in crate::store) fn organization_exists(
    connection: &Connection<'_>,
    name: &str,
) -> Result<bool, StoreError> {
    connection.one("SELECT EXISTS (SELECT 1 FROM users WHERE organization = ?1)", [name], |row| row.get(0))
}

/// Is there a user with that e-mail address? SQL does not fold as we do, so every address is read.
pub(in crate::store) fn email_exists(connection: &Connection<'_>, folded: &str) -> Result<bool, StoreError> {
    let mut exists = false;
    connection.each("SELECT email FROM users", (), |row| {
        exists |= fold_email(row.text(0)) == folded;
        Ok(())
    })?;
    Ok(exists)
}

/// At most `limit` users after the one of that name, by name.
pub(in crate::store) fn page(
    connection: &Connection<'_>,
    filter: &UserFilter,
    after: &str,
    limit: usize,
    now: UnixTime,
) -> Result<Vec<ListedUser>, StoreError> {
    let text = filter.text.as_ref().filter(|text| !text.is_empty()).map(|text| text.to_ascii_lowercase());
    let (source, remembered) = (filter.source.map(SourceName::as_str), filter.remembered);
    let rows = connection.all(&format!(
        "{SELECT} WHERE name > ?1 AND (CAST(?3 AS TEXT) IS NULL OR organization = ?3) AND (CAST(?4 AS BOOLEAN) IS NULL OR disabled = ?4)
           AND (CAST(?5 AS TEXT) IS NULL OR replace(lower(name), ?5, '') <> lower(name) OR replace(lower(email), ?5, '') <> lower(email))
           AND (CAST(?6 AS TEXT) IS NULL OR source = ?6) AND (NOT ?7 OR remembered_at IS NOT NULL)
         ORDER BY name LIMIT ?2"
    ), (after, limit, &filter.organization, filter.disabled, text, source, remembered), read)?;
    rows.into_iter().map(|record| listed(connection, record, now)).collect()
}

/// The user of that name, as lists show it.
pub(in crate::store) fn find_listed(
    connection: &Connection<'_>,
    name: &str,
    now: UnixTime,
) -> Result<Option<ListedUser>, StoreError> {
    find(connection, name)?.map(|record| listed(connection, record, now)).transpose()
}

fn listed(connection: &Connection<'_>, record: UserRecord, now: UnixTime) -> Result<ListedUser, StoreError> {
    let UserRecord { user, remembered, .. } = record;
    let last_login = tokens::last_login(connection, user.identity.user.as_str())?;
    let live_tokens = tokens::count_live(connection, &user.identity, now)?;
    Ok(ListedUser {
        last_login,
        live_tokens,
        user,
        remembered_at: remembered.map(|remembered| remembered.at),
    })
}

fn conflict(connection: &Connection<'_>, user: &NewUser) -> Result<Option<NameConflict>, StoreError> {
    let confusable = confusable(connection, &user.identity.user)?;
    Ok(decision::refuse_user(user, confusable.as_deref()))
}

/// The user of that name, or of one that a person would confuse with it.
pub(in crate::store) fn confusable(
    connection: &Connection<'_>,
    name: &Name,
) -> Result<Option<String>, StoreError> {
    let confusable: Option<String> =
        connection.find("SELECT name FROM users WHERE folded = ?1", [name.folded()], |row| row.get(0))?;
    confusable.map_or_else(|| skeletons::confusable(connection, name), |name| Ok(Some(name)))
}

/// Adds a user. Its hash came from an import where it has a digest.
fn add(user: NewUser, imported: Option<HashDigest>, transaction: &Transaction<'_>) -> Result<(), StoreError> {
    let stamp = transaction.stamp();
    insert(&decision::add_user(user, stamp), imported, stamp, transaction)
}

/// Puts the row of a new user in, with its first cutoff.
pub(in crate::store) fn insert(
    record: &UserRecord,
    imported: Option<HashDigest>,
    stamp: Stamp,
    transaction: &Transaction<'_>,
) -> Result<(), StoreError> {
    let UserRecord { user, phc, remembered: _ } = record;
    let name = user.identity.user.as_str();
    transaction.write(
        "INSERT INTO users (name, folded, email, organization, phc, disabled, credential_version,
                                created_at, updated_at, number, imported, source)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        (
            name,
            user.identity.user.folded(),
            &user.identity.email,
            user.identity.organization.as_str(),
            phc.as_ref().map_or("", Phc::as_str),
            user.disabled,
            user.credential_version,
            user.created_at.0,
            user.updated_at.0,
            stamp.sequence,
            imported.map(|HashDigest(digest)| digest),
            user.source.as_str(),
        ),
    )?;
    skeletons::remember(transaction, &user.identity.user)?;
    let subject = Subject::User(name.into());
    let cutoff = decision::first_cutoff(cutoffs::get(transaction, &subject)?, stamp);
    cutoffs::set(transaction, &subject, cutoff, None)?;
    audit::write(transaction, stamp, "user_add", name, None)
}

/// Lets the feed bring the user's account again, if there is such a user.
pub(in crate::store) fn touch(
    connection: &Connection<'_>,
    name: &str,
    sequence: u64,
) -> Result<(), StoreError> {
    connection.write("UPDATE users SET number = ?2 WHERE name = ?1", (name, sequence))
}

/// A hash that was imported is forgotten with the one that it became.
pub(in crate::store) fn update(
    connection: &Connection<'_>,
    record: &UserRecord,
    imported: Option<HashDigest>,
    sequence: u64,
) -> Result<(), StoreError> {
    let UserRecord { user, phc, remembered } = record;
    connection.write("UPDATE users SET email = ?2, organization = ?3, phc = ?4, disabled = ?5, credential_version = ?6,
               updated_at = ?7, number = ?8, imported = CASE WHEN phc = ?4 THEN imported ELSE ?9 END, source = ?10,
               remembered_at = ?11, remembered_number = ?12 WHERE name = ?1", (
            user.identity.user.as_str(),
            &user.identity.email,
            user.identity.organization.as_str(),
            phc.as_ref().map_or("", Phc::as_str),
            user.disabled,
            user.credential_version,
            user.updated_at.0,
            sequence,
            imported.map(|HashDigest(digest)| digest),
            user.source.as_str(),
            remembered.map(|remembered| remembered.at.0),
            remembered.map(|remembered| remembered.sequence),
        ))
}

/// Reads every user.
///
/// # Errors
///
/// The first that is not as it should be.
pub(in crate::store) fn read_all(connection: &Connection<'_>) -> Result<(), StoreError> {
    connection.each(&format!("{SELECT} ORDER BY name"), (), |row| read(row).map(drop))
}

/// A row of [`SELECT`].
fn read(row: &Row<'_>) -> Result<UserRecord, StoreError> {
    let (name, organization, phc): (String, String, String) = (row.get(0)?, row.get(2)?, row.get(3)?);
    let source = SourceName::parse(&row.get::<String>(9)?);
    let phc = (!phc.is_empty()).then(|| Phc::parse(&phc)).transpose();
    let parsed = (Name::parse_user(&name), Name::parse(&organization), phc, source);
    let (Ok(user), Ok(organization), Ok(phc), Some(source)) = parsed else {
        return Err(StoreError::Damaged(format!("the row of user {name:?} is malformed")));
    };
    let user = User {
        identity: Identity { user, email: row.get(1)?, organization },
        source,
        disabled: row.get(4)?,
        credential_version: row.get(5)?,
        created_at: UnixTime(row.get(6)?),
        updated_at: UnixTime(row.get(7)?),
    };
    let remembered = (row.get(11)?, row.get(10)?);
    let remembered = match remembered {
        (Some(sequence), Some(at)) => Some(Remembered { sequence, at: UnixTime(at) }),
        _ => None,
    };
    Ok(UserRecord { user, phc, remembered })
}

const SELECT: &str = "SELECT name, email, organization, phc, disabled, credential_version,
                             created_at, updated_at, imported, source, remembered_at, remembered_number FROM users";

/// Of an import: with its commit, a slice is over before a mint that waits for it notices.
const SLICE: Slice = Slice { rows: usize::MAX, time: Duration::from_millis(15) };
