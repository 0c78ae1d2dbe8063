//! The audit trail: every mint, every change of a user or key, and failed logins, summed.
//!
//! A row is written in the transaction that it tells of.

use rusqlite::Connection;
use rusqlite::types::ToSql;

use super::sequence;
use super::transaction::{Apply, Transaction};
use crate::auth::time::UnixTime;
use crate::auth::token::TokenId;
use crate::store::command::{FailedLogins, NoteFailedLogins};
use crate::store::decision::Stamp;
use crate::store::error::StoreError;
use crate::store::records::{AuditFilter, AuditRow};

impl Apply for NoteFailedLogins {
    fn apply(self, transaction: &Transaction<'_>) -> Result<(), StoreError> {
        // They change nothing that a gateway reads, so they take no sequence.
        let (now, lived) = (transaction.now, transaction.lived);
        let stamp = Stamp { sequence: sequence::current(transaction)?, now, lived };
        for FailedLogins { subject, origin, count } in &self.failures {
            insert(transaction, stamp, subject, "login_failed", subject, None, origin, *count)?;
        }
        Ok(())
    }
}

/// Adds what the transaction's actor did to the trail.
pub(super) fn write(
    transaction: &Transaction<'_>,
    stamp: Stamp,
    action: &str,
    subject: &str,
    token: Option<TokenId>,
) -> Result<(), StoreError> {
    let actor = transaction.actor;
    insert(transaction, stamp, &actor.name, action, subject, token, &actor.origin, 1)
}

#[allow(clippy::too_many_arguments, reason = "one for each column of the row")]
fn insert(
    connection: &Connection,
    stamp: Stamp,
    actor: &str,
    action: &str,
    subject: &str,
    token: Option<TokenId>,
    origin: &str,
    count: u32,
) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO audit (number, at, lived, actor, action, subject, token_id, origin, count)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?;
    let token = token.map(|id| id.to_string());
    let Stamp { sequence, now, lived } = stamp;
    statement.execute((sequence, now.0, lived.0, actor, action, subject, token, origin, count))?;
    Ok(())
}

/// At most `limit` rows behind the one of that id, oldest first.
pub(super) fn page(
    connection: &Connection,
    filter: &AuditFilter,
    after: i64,
    limit: usize,
) -> Result<Vec<AuditRow>, StoreError> {
    let of_user = if filter.user.is_some() { "AND (subject = ?4 OR actor = ?4)" } else { "" };
    let mut statement = connection.prepare_cached(&format!(
        "SELECT id, number, at, actor, action, subject, token_id, origin, count
         FROM audit WHERE id > ?1 AND at >= ?2 {of_user} ORDER BY id LIMIT ?3"
    ))?;
    let mut parameters: Vec<&dyn ToSql> = vec![&after, &filter.since.0, &limit];
    parameters.extend(filter.user.as_ref().map(|user| -> &dyn ToSql { user }));
    let rows = statement.query_map(parameters.as_slice(), |row| {
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
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The latest time in the trail: for a store that is migrated.
pub(super) fn latest(connection: &Connection) -> Result<UnixTime, StoreError> {
    let mut statement = connection.prepare_cached("SELECT coalesce(max(at), 0) FROM audit")?;
    Ok(UnixTime(statement.query_row([], |row| row.get(0))?))
}
