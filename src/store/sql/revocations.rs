//! Revocations of tokens and subjects. There is none that takes one back.

use super::connection::Connection;
use super::value::{Row, ToValue};
use std::cmp::Reverse;

use super::transaction::{Apply, Group, Transaction};
use super::{audit, cutoffs, keys, tokens, users};
use crate::auth::revocation::{Cutoff, Subject};
use crate::auth::time::{Lived, UnixTime};
use crate::auth::token::TokenId;
use crate::auth::token_set::{Keep, RevokedToken};
use crate::store::command::{RevokeSubject, RevokeToken};
use crate::store::decision::{self, TokenRevocation};
use crate::store::error::StoreError;
use crate::store::records::{Revocation, RevocationFilter, RevocationKind};

impl Apply for RevokeToken {
    fn group(&self) -> Group {
        Group::Revocation(self.id)
    }

    fn foresee(&self, connection: &Connection<'_>) {
        drop(sequence_of(connection, self.id));
        drop(tokens::owner(connection, self.id));
    }

    fn apply(self, transaction: &Transaction<'_>) -> Result<u64, StoreError> {
        let earlier = sequence_of(transaction, self.id)?;
        let minted = tokens::owner(transaction, self.id)?;
        let Self { id, expiry, user } = decision::complete_revocation(self, minted);
        match decision::revoke_token(expiry, earlier, transaction.now) {
            TokenRevocation::Already(sequence) => {
                // Written again, so that its acknowledgement follows a sync like every other.
                transaction.write("UPDATE revoked_tokens SET number = number WHERE token_id = ?1", [id.0])?;
                Ok(sequence)
            }
            TokenRevocation::Single(keep) => revoke_one(transaction, id, keep, user.as_deref()),
        }
    }
}

impl Apply for RevokeSubject {
    fn apply(self, transaction: &Transaction<'_>) -> Result<u64, StoreError> {
        let (action, _) = decision::audit_of(&self.subject);
        Ok(revoke(transaction, &self.subject, action)?.sequence)
    }
}

/// Revokes every token of a subject that was minted before.
pub(in crate::store) fn revoke(
    transaction: &Transaction<'_>,
    subject: &Subject,
    action: &str,
) -> Result<Cutoff, StoreError> {
    let previous = cutoffs::get(transaction, subject)?;
    let stamp = transaction.stamp();
    let cutoff = decision::revoke_subject(subject, previous, stamp);
    if let (Subject::User(name), true) = (subject, cutoff.blocked) {
        // A blocked cutoff that comes through the feed without its account is a removed user's, and expires.
        users::touch(transaction, name, stamp.sequence)?;
    }
    let (_, name) = decision::audit_of(subject);
    cutoffs::set(transaction, subject, cutoff, Some(action))?;
    audit::write(transaction, stamp, action, name, None)?;
    Ok(cutoff)
}

fn revoke_one(
    transaction: &Transaction<'_>,
    id: TokenId,
    keep: Keep,
    user: Option<&str>,
) -> Result<u64, StoreError> {
    let stamp = transaction.stamp();
    let (keep, dated) = match keep {
        Keep::Expires(time) => (time, true),
        Keep::Until(time) => (time, false),
    };
    transaction.write(
        "INSERT INTO revoked_tokens (token_id, keep, dated, lived, \"user\", number)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        (id.0, keep.0, dated, stamp.lived.0, user, stamp.sequence),
    )?;
    audit::write(transaction, stamp, "revoke_token", user.unwrap_or_default(), Some(id))?;
    Ok(stamp.sequence)
}

fn sequence_of(connection: &Connection<'_>, id: TokenId) -> Result<Option<u64>, StoreError> {
    connection.find("SELECT number FROM revoked_tokens WHERE token_id = ?1", [id.0], |row| row.get(0))
}

/// How many of a user's tokens were revoked one by one and are kept.
pub(in crate::store) fn count(connection: &Connection<'_>, user: &str) -> Result<u64, StoreError> {
    Ok(connection
        .find("SELECT tokens FROM revocation_counts WHERE \"user\" = ?1", [user], |row| row.get(0))?
        .unwrap_or(0))
}

/// At most `limit` revocations in force that came before that sequence, the newest first.
pub(in crate::store) fn page(
    connection: &Connection<'_>,
    filter: &RevocationFilter,
    before: u64,
    limit: usize,
) -> Result<Vec<Revocation>, StoreError> {
    let after = audit::sequence_before(connection, filter.since)?;
    let query = Query { filter, after, before: before.min(i64::MAX.unsigned_abs()), limit };
    let mut page = query.cutoffs(connection)?;
    page.extend(query.tokens(connection)?);
    page.extend(query.keys(connection)?);
    page.sort_by_key(|revocation| Reverse(revocation.sequence));
    page.truncate(limit);
    Ok(page)
}

