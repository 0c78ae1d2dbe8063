//! The token: how it is minted, and what must hold before one is believed.
//!
//! [`verify`] checks what never changes for a given key ring: shape, key, signature, claims. What depends
//! on the moment is asked of the [`Verified`] it returns, every time: [`Verified::check_time`] here, the
//! marks in [`revocation`](super::revocation). That split is what lets a verified identity be kept without
//! ever keeping a verdict.

use std::collections::HashMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest, Sha256};

use super::denial::Denial;
use super::identity::Identity;
use super::keys::{Algorithm, Fingerprint, Key, KeyRing};
use super::name::{Name, check_email};
use super::time::UnixTime;

/// Names a token in logs, the store and the command line, and is no secret: the first 16 bytes of SHA-256
/// over `header.payload` as received, written as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(pub [u8; 16]);

impl TokenId {
    /// Of the signed part of a token, everything before its last dot.
    pub fn of(signed: &[u8]) -> Self {
        let digest: [u8; 32] = Sha256::digest(signed).into();
        let mut id = [0; 16];
        id.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        Self(id)
    }
}

impl TokenId {
    /// From its 32 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let mut id = [0; 16];
        if text.len() != 32 || !text.is_ascii() {
            return None;
        }
        for (byte, at) in id.iter_mut().zip((0..32).step_by(2)) {
            let digits = text.get(at..at + 2)?;
            if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return None;
            }
            *byte = u8::from_str_radix(digits, 16).ok()?;
        }
        Some(Self(id))
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How tokens are minted and how far they are believed. Durations are in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenRules {
    /// `exp − iat` of a minted token.
    pub lifetime: u64,
    /// The largest `exp − iat` that is accepted.
    pub max_lifetime: u64,
    /// How far ahead of our clock an `iat` may be.
    pub max_skew: u64,
    /// The longest token, in bytes, that is looked at.
    pub max_bytes: usize,
    /// Foreign tokens of users that the store does not know.
    pub unknown_users: UnknownUsers,
}

impl TokenRules {
    /// How long a revocation is remembered, in seconds of lived time: twice as long as any token can live, and a day. By then
    /// a token that it is about has expired, by whatever clock it was minted.
    pub const fn retention(&self) -> u64 {
        self.max_lifetime.saturating_mul(2).saturating_add(24 * 3600)
    }

    /// A day, an hour more for what the platform mints, and nobody unknown.
    pub const DEFAULT: Self = Self {
        lifetime: 24 * 3600,
        max_lifetime: 25 * 3600,
        max_skew: 5,
        max_bytes: 8192,
        unknown_users: UnknownUsers::Refuse,
    };
}

/// What happens to a foreign token whose user is not in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownUsers {
    /// 401.
    Refuse,
    /// The claims are believed.
    Accept,
}

/// Who minted a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This gateway's store, which gave it this number.
    Ours {
        /// The place in the store's order, from `jti`.
        number: u64,
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
    /// The [generation](KeyRing::generation) of the ring that the key was in.
    pub generation: u64,
}

impl Verified {
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
        if self.not_before.is_some_and(|moment| moment > now) {
            return Err(Denial::TokenNotYetValid);
        }
        // Minted by a clock that was ahead: it must not live longer for that.
        if self.expires_at > ahead.plus(rules.max_lifetime) {
            return Err(Denial::TokenLifetime);
        }
        Ok(())
    }
}

/// Checks shape, key, signature and claims of a token as received.
///
/// Nothing is parsed before the size is known to be bounded, and no claim is read before the signature
/// holds.
pub fn verify(token: &[u8], keys: &KeyRing, rules: &TokenRules) -> Result<Verified, Denial> {
    if token.len() > rules.max_bytes {
        return Err(Denial::TokenOversized);
    }
    let parts = Parts::split(token).ok_or(Denial::TokenMalformed)?;
    let header: Header = decode(parts.header).ok_or(Denial::TokenMalformed)?;
    if REFUSED_MEMBERS.iter().any(|name| header.other.contains_key(*name)) {
        return Err(Denial::TokenHeader);
    }
    if header.typ.as_deref().is_some_and(|typ| !typ.eq_ignore_ascii_case("JWT")) {
        return Err(Denial::TokenHeader);
    }
    let key = choose_key(&header, &parts, keys)?;
    let claims: Claims = decode(parts.claims).ok_or(Denial::TokenClaims)?;
    let origin = match claims.jti.as_deref().and_then(number_of) {
        Some(number) => {
            let exact = header.kid.is_some() && header.typ.as_deref() == Some("JWT");
            if !exact || !header.other.is_empty() {
                return Err(Denial::TokenHeader);
            }
            if claims.nbf.is_some() || !claims.other.is_empty() {
                return Err(Denial::TokenClaims);
            }
            Origin::Ours { number }
        }
        None if key.foreign() => Origin::Foreign,
        None => return Err(Denial::TokenForeign),
    };
    // Of ours the `iat` may lie past the `exp`: after a cutoff that was set by a clock ahead, see [`mint_after`].
    if origin == Origin::Foreign && claims.exp <= claims.iat {
        return Err(Denial::TokenClaims);
    }
    let identity = claims.identity().ok_or(Denial::TokenClaims)?;
    if claims.exp > claims.iat.plus(rules.max_lifetime) {
        return Err(Denial::TokenLifetime);
    }
    Ok(Verified {
        id: TokenId::of(parts.signed),
        fields: identity.fields().ok_or(Denial::TokenClaims)?,
        identity,
        origin,
        issued_at: claims.iat,
        expires_at: claims.exp,
        not_before: claims.nbf,
        key: key.fingerprint(),
        generation: keys.generation(),
    })
}

