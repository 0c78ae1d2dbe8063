//! What is wrong with the claims of a token, for those who ask why it is refused.

use std::fmt;

use serde::Deserialize;

use crate::auth::name::NameError;

/// A claim by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
pub enum Claim {
    /// RFC 7519 §4.1.4.
    Exp,
    /// RFC 7519 §4.1.6.
    Iat,
    /// RFC 7519 §4.1.5.
    Nbf,
    /// The organization's name.
    Database,
    /// The e-mail address.
    Email,
    /// The user's name.
    User,
    /// RFC 7519 §4.1.7.
    Jti,
    /// Any other.
    #[serde(other)]
    Other,
}

impl Claim {
    /// As tokens write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exp => "exp",
            Self::Iat => "iat",
            Self::Nbf => "nbf",
            Self::Database => "database",
            Self::Email => "email",
            Self::User => "user",
            Self::Jti => "jti",
            Self::Other => "another claim",
        }
    }
}

/// A claim for which a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimFault {
    /// Which one.
    pub claim: Claim,
    /// What is wrong with it.
    pub reason: ClaimError,
}

/// What is wrong with a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimError {
    /// It is required and not there.
    Missing,
    /// It is there more than once.
    Repeated,
    /// Not a number as RFC 7519 §2 has it, or not a text.
    Type,
    /// A text that can be no name or address.
    Text(NameError),
    /// Our own tokens do not have it, or do not write it so.
    NotOurs,
    /// `exp` is not after `iat`.
    NotAfterIat,
    /// `exp` is further from `iat`, or from now, than `token.max_lifetime`.
    TooFar,
    /// It is now or in the past.
    Past,
    /// It lies in the future.
    Ahead,
}

impl Claim {
    /// This claim, and what is wrong with it.
    pub(super) const fn fails(self, reason: ClaimError) -> ClaimFault {
        ClaimFault { claim: self, reason }
    }
}

impl fmt::Display for ClaimFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_time = matches!(self.claim, Claim::Exp | Claim::Iat | Claim::Nbf);
        let reason = match self.reason {
            ClaimError::Missing => "is missing",
            ClaimError::Repeated => "is there more than once",
            ClaimError::Type if is_time => {
                "must be a number of seconds: digits with or without a fraction, no sign, no exponent"
            }
            ClaimError::Type => "must be a string",
            ClaimError::Text(error) => error.as_str(),
            ClaimError::NotOurs if is_time && !matches!(self.claim, Claim::Nbf) => {
                "must be a whole number in a token of this gateway"
            }
            ClaimError::NotOurs => "is not in any token of this gateway",
            ClaimError::NotAfterIat => "must be later than iat",
            ClaimError::TooFar => "is further away than token.max_lifetime allows",
            ClaimError::Past => "is in the past",
            ClaimError::Ahead => "is in the future",
        };
        write!(f, "{} {reason}", self.claim.as_str())
    }
}
