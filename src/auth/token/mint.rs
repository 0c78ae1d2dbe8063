//! How a token is made.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::claims::MintedClaims;
use super::id::TokenId;
use super::rules::TokenRules;
use crate::auth::identity::Identity;
use crate::auth::keys::Key;
use crate::auth::time::UnixTime;

/// A token that was just made.
pub struct Minted {
    /// The compact serialization (RFC 7515 §3.1): the secret that the client holds.
    pub token: String,
    /// The token's name.
    pub id: TokenId,
    /// Its `exp`.
    pub expires_at: UnixTime,
    /// The sequence of the transaction that made it; the number in its `jti`.
    pub sequence: u64,
}

impl fmt::Debug for Minted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Minted")
            .field("id", &self.id)
            .field("expires_at", &self.expires_at)
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}

/// Makes the token number `number` for `identity`, issued at `now`.
///
/// `random` keeps two tokens of one number in two stores apart. `None` only if the claims cannot be
/// serialized, which these types exclude.
pub fn mint(
    identity: &Identity,
    number: u64,
    random: [u8; 16],
    now: UnixTime,
    rules: &TokenRules,
    signer: &Key,
) -> Option<Minted> {
    mint_after(UnixTime(0), identity, number, random, now, rules, signer)
}

/// The same for a token that comes after a cutoff of that time: its `iat` is no earlier, while its life is counted from `now`, so
/// that a cutoff that was set by a clock ahead makes no token live longer. The `exp` may then lie before the `iat`.
pub fn mint_after(
    cutoff: UnixTime,
    identity: &Identity,
    number: u64,
    random: [u8; 16],
    now: UnixTime,
    rules: &TokenRules,
    signer: &Key,
) -> Option<Minted> {
    let (issued_at, expires_at) = (now.max(cutoff), now.plus(rules.lifetime));
    let token = signer.sign(&MintedClaims {
        exp: expires_at,
        iat: issued_at,
        database: identity.organization.as_str(),
        email: &identity.email,
        user: identity.user.as_str(),
        jti: format!("{number}.{}", URL_SAFE_NO_PAD.encode(random)),
    })?;
    let (signed, _) = token.rsplit_once('.')?;
    let id = TokenId::of(signed.as_bytes());
    Some(Minted { token, id, expires_at, sequence: number })
}