/// A token that was just made.
pub struct Minted {
    /// The compact serialization (RFC 7515 §3.1): the secret that the client holds.
    pub token: String,
    /// The token's name.
    pub id: TokenId,
    /// Its `exp`.
    pub expires_at: UnixTime,
}

impl fmt::Debug for Minted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Minted")
            .field("id", &self.id)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// Makes the token number `number` for `identity`, issued at `now`.
///
/// `random` keeps two tokens of one number in two stores apart. `None` only if the claims cannot be
/// serialized, which these types exclude.
pub fn mint(
    identity: &Identity,
    number: u64,
    random: [u8; 16],
    now: UnixTime,
    rules: &TokenRules,
    signer: &Key,
) -> Option<Minted> {
    mint_after(UnixTime(0), identity, number, random, now, rules, signer)
}

/// The same for a token that comes after a cutoff of that time: its `iat` is no earlier, while its life is counted from `now`, so
/// that a cutoff that was set by a clock ahead makes no token live longer. The `exp` may then lie before the `iat`.
pub fn mint_after(
    cutoff: UnixTime,
    identity: &Identity,
    number: u64,
    random: [u8; 16],
    now: UnixTime,
    rules: &TokenRules,
    signer: &Key,
) -> Option<Minted> {
    let (issued_at, expires_at) = (now.max(cutoff), now.plus(rules.lifetime));
    let token = signer.sign(&MintedClaims {
        exp: expires_at,
        iat: issued_at,
        database: identity.organization.as_str(),
        email: &identity.email,
        user: identity.user.as_str(),
        jti: format!("{number}.{}", URL_SAFE_NO_PAD.encode(random)),
    })?;
    let (signed, _) = token.rsplit_once('.')?;
    let id = TokenId::of(signed.as_bytes());
    Some(Minted { token, id, expires_at })
}

/// The three parts of a compact serialization, and the bytes that its signature covers.
struct Parts<'t> {
    signed: &'t [u8],
    header: &'t str,
    claims: &'t str,
    signature: &'t str,
}

impl<'t> Parts<'t> {
    /// `None` unless there are exactly three parts, none empty, all of the base64url alphabet.
    fn split(token: &'t [u8]) -> Option<Self> {
        let text = std::str::from_utf8(token).ok()?;
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let base64url = |part: &str| {
            let in_alphabet = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            !part.is_empty() && part.bytes().all(in_alphabet)
        };
        [header, claims, signature].into_iter().all(base64url).then_some(Self {
            signed: signed.as_bytes(),
            header,
            claims,
            signature,
        })
    }
}

/// A part as JSON. Strict base64url: no padding, no stray bits, so that a token has one spelling.
fn decode<T: serde::de::DeserializeOwned>(part: &str) -> Option<T> {
    let json = URL_SAFE_NO_PAD.decode(part).ok()?;
    serde_json::from_slice(&json).ok()
}

/// The key that the header names, or else the foreign key whose signature it is.
fn choose_key<'k>(header: &Header, parts: &Parts<'_>, keys: &'k KeyRing) -> Result<&'k Key, Denial> {
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

/// The number in a `jti` of ours, `<n>.<22 characters of base64url>`.
fn number_of(jti: &str) -> Option<u64> {
    let (number, random) = jti.split_once('.')?;
    let decoded: [u8; 16] = URL_SAFE_NO_PAD.decode(random).ok()?.try_into().ok()?;
    let canonical = URL_SAFE_NO_PAD.encode(decoded) == random
        && number.bytes().all(|byte| byte.is_ascii_digit())
        && !number.starts_with('0');
    canonical.then(|| number.parse().ok()).flatten()
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default, deserialize_with = "present")]
    typ: Option<String>,
    #[serde(default, deserialize_with = "present")]
    kid: Option<String>,
    #[serde(flatten)]
    other: HashMap<String, IgnoredAny>,
}

#[derive(Deserialize)]
struct Claims {
    exp: UnixTime,
    iat: UnixTime,
    #[serde(default, deserialize_with = "present")]
    nbf: Option<UnixTime>,
    database: String,
    email: String,
    user: String,
    #[serde(default, deserialize_with = "present")]
    jti: Option<String>,
    #[serde(flatten)]
    other: HashMap<String, IgnoredAny>,
}

impl Claims {
    fn identity(&self) -> Option<Identity> {
        check_email(&self.email).ok()?;
        Some(Identity {
            user: Name::parse_user(&self.user).ok()?,
            email: self.email.as_str().into(),
            organization: Name::parse(&self.database).ok()?,
        })
    }
}

#[derive(Serialize)]
struct MintedClaims<'c> {
    exp: UnixTime,
    iat: UnixTime,
    database: &'c str,
    email: &'c str,
    user: &'c str,
    jti: String,
}

/// An optional member that, where it is present, must have its type: `null` is not absence.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(source: D) -> Result<Option<T>, D::Error> {
    T::deserialize(source).map(Some)
}

/// Header members that change what a token means or where its key comes from. `crit` announces members
/// that must be understood (RFC 7515 §4.1.11); none is.
const REFUSED_MEMBERS: [&str; 9] = ["crit", "b64", "jku", "jwk", "x5u", "x5c", "zip", "enc", "cty"];

#[cfg(test)]
mod tests;
