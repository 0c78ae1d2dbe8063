//! Who may log in: one implementation for each place that users come from.

use std::net::IpAddr;
use std::time::Instant;

use async_trait::async_trait;

use super::outcome::{Accepted, LoginError};
use crate::auth::endpoint::Credentials;
use crate::store::StoreError;
use crate::store::records::User;

/// Credentials to be checked.
#[derive(Debug)]
pub struct LoginAttempt {
    /// As sent.
    pub credentials: Credentials,
    /// Where they come from.
    pub client: Option<IpAddr>,
    /// When they came.
    pub arrived: Instant,
}

/// Why nobody was authenticated.
#[derive(Clone, Debug)]
pub enum AuthenticationError {
    /// The login did not succeed.
    Login(LoginError),
    /// The store that it depends on could not be asked.
    Store(StoreError),
    /// What was revoked since the password was found right concerns the user: it may be asked for once more.
    Revoked,
}

impl From<LoginError> for AuthenticationError {
    fn from(error: LoginError) -> Self {
        Self::Login(error)
    }
}

impl From<StoreError> for AuthenticationError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// A place that users come from.
#[async_trait]
pub trait Authenticator: Send + Sync {
    /// Whose credentials are these?
    async fn authenticate(&self, attempt: LoginAttempt) -> Result<Accepted, AuthenticationError>;

    /// To be called once a login that was accepted is not refused for another reason; gives the user.
    async fn complete(&self, accepted: Accepted) -> User;
}
