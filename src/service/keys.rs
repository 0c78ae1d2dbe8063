//! Signing keys: which there are and what each does, another one, and the end of one.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::time::sleep;

use super::blocking::run_blocking;
use super::retry::Retry;
use crate::auth::keys::{Algorithm, Fingerprint, Key, KeySet};
use crate::auth::revocation::{KeyUse, RevocationSnapshot};
use crate::auth::time::UnixTime;
use crate::clock::{Clock, wall};
use crate::state_dir::LockWait;
use crate::state_dir::error::StartError;
use crate::state_dir::new_key::NewKey;
use crate::store::command::{
    ActivateKey, ActivateKeyOutcome, Actor, RecordKeys, RecordKeysOutcome, RetireKey, RetireKeyOutcome,
    RevokeKey, RevokeKeyOutcome,
};
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
    /// By which keys sign.
    pub clock: Clock,
    /// How far from now the `exp` of a token may be that a gateway admits, in seconds.
    pub longest: u64,
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
    /// It was activated for then, and does not sign yet: that time has not come, or some running gateway does not have the key.
    pub signs_from: Option<UnixTime>,
    /// It is retired, and verifies no token whose `exp` is later.
    pub verifies_until: Option<UnixTime>,
}

/// What a key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// It signs new tokens and verifies its own.
    Signing,
    /// It verifies the tokens that it has signed.
    Verifying,
    /// It is retired, and verifies tokens until the last has expired.
    Retiring,
    /// It is retired, and every token that it has signed has expired.
    Retired,
    /// It verifies nothing.
    Revoked,
}

impl KeyState {
    /// As shown: `signing`, `verifying`, `retiring`, `retired` or `revoked`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Signing => "signing",
            Self::Verifying => "verifying",
            Self::Retiring => "retiring",
            Self::Retired => "retired",
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

/// Why a key was not activated.
#[derive(Debug, Error)]
pub enum ActivateKeyError {
    /// The store has never had a key of that name.
    #[error("there is no key {0:?}")]
    Unknown(String),
    /// It was revoked.
    #[error("the key {0:?} is revoked, and signs nothing ever again")]
    Revoked(String),
    /// It was retired.
    #[error("the key {0:?} is retired, and signs nothing ever again")]
    Retired(String),
    /// The store could not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A key that was activated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActivatedKey {
    /// The sequence of the transaction that said so.
    pub sequence: u64,
    /// From when on it signs.
    pub from: UnixTime,
}

/// Why a key was not retired.
#[derive(Debug, Error)]
pub enum RetireKeyError {
    /// The store has never had a key of that name.
    #[error("there is no key {0:?}")]
    Unknown(String),
    /// It was revoked.
    #[error("the key {0:?} is revoked, and verifies nothing any more")]
    Revoked(String),
    /// No other was activated after it.
    #[error("{0:?} may be the key that signs: no other key was activated after it")]
    Signs(String),
    /// The one that was activated after it is not everywhere.
    #[error("the key {0:?} is to sign in its place, and some running gateway does not have that one yet")]
    NotEverywhere(String),
    /// The store could not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A key that was retired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetiredKey {
    /// The sequence of the transaction that said so.
    pub sequence: u64,
    /// It verifies no token whose `exp` is later.
    pub ends_at: UnixTime,
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
        let now = self.clock.now();
        let signing = snapshot.signer(&self.loaded, now).map(|key| key.kid());
        let next = snapshot.next_signer(&self.loaded, now).map(|key| key.kid());
        let listed = self.loaded.iter().map(|key| {
            let KeyUse { activation, ends_at } = snapshot.key_use(key.fingerprint());
            let state = match ends_at {
                Some(_) if snapshot.is_key_revoked(key.fingerprint()) => KeyState::Revoked,
                Some(end) if end <= now => KeyState::Retired,
                Some(_) => KeyState::Retiring,
                None if signing == Some(key.kid()) => KeyState::Signing,
                None => KeyState::Verifying,
            };
            let waits = |at: &UnixTime| *at > now || next == Some(key.kid());
            let signs_from = activation.map(|activation| activation.from).filter(waits);
            ListedKey {
                kid: key.kid().to_owned(),
                state,
                algorithm: key.algorithm(),
                foreign: key.foreign(),
                fingerprint: key.fingerprint(),
                signs_from: signs_from.filter(|_| state == KeyState::Verifying),
                verifies_until: ends_at.filter(|_| state != KeyState::Revoked),
            }
        });
        Ok(listed.collect())
    }

