//! The tokens that were minted here, as the audit trail has them, and what has become of each.

use super::connection::Connection;
use super::value::Row;
use super::{cutoffs, time};
use crate::auth::identity::Identity;
use crate::auth::revocation::{Cutoff, Subject};
use crate::auth::time::UnixTime;
use crate::auth::token::TokenId;
use crate::store::decision::{self, MintedRow, Owner};
use crate::store::error::StoreError;
use crate::store::records::{MintedToken, TokenFilter, TokenState};

/// At most `limit` tokens of a user that were minted before that sequence, the newest first.
pub(in crate::store) fn page(
    connection: &Connection<'_>,
    user: &str,
    filter: TokenFilter,
    before: u64,
    limit: usize,
    now: UnixTime,
) -> Result<Vec<MintedToken>, StoreError> {
    let claims: Option<(String, String)> =
        connection.find("SELECT organization, email FROM users WHERE name = ?1", [user], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    // Tokens of a user that is gone are refused for that.
    let (organization, email) = claims.unwrap_or_default();
    let before = before.min(i64::MAX.unsigned_abs());
    let of = Tokens {
        cutoffs: cutoffs::concerning(connection, user, &organization, &email)?,
        ..Tokens::of(connection, user, now)?
    };
    let mut page = Vec::new();
    of.each(connection, filter, before, Some(limit), |token| page.push(token))?;
    Ok(page)
}

/// How many tokens of a user the gate would admit.
pub(in crate::store) fn count_live(
    connection: &Connection<'_>,
    identity: &Identity,
    now: UnixTime,
) -> Result<u64, StoreError> {
    let mut live = 0;
    let user = identity.user.as_str();
    let of = Tokens { cutoffs: cutoffs::of(connection, identity)?, ..Tokens::of(connection, user, now)? };
    of.each(connection, TokenFilter::default(), i64::MAX.unsigned_abs(), None, |token| {
        live += u64::from(token.state == TokenState::Live);
    })?;
    Ok(live)
}

/// When a user got the last token by its password.
pub(in crate::store) fn last_login(
    connection: &Connection<'_>,
    user: &str,
) -> Result<Option<UnixTime>, StoreError> {
    Ok(connection
        .find(
            "SELECT at FROM audit WHERE action = 'mint' AND subject = ?1 AND NOT operator
         ORDER BY number DESC LIMIT 1",
            [user],
            |row| row.get(0),
        )?
        .map(UnixTime))
}

/// Whose a token is that was minted here, and when it ends, as far as the trail tells.
pub(in crate::store) fn owner(connection: &Connection<'_>, id: TokenId) -> Result<Option<Owner>, StoreError> {
    let owner = |row: &Row<'_>| {
        let expires_at = row.get::<Option<u64>>(1)?.map(UnixTime);
        Ok(Owner { user: row.get(0)?, expires_at })
    };
    connection.find(
        "SELECT subject, expires FROM audit WHERE action = 'mint' AND token_id = ?1",
        [id.to_string()],
        owner,
    )
}

/// What decides on the tokens of one user.
struct Tokens<'u> {
    user: &'u str,
    cutoffs: Vec<(Subject, Cutoff)>,
    expired_below: u64,
    now: UnixTime,
}

impl<'u> Tokens<'u> {
    /// Without the cutoffs.
    fn of(connection: &Connection<'_>, user: &'u str, now: UnixTime) -> Result<Self, StoreError> {
        let expired_below = time::read(connection)?.expired_below;
        Ok(Self { user, cutoffs: Vec::new(), expired_below, now })
    }

    /// In their order by an index, and no further back than tokens last.
    fn each(
        &self,
        connection: &Connection<'_>,
        filter: TokenFilter,
        before: u64,
        limit: Option<usize>,
        mut show: impl FnMut(MintedToken),
    ) -> Result<(), StoreError> {
        let (from, after) = if filter.expired { (0, UnixTime(0)) } else { (self.expired_below, self.now) };
        connection.each(
            "SELECT number, at, actor, origin, token_id, expires,
               EXISTS (SELECT 1 FROM revoked_tokens WHERE revoked_tokens.token_id = unhex(audit.token_id)),
               EXISTS (SELECT 1 FROM keys WHERE keys.kid = audit.kid AND revoked_at IS NOT NULL)
             FROM audit WHERE action = 'mint' AND subject = ?1 AND number >= ?2 AND number < ?3
               AND (expires IS NULL OR expires > ?4) ORDER BY number DESC LIMIT ?5",
            (self.user, from, before, after.0, limit.map_or(i64::MAX.unsigned_abs(), |limit| limit as u64)),
            |row| {
                show(self.read(row)?);
                Ok(())
            },
        )
    }

    fn read(&self, row: &Row<'_>) -> Result<MintedToken, StoreError> {
        let id: String = row.get(4)?;
        let minted = MintedRow {
            sequence: row.get(0)?,
            expires_at: row.get::<Option<u64>>(5)?.map(UnixTime),
            is_revoked: row.get(6)?,
            is_key_revoked: row.get(7)?,
        };
        Ok(MintedToken {
            id: TokenId::parse(&id)
                .ok_or_else(|| StoreError::Damaged("a mint in the audit trail has no TokenId".into()))?,
            sequence: minted.sequence,
            minted_at: UnixTime(row.get(1)?),
            minted_by: row.get(2)?,
            origin: row.get(3)?,
            expires_at: minted.expires_at,
            state: decision::token_state(&minted, &self.cutoffs, self.expired_below, self.now),
        })
    }
}
