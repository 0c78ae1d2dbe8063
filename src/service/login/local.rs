//! The gateway's own users, which the store holds with a hash of their password.

use std::sync::Arc;

use async_trait::async_trait;

use super::authenticator::{AuthenticationError, Authenticator, LoginAttempt};
use super::outcome::{Accepted, Verified};
use super::passwords::{Login, Logins};
use crate::auth::source::Source;
use crate::store::Store;
use crate::store::command::{Actor, Rehash};
use crate::store::records::User;

/// Users of the store.
pub struct LocalUsers {
    store: Store,
    logins: Arc<Logins>,
}

impl LocalUsers {
    /// Those of `store`, whose passwords `logins` checks.
    pub const fn new(store: Store, logins: Arc<Logins>) -> Self {
        Self { store, logins }
    }
}

#[async_trait]
impl Authenticator for LocalUsers {
    async fn authenticate(&self, attempt: LoginAttempt) -> Result<Accepted, AuthenticationError> {
        let LoginAttempt { credentials, client, arrived } = attempt;
        let record = self.store.login_record(credentials.user.as_str(), client.map(Source::of)).await?;
        Ok(self.logins.check(Login { credentials, record, client, arrived }).await?)
    }

    /// Replaces an old hash by one with today's costs.
    async fn complete(&self, accepted: Accepted) -> User {
        let Verified { user, rehashed } = accepted.verified;
        if let Some(phc) = rehashed {
            let name = user.identity.user.clone();
            let actor = Actor::client(name.as_str(), "login");
            let rehash = Rehash { user: name, credential_version: user.credential_version, phc };
            if let Err(error) = self.store.execute(rehash, actor).await {
                // The old hash still fits; the next login tries again.
                log::warn!("an old password hash was not replaced: {error}");
            }
        }
        user
    }
}
