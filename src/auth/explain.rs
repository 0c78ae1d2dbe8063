//! The same question as for a request, answered check by check, for those who ask why.

use super::denial::Denial;
use super::gate::{ClockReading, Gate};

/// The checks of a token, in the order in which they are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Check {
    /// The store was read recently enough to know of every revocation.
    Store,
    /// Not longer than `token.max_bytes`.
    Size,
    /// Three parts of base64url, JSON inside.
    Shape,
    /// No header member that is refused, all that are needed.
    Header,
    /// The key is in the key set, and the algorithm is its own.
    Key,
    /// The signature is the key's.
    Signature,
    /// The claims are complete, of their types, and nothing else.
    Claims,
    /// Minted here, or under a key that admits foreign tokens.
    Origin,
    /// Not longer than `token.max_lifetime`.
    Lifetime,
    /// `exp` lies ahead.
    Expiry,
    /// `iat` and `nbf` lie behind.
    Start,
    /// Neither it nor its key was revoked, and no cutoff on its user, its organization or everybody came after it.
    Revocation,
    /// A foreign token's user is known here.
    User,
}

impl Check {
    /// Every check, in order.
    pub const ALL: [Self; 13] = [
        Self::Store,
        Self::Size,
        Self::Shape,
        Self::Header,
        Self::Key,
        Self::Signature,
        Self::Claims,
        Self::Origin,
        Self::Lifetime,
        Self::Expiry,
        Self::Start,
        Self::Revocation,
        Self::User,
    ];

    /// The check as a word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Size => "size",
            Self::Shape => "shape",
            Self::Header => "header",
            Self::Key => "key",
            Self::Signature => "signature",
            Self::Claims => "claims",
            Self::Origin => "origin",
            Self::Lifetime => "lifetime",
            Self::Expiry => "expiry",
            Self::Start => "start",
            Self::Revocation => "revocation",
            Self::User => "user",
        }
    }

    /// The check that a denial comes from; the shape of a request's fields is the first of a token too.
    const fn of(denial: Denial) -> (Self, Denial) {
        let check = match denial {
            Denial::StateStale => Self::Store,
            Denial::TokenOversized => Self::Size,
            Denial::TokenMissing
            | Denial::TokenRepeated
            | Denial::TokenAlias
            | Denial::TokenEmpty
            | Denial::TokenMalformed => Self::Shape,
            Denial::TokenHeader => Self::Header,
            Denial::TokenKey | Denial::TokenAlgorithm => Self::Key,
            Denial::TokenSignature => Self::Signature,
            Denial::TokenClaims => Self::Claims,
            Denial::TokenForeign => Self::Origin,
            Denial::TokenLifetime => Self::Lifetime,
            Denial::TokenExpired => Self::Expiry,
            Denial::TokenNotYetValid => Self::Start,
            Denial::RevokedToken
            | Denial::RevokedUser
            | Denial::RevokedOrganization
            | Denial::RevokedEverybody
            | Denial::RevokedKey => Self::Revocation,
            Denial::UserUnknown => Self::User,
        };
        (check, denial)
    }
}

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The token passes it.
    Passed,
    /// The token is refused here.
    Failed(Denial),
    /// An earlier check refused the token.
    NotReached,
}

/// Does this token hold at this moment, and if not, at which check does it fail?
pub fn explain(gate: &Gate, token: &[u8], reading: ClockReading) -> Vec<(Check, Outcome)> {
    let verdict = gate.inspect(token, reading).map(drop);
    let failed = verdict.err().map(Check::of);
    let outcome = |check: Check| match failed {
        Some((failed, denial)) if check == failed => Outcome::Failed(denial),
        Some((failed, _)) if check > failed => Outcome::NotReached,
        _ => Outcome::Passed,
    };
    Check::ALL.into_iter().map(|check| (check, outcome(check))).collect()
}
