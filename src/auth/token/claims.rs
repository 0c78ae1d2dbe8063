//! Header and claims, as tokens carry them.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};

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
#[derive(Deserialize)]
pub(super) struct Claims {
    pub(super) exp: UnixTime,
    pub(super) iat: UnixTime,
    #[serde(default, deserialize_with = "present")]
    pub(super) nbf: Option<UnixTime>,
    pub(super) database: String,
    pub(super) email: String,
    pub(super) user: String,
    #[serde(default, deserialize_with = "present")]
    pub(super) jti: Option<String>,
    #[serde(flatten)]
    pub(super) other: HashMap<String, IgnoredAny>,
}

impl Claims {
    pub(super) fn identity(&self) -> Option<Identity> {
        check_email(&self.email).ok()?;
        Some(Identity {
            user: Name::parse_user(&self.user).ok()?,
            email: self.email.as_str().into(),
            organization: Name::parse(&self.database).ok()?,
        })
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

/// An optional member that, where it is present, must have its type: `null` is not absence.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(source: D) -> Result<Option<T>, D::Error> {
    T::deserialize(source).map(Some)
}

/// Header members that change what a token means or where its key comes from. `crit` announces members
/// that must be understood (RFC 7515 §4.1.11); none is.
pub(super) const REFUSED_MEMBERS: [&str; 9] =
    ["crit", "b64", "jku", "jwk", "x5u", "x5c", "zip", "enc", "cty"];
