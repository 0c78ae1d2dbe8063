//! What must hold before a token is believed, whatever the time is.

use super::claim_fault::{Claim, ClaimError, ClaimFault};
use super::claims::{Claims, Header, REFUSED_MEMBERS, number_of};
use super::id::TokenId;
use super::numeric_date::NumericDate;
use super::parts::{Parts, decode};
use super::rules::TokenRules;
use super::verified::{Origin, Verified};
use crate::auth::denial::Denial;
use crate::auth::identity::Identity;
use crate::auth::keys::{Algorithm, Key, KeySet};
use crate::auth::name::fold_email;

/// Checks shape, key, signature and claims of a token as received.
///
/// Nothing is parsed before the size is known to be bounded, and no claim is read before the signature
/// holds.
pub fn verify(token: &[u8], keys: &KeySet, rules: &TokenRules) -> Result<Verified, Denial> {
    examine(token, keys, rules).map_err(|refused| refused.denial)
}

/// Why a token is refused, and for which of its claims if it is one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The reason as log and metrics have it.
    pub denial: Denial,
    /// The claim at fault.
    pub claim: Option<ClaimFault>,
}

impl Refused {
    const fn for_claim(claim: Option<ClaimFault>) -> Self {
        Self { denial: Denial::TokenClaims, claim }
    }
}

impl From<Denial> for Refused {
    fn from(denial: Denial) -> Self {
        Self { denial, claim: None }
    }
}

impl From<ClaimFault> for Refused {
    fn from(fault: ClaimFault) -> Self {
        Self::for_claim(Some(fault))
    }
}

/// The same as [`verify`], for those who ask which claim it is.
pub fn examine(token: &[u8], keys: &KeySet, rules: &TokenRules) -> Result<Verified, Refused> {
    if token.len() > rules.max_bytes {
        return Err(Denial::TokenOversized.into());
    }
    let parts = Parts::split(token).ok_or(Denial::TokenMalformed)?;
    let header: Header = decode(parts.header).ok_or(Denial::TokenMalformed)?;
    if REFUSED_MEMBERS.iter().any(|name| header.other.contains_key(*name)) {
        return Err(Denial::TokenHeader.into());
    }
    if header.typ.as_deref().is_some_and(|typ| !typ.eq_ignore_ascii_case("JWT")) {
        return Err(Denial::TokenHeader.into());
    }
    let key = choose_key(&header, &parts, keys)?;
    let claims = Claims::read(parts.claims).map_err(Refused::for_claim)?;
    let origin = match claims.jti.as_deref().and_then(number_of) {
        Some(number) => {
            let exact = header.kid.is_some() && header.typ.as_deref() == Some("JWT");
            if !exact || !header.other.is_empty() {
                return Err(Denial::TokenHeader.into());
            }
            if let Some(fault) = claims.not_ours() {
                return Err(fault.into());
            }
            Origin::Ours { sequence: number }
        }
        None if key.foreign() => Origin::Foreign,
        None => return Err(Denial::TokenForeign.into()),
    };
    // Each to the side on which the token holds for less time.
    let (expires_at, issued_at) = (claims.exp.rounded_down(), claims.iat.rounded_down());
    // Of ours the `iat` may lie past the `exp`: after a cutoff that was set by a clock ahead, see [`mint_after`](super::mint::mint_after).
    if origin == Origin::Foreign && expires_at <= issued_at {
        return Err(Claim::Exp.fails(ClaimError::NotAfterIat).into());
    }
    let identity = claims.identity()?;
    if expires_at > issued_at.plus(rules.max_lifetime) {
        return Err(Denial::TokenLifetime.into());
    }
    Ok(Verified {
        id: TokenId::of(parts.signed),
        fields: identity.fields().ok_or(Denial::TokenClaims)?,
        folded_email: folded_email(&identity),
        identity,
        origin,
        issued_at,
        expires_at,
        not_before: claims.nbf.map(NumericDate::rounded_up),
        key: key.fingerprint(),
        generation: keys.generation(),
    })
}

/// The e-mail address as cutoffs have it, where that is another text.
pub fn folded_email(identity: &Identity) -> Option<Box<str>> {
    let folded = fold_email(&identity.email);
    (folded != *identity.email).then(|| folded.into())
}

/// The key that the header names, or else the foreign key whose signature it is.
fn choose_key<'k>(header: &Header, parts: &Parts<'_>, keys: &'k KeySet) -> Result<&'k Key, Denial> {
    let algorithm = Algorithm::parse(&header.alg).ok_or(Denial::TokenAlgorithm)?;
    if let Some(kid) = header.kid.as_deref() {
        let key = keys.by_kid(kid).ok_or(Denial::TokenKey)?;
        if key.algorithm() != algorithm {
            return Err(Denial::TokenAlgorithm);
        }
        return key.verifies(parts.signed, parts.signature).then_some(key).ok_or(Denial::TokenSignature);
    }
    let mut denial = Denial::TokenKey;
    for key in keys.iter().filter(|key| key.foreign()) {
        if key.algorithm() != algorithm {
            denial = Denial::TokenAlgorithm;
        } else if key.verifies(parts.signed, parts.signature) {
            return Ok(key);
        } else {
            denial = Denial::TokenSignature;
        }
    }
    Err(denial)
}
