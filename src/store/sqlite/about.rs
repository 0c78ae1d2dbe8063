//! All that the store knows about one token: what a gate needs to decide on it, and no more.

use rusqlite::{Connection, OptionalExtension};

use super::revocations::read_token;
use super::{cutoffs, keys, sequence, time};
use crate::auth::identity::Identity;
use crate::auth::revocation::Account;
use crate::auth::token::TokenId;
use crate::store::error::StoreError;
use crate::store::records::Changes;

/// What concerns a token of that identity.
pub(super) fn read(
    connection: &Connection,
    identity: &Identity,
    token: TokenId,
) -> Result<Changes, StoreError> {
    // One moment for all of it.
    let snapshot = connection.unchecked_transaction()?;
    let (sequence, user) = (sequence::current(&snapshot)?, identity.user.as_str());
    let token = snapshot
        .prepare_cached("SELECT token_id, keep, dated, lived FROM revoked_tokens WHERE token_id = ?1")?
        .query_row([token.0], read_token)
        .optional()?;
    let disabled = snapshot
        .prepare_cached("SELECT disabled FROM users WHERE name = ?1")?
        .query_row([user], |row| row.get(0))
        .optional()?;
    let account = disabled.map(|disabled: bool| if disabled { Account::Disabled } else { Account::Enabled });
    Ok(Changes {
        cutoffs: cutoffs::of(&snapshot, identity)?,
        tokens: token.into_iter().collect(),
        keys: keys::all(&snapshot)?,
        users: account.map(|account| (user.into(), account)).into_iter().collect(),
        time: time::read(&snapshot)?,
        through: sequence,
        sequence,
        requested: 0,
    })
}
