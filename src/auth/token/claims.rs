//! Header and claims, as tokens carry them.

use std::collections::HashMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::claim_fault::{Claim, ClaimError, ClaimFault};
use super::numeric_date::NumericDate;
use crate::auth::identity::Identity;
use crate::auth::name::{Name, check_email};
use crate::auth::time::UnixTime;

/// The protected header (RFC 7515 §4).
#[derive(Deserialize)]
pub(super) struct Header {
    pub(super) alg: String,
    #[serde(default, deserialize_with = "present")]
    pub(super) typ: Option<String>,
    #[serde(default, deserialize_with = "present")]
    pub(super) kid: Option<String>,
    #[serde(flatten)]
    pub(super) other: HashMap<String, IgnoredAny>,
}

/// The claims that a token must and may have.
pub(super) struct Claims {
    pub(super) exp: NumericDate,
    pub(super) iat: NumericDate,
    pub(super) nbf: Option<NumericDate>,
    pub(super) database: String,
    pub(super) email: String,
    pub(super) user: String,
    pub(super) jti: Option<String>,
    /// Are there others?
    pub(super) has_other: bool,
}

impl Claims {
    /// From the second part of a token; otherwise the first claim that is at fault, if it is one and not the JSON.
    pub(super) fn read(part: &str) -> Result<Self, Option<ClaimFault>> {
        let json = URL_SAFE_NO_PAD.decode(part).map_err(|_| None)?;
        let mut source = serde_json::Deserializer::from_slice(&json);
        let mut fault = None;
        let claims = source.deserialize_map(ClaimsVisitor { fault: &mut fault });
        claims.and_then(|claims| source.end().map(|()| claims)).map_err(|_| fault)
    }

    pub(super) fn identity(&self) -> Result<Identity, ClaimFault> {
        let fault = |claim: Claim| move |error| claim.fails(ClaimError::Text(error));
        check_email(&self.email).map_err(fault(Claim::Email))?;
        Ok(Identity {
            user: Name::parse_user(&self.user).map_err(fault(Claim::User))?,
            email: self.email.as_str().into(),
            organization: Name::parse(&self.database).map_err(fault(Claim::Database))?,
        })
    }

    /// What no token of ours has, or not so.
    pub(super) fn not_ours(&self) -> Option<ClaimFault> {
        let faults = [
            (!self.exp.is_whole(), Claim::Exp),
            (!self.iat.is_whole(), Claim::Iat),
            (self.nbf.is_some(), Claim::Nbf),
            (self.has_other, Claim::Other),
        ];
        faults.into_iter().find_map(|(is_fault, claim)| is_fault.then(|| claim.fails(ClaimError::NotOurs)))
    }
}

/// Reads claims one by one, so that the one at fault is known.
struct ClaimsVisitor<'f> {
    fault: &'f mut Option<ClaimFault>,
}

impl<'de> Visitor<'de> for ClaimsVisitor<'_> {
    type Value = Claims;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("claims")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Claims, A::Error> {
        let (mut exp, mut iat, mut nbf) = (None, None, None);
        let (mut database, mut email, mut user, mut jti) = (None, None, None, None);
        let mut has_other = false;
        while let Some(claim) = map.next_key()? {
            match claim {
                Claim::Exp => self.take(claim, &mut exp, &mut map)?,
                Claim::Iat => self.take(claim, &mut iat, &mut map)?,
                Claim::Nbf => self.take(claim, &mut nbf, &mut map)?,
                Claim::Database => self.take(claim, &mut database, &mut map)?,
                Claim::Email => self.take(claim, &mut email, &mut map)?,
                Claim::User => self.take(claim, &mut user, &mut map)?,
                Claim::Jti => self.take(claim, &mut jti, &mut map)?,
                // Read all the same: the platform may read it too, so it must be sound (its text, depth and numbers).
                Claim::Other => {
                    map.next_value::<serde_json::Value>()?;
                    has_other = true;
                }
            }
        }
        Ok(Claims {
            exp: self.required(Claim::Exp, exp)?,
            iat: self.required(Claim::Iat, iat)?,
            nbf,
            database: self.required(Claim::Database, database)?,
            email: self.required(Claim::Email, email)?,
            user: self.required(Claim::User, user)?,
            jti,
            has_other,
        })
    }
}

impl ClaimsVisitor<'_> {
    /// A claim's value, which must have its type where it is present: `null` is not absence.
    fn take<'de, A: MapAccess<'de>, T: Deserialize<'de>>(
        &mut self,
        claim: Claim,
        slot: &mut Option<T>,
        map: &mut A,
    ) -> Result<(), A::Error> {
        if slot.is_some() {
            return Err(self.fail(claim, ClaimError::Repeated));
        }
        let value = map.next_value();
        *slot = Some(value.map_err(|_: A::Error| self.fail(claim, ClaimError::Type))?);
        Ok(())
    }

    fn required<E: Error, T>(&mut self, claim: Claim, found: Option<T>) -> Result<T, E> {
        found.ok_or_else(|| self.fail(claim, ClaimError::Missing))
    }

    /// Notes the fault. The error itself only ends the reading.
    fn fail<E: Error>(&mut self, claim: Claim, reason: ClaimError) -> E {
        *self.fault = Some(claim.fails(reason));
        E::custom("a claim is at fault")
    }
}

/// The claims of a token of ours.
#[derive(Serialize)]
pub(super) struct MintedClaims<'c> {
    pub(super) exp: UnixTime,
    pub(super) iat: UnixTime,
    pub(super) database: &'c str,
    pub(super) email: &'c str,
    pub(super) user: &'c str,
    pub(super) jti: String,
}

/// The number in a `jti` of ours, `<n>.<22 characters of base64url>`.
pub(super) fn number_of(jti: &str) -> Option<u64> {
    let (number, random) = jti.split_once('.')?;
    let decoded: [u8; 16] = URL_SAFE_NO_PAD.decode(random).ok()?.try_into().ok()?;
    let canonical = URL_SAFE_NO_PAD.encode(decoded) == random
        && number.bytes().all(|byte| byte.is_ascii_digit())
        && !number.starts_with('0');
    canonical.then(|| number.parse().ok()).flatten()
}

/// An optional member of the header that, where it is present, must have its type: `null` is not absence.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(source: D) -> Result<Option<T>, D::Error> {
    T::deserialize(source).map(Some)
}

/// Header members that change what a token means or where its key comes from. `crit` announces members
/// that must be understood (RFC 7515 §4.1.11); none is.
pub(super) const REFUSED_MEMBERS: [&str; 9] =
    ["crit", "b64", "jku", "jwk", "x5u", "x5c", "zip", "enc", "cty"];
