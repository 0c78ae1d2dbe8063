//! What a token says that was verified.

use http::HeaderValue;

use super::id::TokenId;
use super::rules::TokenRules;
use crate::auth::denial::Denial;
use crate::auth::identity::Identity;
use crate::auth::keys::Fingerprint;
use crate::auth::time::UnixTime;

/// Who minted a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This gateway's store, which gave it this sequence.
    Ours {
        /// The place in the store's order, from `jti`.
        sequence: u64,
    },
    /// The platform, with a key that both hold.
    Foreign,
}

/// A token whose signature and claims hold. It says nothing about now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The token's name.
    pub id: TokenId,
    /// Who it speaks for.
    pub identity: Identity,
    /// Its e-mail address as cutoffs have it, where that is another text; folded once.
    pub folded_email: Option<Box<str>>,
    /// The same as the platform is told it: made once, and counted afterwards.
    pub fields: [HeaderValue; 3],
    /// Who minted it.
    pub origin: Origin,
    /// Claim `iat`.
    pub issued_at: UnixTime,
    /// Claim `exp`: the first second at which it is no longer accepted.
    pub expires_at: UnixTime,
    /// Claim `nbf`, which only foreign tokens have.
    pub not_before: Option<UnixTime>,
    /// The key that verified it.
    pub key: Fingerprint,
    /// The [generation](crate::auth::keys::KeySet::generation) of the key set that the key was in.
    pub generation: u64,
}

impl Verified {
    /// The e-mail address as cutoffs have it.
    pub fn email_key(&self) -> &str {
        self.folded_email.as_deref().unwrap_or(&self.identity.email)
    }

    /// Do `exp`, `iat` and `nbf` admit the token at `now`? Leeway is 0 but for clocks that disagree by `max_skew`. `cutoff` is
    /// the latest time of a cutoff that concerns the token: one of ours that was minted after it has an `iat` no earlier,
    /// whatever this clock says.
    pub fn check_time(
        &self,
        now: UnixTime,
        cutoff: impl FnOnce() -> UnixTime,
        rules: &TokenRules,
    ) -> Result<(), Denial> {
        if self.expires_at <= now {
            return Err(Denial::TokenExpired);
        }
        let ahead = now.plus(rules.max_skew);
        let is_ours = matches!(self.origin, Origin::Ours { .. });
        if self.issued_at > ahead && !(is_ours && self.issued_at <= cutoff()) {
            return Err(Denial::TokenNotYetValid);
        }
        if self.not_before.is_some_and(|reading| reading > now) {
            return Err(Denial::TokenNotYetValid);
        }
        // Minted by a clock that was ahead: it must not live longer for that.
        if self.expires_at > ahead.plus(rules.max_lifetime) {
            return Err(Denial::TokenLifetime);
        }
        Ok(())
    }
}
