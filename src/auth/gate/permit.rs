//! The proof of admission. It can be made by the gate alone, and a public pass by the policy.

use std::sync::Arc;

use http::HeaderValue;

use super::would_refuse::WouldRefuse;
use crate::auth::identity::Identity;
use crate::auth::policy::PublicPass;
use crate::auth::time::UnixTime;
use crate::auth::token::{TokenId, Verified};

/// Proof that a request carried a token that held when the gate was asked. A copy is for asking again while the request is in flight.
#[derive(Clone, Debug)]
pub struct Permit {
    verified: Arc<Verified>,
}

impl Permit {
    pub(super) const fn new(verified: Arc<Verified>) -> Self {
        Self { verified }
    }

    pub(super) fn verified(&self) -> &Verified {
        &self.verified
    }

    /// Of the key set that it was verified by.
    pub(super) fn generation(&self) -> u64 {
        self.verified.generation
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

/// Proof that a request is observed, for the platform's own check to decide on. It vouches for nobody.
#[derive(Debug)]
pub struct ObservedPass {
    would_refuse: Option<WouldRefuse>,
}

impl ObservedPass {
    pub(super) const fn new(would_refuse: Option<WouldRefuse>) -> Self {
        Self { would_refuse }
    }

    /// Why the request would be refused; nothing is known of one for the token endpoint whose form is right.
    pub const fn would_refuse(&self) -> Option<WouldRefuse> {
        self.would_refuse
    }
}

/// What a request needs before a byte of it may reach the platform.
#[derive(Debug)]
pub enum Pass {
    /// It carried a valid token.
    Permit(Permit),
    /// The configuration makes its path public.
    Public(PublicPass),
    /// It would be refused, or answered by the token endpoint, and is observed instead.
    Observed(ObservedPass),
}
