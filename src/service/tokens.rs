//! Tokens beside a running gateway: one for a user without its password, and the decision on one.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::keys::revoked_keys;
use crate::auth::cache::{Cache, CacheLimits};
use crate::auth::gate::Gate;
use crate::auth::keys::KeySet;
use crate::auth::time::UnixTime;
use crate::auth::token::{Minted, TokenRules};
use crate::store::command::{Actor, Mint, MintOutcome};
use crate::store::{Store, StoreError};

/// What tokens are minted with.
#[derive(Clone, Copy, Debug)]
pub struct Minting<'m> {
    /// The keys that are loaded.
    pub keys: &'m KeySet,
    /// By which the key is chosen that signs.
    pub now: UnixTime,
    /// How long a token lives.
    pub rules: TokenRules,
    /// `limits.revocations_per_user`
    pub max_revocations: u64,
}

/// Why no token was minted.
#[derive(Debug, Error)]
pub enum MintError {
    /// There is no enabled user of that name.
    #[error("there is no enabled user {0:?}")]
    NoUser(String),
    /// No loaded key may sign.
    #[error("every signing key is revoked")]
    NoKey,
    /// The key was revoked a moment ago; may succeed with those that are loaded next.
    #[error("the signing key has just been revoked")]
    KeyRevoked,
    /// So many tokens of that user are revoked one by one that it gets no more until some of them expire.
    #[error("limits.revocations_per_user: too many tokens of {0:?} are revoked and kept")]
    RevocationLimit(String),
    /// The system has no randomness.
    #[error("{0}")]
    Random(getrandom::Error),
    /// The store could not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Mints a token for the user of that name, without its password.
pub async fn mint(
    store: &Store,
    minting: Minting<'_>,
    name: &str,
    actor: &Actor,
) -> Result<Minted, MintError> {
    let snapshot = revoked_keys(store).await?;
    let signer = snapshot.signer(minting.keys, minting.now).ok_or(MintError::NoKey)?;
    // If the user changes in between, once more, as the gateway does.
    for _ in 0..2 {
        let record = store.user(name).await?.ok_or_else(|| MintError::NoUser(name.to_owned()))?;
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(MintError::Random)?;
        let mint = Mint {
            user: record.user,
            random,
            rules: minting.rules,
            signer: Arc::clone(signer),
            max_revocations: minting.max_revocations,
            source: None,
            asked_at: Mint::NO_PASSWORD,
            checked_by: None,
        };
        match store.execute(mint, actor.clone()).await? {
            MintOutcome::Minted(minted, _) => return Ok(minted),
            MintOutcome::UserChanged => {}
            MintOutcome::RevocationLimit => return Err(MintError::RevocationLimit(name.to_owned())),
            MintOutcome::SignerRevoked => return Err(MintError::KeyRevoked),
        }
    }
    Err(MintError::NoUser(name.to_owned()))
}

/// A gate that decides on this one token as a gateway that starts now would. Of other tokens it knows nothing.
pub async fn gate_for(
    store: &Store,
    keys: KeySet,
    rules: TokenRules,
    token: &str,
) -> Result<Gate, StoreError> {
    let snapshot = revoked_keys(store).await?;
    let cache = Cache::new(CacheLimits { entries: 0, bytes: 0 }, 1, || 0, 0);
    let gate = Gate::new(keys, rules, cache, Duration::MAX, snapshot, Duration::ZERO);
    // One that is not identified is refused for that.
    if let Ok(verified) = gate.identify(token.as_bytes()) {
        let about = store.about(&verified.identity, verified.id).await?;
        gate.apply(|snapshot| about.apply(snapshot));
    }
    Ok(gate)
}
