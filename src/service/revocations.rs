//! Revocations by an operator: of one token, and of all tokens of a user, of an organization or of everybody. A revocation waits for
//! the store ([`Retry`]), and is durable once its sequence is returned. Keys are revoked in [`keys`](super::keys).

use thiserror::Error;

use super::retry::Retry;
use crate::auth::denial::Denial;
use crate::auth::gate::Gate;
use crate::auth::revocation::Subject;
use crate::auth::token::{TokenId, TokenRules};
use crate::store::command::{Actor, Expiry, RevokeSubject, RevokeToken};
use crate::store::{Store, StoreError};

/// Revokes for one actor.
#[derive(Clone, Debug)]
pub struct Revocations {
    store: Store,
    actor: Actor,
    retry: Retry,
}

/// Why a token was not revoked.
#[derive(Debug, Error)]
pub enum RevokeTokenError {
    /// None of the loaded keys has signed it.
    #[error("not a token of this gateway: {}", .0.as_str())]
    NotOurs(Denial),
    /// The store could not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// All tokens of a subject are revoked that were minted before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectRevoked {
    /// The sequence of the transaction that did it.
    pub sequence: u64,
    /// Whether the store has the user, or a user of the organization; everybody is always known. Read once the revocation is durable:
    /// declining to revoke what nobody here knows would fail open.
    pub is_known: Result<bool, StoreError>,
}

/// A token is revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRevoked {
    /// The sequence of the transaction that did it.
    pub sequence: u64,
    /// Whose token it is, as it says itself or as the audit trail does; `None` for one that was not issued here, as far as the trail
    /// goes back. Read once the revocation is durable, as with a subject.
    pub user: Result<Option<String>, StoreError>,
}

impl Revocations {
    /// Revokes in that store for `actor`.
    pub const fn new(store: Store, actor: Actor, retry: Retry) -> Self {
        Self { store, actor, retry }
    }

    /// Revokes a token that is given whole: its expiry and its user are known. `gate` has the keys; see
    /// [`gate_for`](super::tokens::gate_for).
    pub async fn token(&self, token: &str, gate: &Gate) -> Result<TokenRevoked, RevokeTokenError> {
        let verified = gate.identify(token.as_bytes()).map_err(RevokeTokenError::NotOurs)?;
        let user = verified.identity.user.as_str();
        let expiry = Expiry::At(verified.expires_at);
        let revoke = RevokeToken { id: verified.id, expiry, user: Some(user.into()) };
        let sequence = self.retry.execute(&self.store, revoke, &self.actor).await?;
        Ok(TokenRevoked { sequence, user: Ok(Some(user.to_owned())) })
    }

    /// Revokes a token of which only the TokenId is known, whether it was ever minted or not.
    pub async fn token_id(&self, id: TokenId, rules: &TokenRules) -> Result<TokenRevoked, StoreError> {
        let expiry = Expiry::Within { max_lifetime: rules.max_lifetime };
        let revoke = RevokeToken { id, expiry, user: None };
        let sequence = self.retry.execute(&self.store, revoke, &self.actor).await?;
        Ok(TokenRevoked { sequence, user: self.store.token_user(id).await })
    }

    /// Revokes every token of the subject that was minted before now, whether the store knows the name or not.
    pub async fn subject(&self, subject: Subject) -> Result<SubjectRevoked, StoreError> {
        let revoke = RevokeSubject { subject: subject.clone() };
        let sequence = self.retry.execute(&self.store, revoke, &self.actor).await?;
        Ok(SubjectRevoked { sequence, is_known: self.is_known(&subject).await })
    }

    async fn is_known(&self, subject: &Subject) -> Result<bool, StoreError> {
        match subject {
            Subject::User(name) => Ok(self.store.user(name).await?.is_some()),
            Subject::Organization(name) => self.store.organization_exists(name).await,
            Subject::Email(email) => self.store.email_exists(email).await,
            Subject::Everybody => Ok(true),
        }
    }
}
