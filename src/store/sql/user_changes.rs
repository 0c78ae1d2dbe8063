//! Changes of users that the platform is asked for.

use super::connection::Connection;
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
            let row = transaction.one("INSERT INTO user_changes (change, kind, name, begun_at) VALUES (?1, ?2, ?3, ?4) RETURNING id", (id, kind, name, transaction.now.0), |row| row.get::<i64>(0))?;
            if id.is_none() {
                transaction.write("UPDATE user_changes SET change = ?1 WHERE id = ?1", [row])?;
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
            transaction.write("DELETE FROM user_changes WHERE change = ?1", [id.0])?;
        }
        match end {
            ChangeEnd::Refused => Ok(Vec::new()),
            ChangeEnd::Made | ChangeEnd::Unknown => cut_off(subjects, transaction),
        }
    }
}

impl Apply for EndForgottenChanges {
    fn apply(self, transaction: &Transaction<'_>) -> Result<Vec<(Subject, Cutoff)>, StoreError> {
        let subjects = transaction.all(
            "SELECT DISTINCT kind, name FROM user_changes WHERE begun_at < ?1 OR ?2",
            (self.before.0, self.all),
            cutoffs::read_subject,
        )?;
        if subjects.is_empty() {
            return Ok(Vec::new());
        }
        transaction.write("DELETE FROM user_changes WHERE begun_at < ?1", [self.before.0])?;
        cut_off(subjects, transaction)
    }
}

/// Whose tokens the changes end that nobody has ended.
pub(in crate::store) fn open(connection: &Connection<'_>) -> Result<Vec<Subject>, StoreError> {
    connection.all("SELECT DISTINCT kind, name FROM user_changes", (), cutoffs::read_subject)
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
fn alike(connection: &Connection<'_>, name: &str) -> Result<Option<String>, StoreError> {
    let Ok(name) = Name::parse(name) else { return Ok(None) };
    Ok(users::confusable(connection, &name)?.filter(|other| *other != *name.as_str()))
}
