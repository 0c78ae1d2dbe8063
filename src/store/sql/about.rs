//! All that the store knows about one token: what a gate needs to decide on it, and no more.

use super::connection::Connection;
use super::revocations::read_token;
use super::{cutoffs, keys, sequence, time};
use crate::auth::identity::Identity;
use crate::auth::revocation::Account;
use crate::auth::token::TokenId;
use crate::store::error::StoreError;
use crate::store::records::Changes;

/// What concerns a token of that identity.
pub(in crate::store) fn read(
    connection: &Connection<'_>,
    identity: &Identity,
    token: TokenId,
) -> Result<Changes, StoreError> {
    let (sequence, user) = (sequence::current(connection)?, identity.user.as_str());
    let token = connection.find(
        "SELECT token_id, keep, dated, lived FROM revoked_tokens WHERE token_id = ?1",
        [token.0],
        read_token,
    )?;
    let disabled = connection.find("SELECT disabled FROM users WHERE name = ?1", [user], |row| row.get(0))?;
    let account = disabled.map(|disabled: bool| if disabled { Account::Disabled } else { Account::Enabled });
    Ok(Changes {
        cutoffs: cutoffs::of(connection, identity)?,
        tokens: token.into_iter().collect(),
        keys: keys::all(connection)?,
        users: account.map(|account| (user.into(), account)).into_iter().collect(),
        time: time::read(connection)?,
        through: sequence,
        sequence,
        requested: 0,
    })
}