/// A page that is asked for: from one sequence to another, without both.
struct Query<'q> {
    filter: &'q RevocationFilter,
    after: u64,
    before: u64,
    limit: usize,
}

impl Query<'_> {
    fn cutoffs(&self, connection: &Connection<'_>) -> Result<Vec<Revocation>, StoreError> {
        let kind = match self.filter.kind {
            Some(RevocationKind::Token | RevocationKind::Key) => return Ok(Vec::new()),
            Some(kind) => Some(kind.as_str()),
            None => None,
        };
        // A name is found by the primary key; without one, rows come by their sequence (`+` keeps the other index out).
        let conditions = match (&self.filter.subject, kind) {
            (Some(_), _) => {
                "name = ?4 AND kind IN ('everybody', 'user', 'organization', 'email') AND (CAST(?5 AS TEXT) IS NULL OR kind = ?5)
                 AND +number"
            }
            (None, Some(_)) => "CAST(?4 AS TEXT) IS NULL AND kind || '' = ?5 AND number",
            (None, None) => "CAST(?4 AS TEXT) IS NULL AND CAST(?5 AS TEXT) IS NULL AND number",
        };
        let statement = format!(
            "SELECT kind, name, number, second, lived, closed, reason IS NOT NULL, reason FROM marks
             WHERE reason IS NOT NULL AND number < ?2 AND {conditions} > ?1 ORDER BY number DESC LIMIT ?3"
        );
        let parameters = (self.after, self.before, self.limit, &self.filter.subject, kind);
        connection.all(&statement, parameters, |row| {
            let (subject, cutoff) = cutoffs::read(row)?;
            let (kind, name) = cutoffs::key_of(&subject);
            Ok(Revocation {
                kind,
                subject: name.to_owned(),
                sequence: cutoff.sequence,
                time: cutoff.time,
                blocked: cutoff.blocked,
                user: None,
                reason: row.get(7)?,
            })
        })
    }

    fn tokens(&self, connection: &Connection<'_>) -> Result<Vec<Revocation>, StoreError> {
        if self.filter.kind.is_some_and(|kind| kind != RevocationKind::Token) {
            return Ok(Vec::new());
        }
        let Some(subject) = &self.filter.subject else {
            return self.tokens_of(connection, "CAST(?4 AS TEXT) IS NULL AND number", &None::<&str>);
        };
        let mut tokens = self.tokens_of(connection, "\"user\" = ?4 AND number", subject)?;
        if let Some(id) = TokenId::parse(subject) {
            let mut named = self.tokens_of(connection, "token_id = ?4 AND +number", &id.0)?;
            // A user may be called like a token.
            named.retain(|token| token.user.as_deref() != Some(subject));
            tokens.extend(named);
        }
        Ok(tokens)
    }

    /// In their order by an index, so that one user's very many are not sorted for each page.
    fn tokens_of(
        &self,
        connection: &Connection<'_>,
        conditions: &str,
        subject: &dyn ToValue,
    ) -> Result<Vec<Revocation>, StoreError> {
        connection.all(
            &format!(
                "SELECT token_id, keep, dated, lived, \"user\", number FROM revoked_tokens
             WHERE number < ?2 AND {conditions} > ?1 ORDER BY number DESC LIMIT ?3"
            ),
            (self.after, self.before, self.limit, subject),
            |row| {
                let RevokedToken { id, keep: Keep::Expires(time) | Keep::Until(time), .. } = read_token(row)?;
                Ok(Revocation {
                    kind: RevocationKind::Token.as_str(),
                    subject: id.to_string(),
                    sequence: row.get(5)?,
                    time,
                    blocked: false,
                    user: row.get(4)?,
                    reason: None,
                })
            },
        )
    }

    fn keys(&self, connection: &Connection<'_>) -> Result<Vec<Revocation>, StoreError> {
        if self.filter.kind.is_some_and(|kind| kind != RevocationKind::Key) {
            return Ok(Vec::new());
        }
        // There are never many.
        let mut keys = keys::revoked_after(connection, self.after)?;
        let is_wanted = |kid: &str| self.filter.subject.as_deref().is_none_or(|subject| subject == kid);
        keys.retain(|key| key.sequence < self.before && is_wanted(&key.subject));
        Ok(keys)
    }
}

/// A row that begins with `token_id, keep, dated, lived`.
pub(in crate::store) fn read_token(row: &Row<'_>) -> Result<RevokedToken, StoreError> {
    let time = UnixTime(row.get(1)?);
    let keep = if row.get(2)? { Keep::Expires(time) } else { Keep::Until(time) };
    Ok(RevokedToken { id: TokenId(row.get(0)?), keep, lived: Lived(row.get(3)?) })
}