    /// Makes another key; says its name. It verifies at once, and signs once it is activated or when those before it are revoked.
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

    /// Lets a key sign from that time on, or at once. Every gateway that has the sequence signs with it as soon as all have the key.
    pub async fn activate(&self, kid: &str, at: Option<UnixTime>) -> Result<ActivatedKey, ActivateKeyError> {
        let activate = ActivateKey { kid: kid.to_owned(), at };
        match self.retry.execute(&self.store, activate, &self.actor).await? {
            ActivateKeyOutcome::Activated { sequence, from } => Ok(ActivatedKey { sequence, from }),
            ActivateKeyOutcome::Unknown => Err(ActivateKeyError::Unknown(kid.to_owned())),
            ActivateKeyOutcome::Revoked => Err(ActivateKeyError::Revoked(kid.to_owned())),
            ActivateKeyOutcome::Retired => Err(ActivateKeyError::Retired(kid.to_owned())),
        }
    }

    /// Waits for a short time until every running gateway has said that it has that key.
    pub async fn is_everywhere(&self, kid: &str) -> Result<bool, StoreError> {
        let deadline = Instant::now() + EVERYWHERE;
        loop {
            let recorded = self.store.keys().await?;
            let key = recorded.iter().find(|key| key.kid == kid).map(|key| key.fingerprint);
            let shared = self.store.shared_keys().await?;
            let is_shared = key.is_some_and(|key| shared.as_ref().is_none_or(|shared| shared.contains(&key)));
            if is_shared || Instant::now() >= deadline {
                return Ok(is_shared);
            }
            sleep(ASK_AGAIN).await;
        }
    }

    /// Ends a key without ending a token. Another one must have been activated after it.
    pub async fn retire(&self, kid: &str) -> Result<RetiredKey, RetireKeyError> {
        let retire = RetireKey { kid: kid.to_owned(), longest: self.longest };
        match self.retry.execute(&self.store, retire, &self.actor).await? {
            RetireKeyOutcome::Retired { sequence, ends_at } => Ok(RetiredKey { sequence, ends_at }),
            RetireKeyOutcome::Unknown => Err(RetireKeyError::Unknown(kid.to_owned())),
            RetireKeyOutcome::Revoked => Err(RetireKeyError::Revoked(kid.to_owned())),
            RetireKeyOutcome::Signs => Err(RetireKeyError::Signs(kid.to_owned())),
            RetireKeyOutcome::NotEverywhere(other) => Err(RetireKeyError::NotEverywhere(other)),
        }
    }

    /// Revokes a key for good. With `replace`, another one is made where it is the last one that signs.
    pub async fn revoke(self, kid: String, replace: bool) -> Result<RevokedKey, RevokeKeyError> {
        run_blocking(move || self.revoke_blocking(kid, replace)).await
    }

    fn revoke_blocking(&self, kid: String, replace: bool) -> Result<RevokedKey, RevokeKeyError> {
        let snapshot = block_on(revoked_keys(&self.store))?;
        let signs = |key: &Key| snapshot.may_sign(key.fingerprint());
        let others = self.loaded.iter().any(|key| key.kid() != kid && signs(key));
        let may_sign = self.loaded.by_kid(&kid).is_some_and(signs);
        let mut successor = None;
        if may_sign && !others {
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
    for key in store.keys().await? {
        snapshot.apply_key_use(key.fingerprint, key.key_use);
    }
    snapshot.set_shared_keys(store.shared_keys().await?);
    Ok(snapshot)
}

/// How long it is waited until every gateway has a key.
const EVERYWHERE: Duration = Duration::from_secs(2);

/// How often it is asked.
const ASK_AGAIN: Duration = Duration::from_millis(20);
