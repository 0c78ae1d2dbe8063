//! Revocations of tokens and subjects. There is none that takes one back.

use rusqlite::{Connection, OptionalExtension, Row};

use super::transaction::{Apply, Transaction};
use super::{audit, cutoffs, keys, users};
use crate::auth::revocation::Subject;
use crate::auth::time::{Lived, UnixTime};
use crate::auth::token::TokenId;
use crate::auth::token_set::{Keep, RevokedToken};
use crate::store::command::{RevokeSubject, RevokeToken};
use crate::store::decision::{self, TokenRevocation};
use crate::store::error::StoreError;
use crate::store::records::Revocation;

impl Apply for RevokeToken {
    fn apply(self, transaction: &Transaction<'_>) -> Result<u64, StoreError> {
        let earlier = sequence_of(transaction, self.id)?;
        let user = self.user.as_deref();
        let of_user = user.map(|user| count(transaction, user)).transpose()?;
        match (decision::revoke_token(self.expiry, earlier, of_user, transaction.now), user) {
            (TokenRevocation::Already(sequence), _) => {
                // Written again, so that its acknowledgement follows a sync like every other.
                transaction
                    .prepare_cached("UPDATE revoked_tokens SET number = number WHERE token_id = ?1")?
                    .execute([self.id.0])?;
                Ok(sequence)
            }
            (TokenRevocation::Cutoff, Some(user)) => {
                let sequence = revoke_subject(transaction, &Subject::User(user.into()))?;
                transaction.prepare_cached("DELETE FROM revoked_tokens WHERE user = ?1")?.execute([user])?;
                Ok(sequence)
            }
            (TokenRevocation::Cutoff, None) => Err(StoreError::Failed("a cutoff for no user".into())),
            (TokenRevocation::Single(keep), _) => revoke_one(transaction, self.id, keep, user),
        }
    }
}

impl Apply for RevokeSubject {
    fn apply(self, transaction: &Transaction<'_>) -> Result<u64, StoreError> {
        revoke_subject(transaction, &self.subject)
    }
}

fn revoke_one(
    transaction: &Transaction<'_>,
    id: TokenId,
    keep: Keep,
    user: Option<&str>,
) -> Result<u64, StoreError> {
    let stamp = transaction.stamp()?;
    let (keep, dated) = match keep {
        Keep::Expires(time) => (time, true),
        Keep::Until(time) => (time, false),
    };
    transaction
        .prepare_cached(
            "INSERT INTO revoked_tokens (token_id, keep, dated, lived, user, number)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute((id.0, keep.0, dated, stamp.lived.0, user, stamp.sequence))?;
    audit::write(transaction, stamp, "revoke_token", user.unwrap_or_default(), Some(id))?;
    Ok(stamp.sequence)
}

fn revoke_subject(transaction: &Transaction<'_>, subject: &Subject) -> Result<u64, StoreError> {
    let previous = cutoffs::get(transaction, subject)?;
    let stamp = transaction.stamp()?;
    let cutoff = decision::revoke_subject(subject, previous, stamp);
    cutoffs::set(transaction, subject, cutoff)?;
    if let (Subject::User(name), true) = (subject, cutoff.closed) {
        // A blocked cutoff that comes through the feed without its account is a removed user's, and expires.
        users::touch(transaction, name, stamp.sequence)?;
    }
    let (action, name) = decision::audit_of(subject);
    audit::write(transaction, stamp, action, name, None)?;
    Ok(stamp.sequence)
}

fn sequence_of(connection: &Connection, id: TokenId) -> Result<Option<u64>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT number FROM revoked_tokens WHERE token_id = ?1")?;
    Ok(statement.query_row([id.0], |row| row.get(0)).optional()?)
}

fn count(connection: &Connection, user: &str) -> Result<u64, StoreError> {
    let mut statement = connection.prepare_cached("SELECT count(*) FROM revoked_tokens WHERE user = ?1")?;
    Ok(statement.query_row([user], |row| row.get(0))?)
}

/// At most `limit` revocations in force after that sequence, in order.
pub(super) fn page(connection: &Connection, after: u64, limit: usize) -> Result<Vec<Revocation>, StoreError> {
    let mut page = cutoffs_after(connection, after, limit)?;
    let mut tokens = connection.prepare_cached(
        "SELECT token_id, keep, dated, lived, number FROM revoked_tokens WHERE number > ?1 ORDER BY number LIMIT ?2",
    )?;
    for row in tokens.query_map((after, limit), |row| Ok((read_token(row)?, row.get("number")?)))? {
        let (token, sequence): (RevokedToken, u64) = row?;
        let (Keep::Expires(time) | Keep::Until(time)) = token.keep;
        let subject = token.id.to_string();
        page.push(Revocation { kind: "token", subject, sequence, time, blocked: false });
    }
    page.extend(keys::revoked_after(connection, after)?);
    page.sort_by_key(|revocation| revocation.sequence);
    page.truncate(limit);
    Ok(page)
}

fn cutoffs_after(connection: &Connection, after: u64, limit: usize) -> Result<Vec<Revocation>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT kind, name, number, second, lived, closed FROM marks WHERE number > ?1 ORDER BY number LIMIT ?2",
    )?;
    let rows = statement.query_map((after, limit), cutoffs::read)?;
    rows.map(|row| {
        let (subject, cutoff) = row?.ok_or_else(cutoffs::unknown_kind)?;
        let (kind, name) = cutoffs::key_of(&subject);
        Ok(Revocation {
            kind,
            subject: name.to_owned(),
            sequence: cutoff.number,
            time: cutoff.second,
            blocked: cutoff.closed,
        })
    })
    .collect()
}

/// A row that begins with `token_id, keep, dated, lived`.
pub(super) fn read_token(row: &Row<'_>) -> rusqlite::Result<RevokedToken> {
    let time = UnixTime(row.get(1)?);
    let keep = if row.get(2)? { Keep::Expires(time) } else { Keep::Until(time) };
    Ok(RevokedToken { id: TokenId(row.get(0)?), keep, lived: Lived(row.get(3)?) })
}
