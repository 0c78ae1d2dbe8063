//! The same question as for a request, answered check by check, for those who ask why.

use std::fmt;

use super::denial::Denial;
use super::gate::{ClockReading, Gate};
use super::token::{Claim, ClaimError, ClaimFault, examine};

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
    const fn of(denial: Denial) -> Self {
        match denial {
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
            | Denial::RevokedEmail
            | Denial::RevokedEverybody
            | Denial::RevokedKey => Self::Revocation,
            Denial::UserUnknown => Self::User,
        }
    }
}

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The token passes it.
    Passed,
    /// The token is refused here.
    Failed(Failure),
    /// An earlier check refused the token.
    NotReached,
}

/// Why a token is refused: what log and metrics say, and the claim at fault where it is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The reason.
    pub denial: Denial,
    /// The claim.
    pub claim: Option<ClaimFault>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.denial.as_str())?;
        self.claim.map_or(Ok(()), |claim| write!(f, ": {claim}"))
    }
}

/// Does this token hold at this moment, and if not, at which check does it fail?
pub fn explain(gate: &Gate, token: &[u8], reading: ClockReading) -> Vec<(Check, Outcome)> {
    let denial = gate.inspect(token, reading).err();
    let failed = denial.map(|denial| {
        (Check::of(denial), Failure { denial, claim: claim_at_fault(gate, token, denial, reading) })
    });
    let outcome = |check: Check| match failed {
        Some((failed, failure)) if check == failed => Outcome::Failed(failure),
        Some((failed, _)) if check > failed => Outcome::NotReached,
        _ => Outcome::Passed,
    };
    Check::ALL.into_iter().map(|check| (check, outcome(check))).collect()
}

/// The claim for which the gate refused this token at this moment, if it is one.
fn claim_at_fault(gate: &Gate, token: &[u8], denial: Denial, reading: ClockReading) -> Option<ClaimFault> {
    let of_time = |claim, reason| Some(ClaimFault { claim, reason });
    match denial {
        Denial::TokenClaims => examine(token, &gate.keys(), &gate.rules()).err()?.claim,
        Denial::TokenExpired => of_time(Claim::Exp, ClaimError::Past),
        Denial::TokenLifetime => of_time(Claim::Exp, ClaimError::TooFar),
        Denial::TokenNotYetValid => {
            let verified = gate.identify(token).ok()?;
            let is_nbf = verified.not_before.is_some_and(|time| time > reading.now);
            let is_iat = verified.issued_at > reading.now.plus(gate.rules().max_skew);
            of_time(if is_nbf && !is_iat { Claim::Nbf } else { Claim::Iat }, ClaimError::Ahead)
        }
        _ => None,
    }
}
