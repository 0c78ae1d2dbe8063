//! The audit trail: every mint, every change of a user or key, and failed logins, summed.
//!
//! A row is written in the transaction that it tells of.

use super::connection::Connection;
use super::transaction::{Apply, Transaction};
use super::value::Row;
use crate::auth::time::UnixTime;
use crate::auth::token::TokenId;
use crate::auth::user_source::SourceName;
use crate::store::command::{Actor, FailedLogins, NoteFailedLogins, Role};
use crate::store::decision::Stamp;
use crate::store::error::StoreError;
use crate::store::records::{AuditFilter, AuditRow, FieldChange};

impl Apply for NoteFailedLogins {
    fn apply(self, transaction: &Transaction<'_>) -> Result<(), StoreError> {
        // They change nothing that a gateway reads, so they take no sequence.
        let (now, lived) = (transaction.now, transaction.lived);
        let stamp = Stamp { sequence: transaction.sequence(), now, lived };
        for FailedLogins { subject, origin, source, count } in &self.failures {
            let by = (*source != SourceName::Store).then(|| FieldChange::checked_by(*source, None));
            let details = Details { changes: by.into_iter().collect(), ..Details::default() };
            let actor = Actor::client(subject.as_str(), origin.as_str());
            insert(transaction, stamp, &actor, "login_failed", subject, &details, *count)?;
        }
        Ok(())
    }
}

/// What a row says beside who did what to whom.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Details<'d> {
    /// The token that it is about.
    pub(in crate::store) token: Option<TokenId>,
    /// Of a mint: when the token ends.
    pub(in crate::store) expires_at: Option<UnixTime>,
    /// Of a mint: the key that signed.
    pub(in crate::store) kid: Option<&'d str>,
    /// What was changed.
    pub(in crate::store) changes: Vec<FieldChange>,
}

/// Adds what the transaction's actor did to the trail.
pub(in crate::store) fn write(
    transaction: &Transaction<'_>,
    stamp: Stamp,
    action: &str,
    subject: &str,
    token: Option<TokenId>,
) -> Result<(), StoreError> {
    write_details(transaction, stamp, action, subject, &Details { token, ..Details::default() })
}

/// The same, with more than a token's name.
pub(in crate::store) fn write_details(
    transaction: &Transaction<'_>,
    stamp: Stamp,
    action: &str,
    subject: &str,
    details: &Details<'_>,
) -> Result<(), StoreError> {
    insert(transaction, stamp, transaction.actor, action, subject, details, 1)
}

fn insert(
    connection: &Connection<'_>,
    stamp: Stamp,
    actor: &Actor,
    action: &str,
    subject: &str,
    details: &Details<'_>,
    count: u32,
) -> Result<(), StoreError> {
    let Details { token, expires_at, kid, changes } = details;
    let token = token.map(|id| id.to_string());
    let expires = expires_at.map(|UnixTime(second)| second);
    // Texts alone: they can always be written.
    let changes = (!changes.is_empty()).then(|| serde_json::to_string(changes).unwrap_or_default());
    let Actor { name, origin, claimed, role } = actor;
    let Stamp { sequence, now, lived } = stamp;
    let operator = *role == Role::Operator;
    connection.write("INSERT INTO audit (number, at, lived, actor, action, subject, token_id, origin, count, claimed, operator,
                            expires, kid, changes)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)", (
        sequence, now.0, lived.0, name, action, subject, token, origin, count, claimed, operator, expires,
        kid, changes,
    ))
}

/// At most `limit` rows behind the one of that id, oldest first.
pub(in crate::store) fn page(
    connection: &Connection<'_>,
    filter: &AuditFilter,
    after: i64,
    limit: usize,
) -> Result<Vec<AuditRow>, StoreError> {
    let of_user = if filter.user.is_some() { "AND (subject = ?4 OR actor = ?4 OR claimed = ?4)" } else { "" };
    let of_action = if filter.failed_logins { "AND action = 'login_failed'" } else { "" };
    let statement = format!(
        "SELECT id, number, at, actor, action, subject, token_id, origin, count, claimed, changes
         FROM audit WHERE id > ?1 AND at >= ?2 {of_action} {of_user} ORDER BY id LIMIT ?3"
    );
    let read = |row: &Row<'_>| {
        Ok(AuditRow {
            id: row.get(0)?,
            sequence: row.get(1)?,
            at: UnixTime(row.get(2)?),
            actor: row.get(3)?,
            action: row.get(4)?,
            subject: row.get(5)?,
            token_id: row.get(6)?,
            origin: row.get(7)?,
            count: row.get(8)?,
            claimed: row.get(9)?,
            // What somebody else wrote there is not shown.
            changes: row
                .get::<Option<String>>(10)?
                .and_then(|text| serde_json::from_str(&text).ok())
                .unwrap_or_default(),
        })
    };
    match &filter.user {
        Some(user) => connection.all(&statement, (after, filter.since.0, limit, user), read),
        None => connection.all(&statement, (after, filter.since.0, limit), read),
    }
}

/// The sequence of the last row that is older than that time; 0 where there is none.
pub(in crate::store) fn sequence_before(
    connection: &Connection<'_>,
    time: UnixTime,
) -> Result<u64, StoreError> {
    Ok(connection
        .find("SELECT number FROM audit WHERE at < ?1 ORDER BY at DESC, id DESC LIMIT 1", [time.0], |row| {
            row.get(0)
        })?
        .unwrap_or(0))
}

/// The latest time in the trail: for a store that is migrated.
pub(in crate::store) fn latest(connection: &Connection<'_>) -> Result<UnixTime, StoreError> {
    Ok(UnixTime(connection.one("SELECT coalesce(max(at), 0) FROM audit", (), |row| row.get(0))?))
}
