//! Signing keys: which there are and what each does, another one, and the end of one.

use std::path::PathBuf;

use thiserror::Error;

use super::blocking::run_blocking;
use super::retry::Retry;
use crate::auth::keys::{Algorithm, Fingerprint, KeySet};
use crate::auth::revocation::RevocationSnapshot;
use crate::clock::wall;
use crate::state_dir::LockWait;
use crate::state_dir::error::StartError;
use crate::state_dir::new_key::NewKey;
use crate::store::command::{Actor, RecordKeys, RecordKeysOutcome, RevokeKey, RevokeKeyOutcome};
use crate::store::{Store, StoreError, block_on};

/// The keys of a gateway, and what it takes to change them.
#[derive(Debug)]
pub struct Keys {
    /// Where keys are recorded and revoked.
    pub store: Store,
    /// The keys that are loaded.
    pub loaded: KeySet,
    /// Where the key files lie; `None` where `token.keys` names them, so that none is made here.
    pub key_folder: Option<PathBuf>,
    /// The state folder, which is locked while a key is made.
    pub state_dir: PathBuf,
    /// How that lock is waited for.
    pub lock_wait: LockWait,
    /// How a revocation waits for the store.
    pub retry: Retry,
    /// Who makes and revokes keys.
    pub actor: Actor,
}

/// A key as shown; never its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedKey {
    /// Its name.
    pub kid: String,
    /// What it does.
    pub state: KeyState,
    /// How it signs.
    pub algorithm: Algorithm,
    /// Does it verify tokens that were not minted here?
    pub foreign: bool,
    /// What its secret is recognised by.
    pub fingerprint: Fingerprint,
}

/// What a key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// It signs new tokens and verifies its own.
    Signing,
    /// It verifies the tokens that it has signed.
    Verifying,
    /// It verifies nothing.
    Revoked,
}

impl KeyState {
    /// As shown: `signing`, `verifying` or `revoked`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Signing => "signing",
            Self::Verifying => "verifying",
            Self::Revoked => "revoked",
        }
    }
}

/// Why no key was made.
#[derive(Debug, Error)]
pub enum NewKeyError {
    /// `token.keys` names the keys.
    #[error(
        "the keys are named in token.keys: make a file with `openssl rand -base64 48`, name it there, restart"
    )]
    Configured,
    /// The state folder is locked, or the file cannot be made.
    #[error("{0}")]
    File(StartError),
    /// The store could not record the key.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store has another secret under the name of this key.
    #[error("the key {0:?} is not the one that the store has recorded under this name")]
    Conflict(String),
}

/// Why a key was not revoked.
#[derive(Debug, Error)]
pub enum RevokeKeyError {
    /// No other key would sign, and no successor was asked for.
    #[error("{0:?} is the only key that signs")]
    LastSigner(String),
    /// The store has never had a key of that name.
    #[error("there is no key {0:?}")]
    Unknown(String),
    /// No successor could be made.
    #[error(transparent)]
    Successor(NewKeyError),
    /// The store could not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A key that was revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevokedKey {
    /// The sequence of the transaction that revoked it.
    pub sequence: u64,
    /// The name of the key that was made in its place, where that was necessary.
    pub successor: Option<String>,
}

impl Keys {
    /// Every loaded key, the signing one first as long as it is not revoked.
    pub async fn list(&self) -> Result<Vec<ListedKey>, StoreError> {
        let snapshot = revoked_keys(&self.store).await?;
        let signing = snapshot.signer(&self.loaded).map(|key| key.kid());
        let listed = self.loaded.iter().map(|key| ListedKey {
            kid: key.kid().to_owned(),
            state: match signing {
                _ if snapshot.is_key_revoked(key.fingerprint()) => KeyState::Revoked,
                Some(kid) if kid == key.kid() => KeyState::Signing,
                _ => KeyState::Verifying,
            },
            algorithm: key.algorithm(),
            foreign: key.foreign(),
            fingerprint: key.fingerprint(),
        });
        Ok(listed.collect())
    }

    /// Makes another key; says its name. It verifies at once, and signs when those before it are revoked.
    pub async fn generate(self) -> Result<String, NewKeyError> {
        run_blocking(move || {
            let new = self.make()?;
            let kid = new.kid().to_owned();
            let record = RecordKeys { keys: new.records().to_vec() };
            let outcome = block_on(self.store.execute(record, self.actor.clone()));
            new.settle(&self.store);
            match outcome? {
                RecordKeysOutcome::Recorded => Ok(kid),
                RecordKeysOutcome::Conflict(kid) => Err(NewKeyError::Conflict(kid)),
            }
        })
        .await
    }

    /// Revokes a key for good. With `replace`, another one is made where it is the last one that signs.
    pub async fn revoke(self, kid: String, replace: bool) -> Result<RevokedKey, RevokeKeyError> {
        run_blocking(move || self.revoke_blocking(kid, replace)).await
    }

    fn revoke_blocking(&self, kid: String, replace: bool) -> Result<RevokedKey, RevokeKeyError> {
        let snapshot = block_on(revoked_keys(&self.store))?;
        let is_revoked = |key| snapshot.is_key_revoked(key);
        let others = self.loaded.iter().any(|key| key.kid() != kid && !is_revoked(key.fingerprint()));
        let is_signing = snapshot.signer(&self.loaded).is_some_and(|key| key.kid() == kid);
        let mut successor = None;
        if is_signing && !others {
            if !replace {
                return Err(RevokeKeyError::LastSigner(kid));
            }
            successor = Some(self.make().map_err(RevokeKeyError::Successor)?);
        }
        let successors = successor.as_ref().map_or_else(Vec::new, |new| new.records().to_vec());
        let made = successors.first().map(|record| record.kid.clone());
        let revoke = RevokeKey { kid: kid.clone(), successors };
        let outcome = block_on(self.retry.execute(&self.store, revoke, &self.actor));
        if let Some(new) = successor {
            new.settle(&self.store);
        }
        match outcome? {
            RevokeKeyOutcome::Revoked(sequence) => Ok(RevokedKey { sequence, successor: made }),
            RevokeKeyOutcome::Conflict(kid) => Err(RevokeKeyError::Successor(NewKeyError::Conflict(kid))),
            RevokeKeyOutcome::Unknown => Err(RevokeKeyError::Unknown(kid)),
        }
    }

    /// Makes a key beside the others. It counts once it is recorded.
    fn make(&self) -> Result<NewKey, NewKeyError> {
        let folder = self.key_folder.as_ref().ok_or(NewKeyError::Configured)?;
        NewKey::make(folder, &self.state_dir, &self.store, self.lock_wait, wall()).map_err(NewKeyError::File)
    }
}

/// What the store says of keys, and of nothing else.
pub async fn revoked_keys(store: &Store) -> Result<RevocationSnapshot, StoreError> {
    let mut snapshot = RevocationSnapshot::default();
    for key in store.keys().await?.iter().filter(|key| key.revoked) {
        snapshot.revoke_key(key.fingerprint);
    }
    snapshot.set_shared_keys(store.shared_keys().await?);
    Ok(snapshot)
}
