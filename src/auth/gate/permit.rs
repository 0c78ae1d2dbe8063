//! The proof of admission. It can be made by the gate alone, and a public pass by the policy.

use std::sync::Arc;

use http::HeaderValue;

use crate::auth::identity::Identity;
use crate::auth::policy::PublicPass;
use crate::auth::time::UnixTime;
use crate::auth::token::{TokenId, Verified};

/// Proof that a request carried a token that holds at this moment.
#[derive(Debug)]
pub struct Permit {
    verified: Arc<Verified>,
}

impl Permit {
    pub(super) const fn new(verified: Arc<Verified>) -> Self {
        Self { verified }
    }

    /// The token's name.
    pub fn id(&self) -> TokenId {
        self.verified.id
    }

    /// Who the token speaks for.
    pub fn identity(&self) -> &Identity {
        &self.verified.identity
    }

    /// User, e-mail address and organization as the platform is told them.
    pub fn fields(&self) -> &[HeaderValue; 3] {
        &self.verified.fields
    }

    /// The first second at which the token no longer holds.
    pub fn expires_at(&self) -> UnixTime {
        self.verified.expires_at
    }
}

/// What a request needs before a byte of it may reach the platform.
#[derive(Debug)]
pub enum Pass {
    /// It carried a valid token.
    Permit(Permit),
    /// The configuration makes its path public.
    Public(PublicPass),
}
