//! Changes of users that the platform is asked for.

use rusqlite::{Connection, Row};

use super::transaction::{Apply, Transaction};
use super::{cutoffs, revocations, users};
use crate::auth::name::Name;
use crate::auth::revocation::{Cutoff, Subject};
use crate::store::error::StoreError;
use crate::store::user_change::{BeginChange, ChangeEnd, ChangeId, EndChange, EndForgottenChanges};

impl Apply for BeginChange {
    fn apply(self, transaction: &Transaction<'_>) -> Result<ChangeId, StoreError> {
        let mut id = None;
        for subject in &self.subjects {
            let (kind, name) = cutoffs::key_of(subject);
            transaction
                .prepare_cached(
                    "INSERT INTO user_changes (change, kind, name, begun_at) VALUES (?1, ?2, ?3, ?4)",
                )?
                .execute((id, kind, name, transaction.now.0))?;
            let row = transaction.last_insert_rowid();
            if id.is_none() {
                transaction
                    .prepare_cached("UPDATE user_changes SET change = ?1 WHERE id = ?1")?
                    .execute([row])?;
            }
            id.get_or_insert(row);
        }
        Ok(ChangeId(id.unwrap_or_default()))
    }
}

impl Apply for EndChange {
    fn apply(self, transaction: &Transaction<'_>) -> Result<Vec<(Subject, Cutoff)>, StoreError> {
        let Self { id, subjects, end } = self;
        if end != ChangeEnd::Unknown {
            transaction.prepare_cached("DELETE FROM user_changes WHERE change = ?1")?.execute([id.0])?;
        }
        match end {
            ChangeEnd::Refused => Ok(Vec::new()),
            ChangeEnd::Made | ChangeEnd::Unknown => cut_off(subjects, transaction),
        }
    }
}

impl Apply for EndForgottenChanges {
    fn apply(self, transaction: &Transaction<'_>) -> Result<Vec<(Subject, Cutoff)>, StoreError> {
        let subjects = transaction
            .prepare_cached("SELECT DISTINCT kind, name FROM user_changes WHERE begun_at < ?1 OR ?2")?
            .query_map((self.before.0, self.all), read)?
            .map(|row| row?.ok_or_else(cutoffs::unknown_kind))
            .collect::<Result<Vec<_>, StoreError>>()?;
        if subjects.is_empty() {
            return Ok(Vec::new());
        }
        transaction
            .prepare_cached("DELETE FROM user_changes WHERE begun_at < ?1")?
            .execute([self.before.0])?;
        cut_off(subjects, transaction)
    }
}

/// Whose tokens the changes end that nobody has ended.
pub(super) fn open(connection: &Connection) -> Result<Vec<Subject>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT DISTINCT kind, name FROM user_changes")?;
    let rows = statement.query_map([], read)?;
    rows.map(|row| row?.ok_or_else(cutoffs::unknown_kind)).collect()
}

/// Revokes the tokens of all of them, and of a user whose name a person would take for the same: the platform may.
fn cut_off(
    subjects: Vec<Subject>,
    transaction: &Transaction<'_>,
) -> Result<Vec<(Subject, Cutoff)>, StoreError> {
    let mut all = Vec::new();
    for subject in subjects {
        if let Subject::User(name) = &subject
            && let Some(other) = alike(transaction, name)?
        {
            all.push(Subject::User(other.into()));
        }
        all.push(subject);
    }
    all.into_iter()
        .map(|subject| {
            let cutoff = revocations::revoke(transaction, &subject, "platform_change")?;
            Ok((subject, cutoff))
        })
        .collect()
}

/// The user of another name that is written alike.
fn alike(connection: &Connection, name: &str) -> Result<Option<String>, StoreError> {
    let Ok(name) = Name::parse(name) else { return Ok(None) };
    Ok(users::confusable(connection, &name)?.filter(|other| *other != *name.as_str()))
}

fn read(row: &Row<'_>) -> rusqlite::Result<Option<Subject>> {
    Ok(cutoffs::subject(&row.get::<_, String>(0)?, row.get(1)?))
}
