//! The key set: which secrets sign and verify, each pinned to one algorithm.
//!
//! The first key signs, all of them verify. A key is known outside this module by its `kid` and its
//! [`Fingerprint`], never by its bytes.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jsonwebtoken::{DecodingKey, EncodingKey};
use sha2::{Digest, Sha256};

use super::hmac;
use super::secret::Secret;

/// The HMAC algorithms of RFC 7518 §3.2. Issuer and verifier are one, so nothing is gained by others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    Hs256,
    /// HMAC with SHA-384.
    Hs384,
    /// HMAC with SHA-512.
    Hs512,
}

impl Algorithm {
    /// By its registered name, exactly.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "HS256" => Some(Self::Hs256),
            "HS384" => Some(Self::Hs384),
            "HS512" => Some(Self::Hs512),
            _ => None,
        }
    }

    /// The registered name, as in the `alg` header member.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
        }
    }

    const fn library(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::Hs256 => jsonwebtoken::Algorithm::HS256,
            Self::Hs384 => jsonwebtoken::Algorithm::HS384,
            Self::Hs512 => jsonwebtoken::Algorithm::HS512,
        }
    }
}

/// What a key is recognised by when its `kid` is not to be trusted: SHA-256 over a label and the secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    fn of(secret: &Secret) -> Self {
        let digest = Sha256::new()
            .chain_update(b"ds-gateway key fingerprint\0")
            .chain_update(secret.expose_secret())
            .finalize();
        Self(digest.into())
    }

    /// As it is written.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

/// 64 hexadecimal digits.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a secret cannot be a signing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// Fewer than 32 bytes: less than the hash's output (RFC 7518 §3.2).
    TooShort,
    /// Long enough, but a repetition or a run.
    TooUniform,
    /// Looks like a PEM file: a public key as an HMAC secret is known to everybody.
    Pem,
    /// Two keys of one key set have this `kid`.
    RepeatedKid,
    /// A `kid` outside 1–64 characters of `A–Z a–z 0–9 . _ -`.
    BadKid,
    /// No key at all.
    EmptyRing,
}

impl KeyError {
    /// The reason as the second half of a sentence.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooShort => "is shorter than 32 bytes; make one with `openssl rand -base64 48`",
            Self::TooUniform => "has fewer than 8 different bytes; make one with `openssl rand -base64 48`",
            Self::Pem => "is a PEM file; an HMAC key is a random secret, not a certificate or key pair",
            Self::RepeatedKid => "has the `kid` of another key; give each key its own",
            Self::BadKid => "has a `kid` that is not 1-64 characters of A-Z a-z 0-9 . _ -",
            Self::EmptyRing => "is required: at least one key must sign",
        }
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for KeyError {}

/// One key of the key set.
pub struct Key {
    kid: Box<str>,
    algorithm: Algorithm,
    foreign: bool,
    fingerprint: Fingerprint,
    /// The one copy of the secret; zeroed when dropped.
    decoding: DecodingKey,
}

impl Key {
    /// Checks the secret and prepares it. `foreign` admits tokens that were not minted here.
    pub fn new(kid: &str, algorithm: Algorithm, secret: &Secret, foreign: bool) -> Result<Self, KeyError> {
        let kid_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if kid.is_empty() || kid.len() > 64 || !kid.bytes().all(kid_byte) {
            return Err(KeyError::BadKid);
        }
        let bytes = secret.expose_secret();
        if bytes.len() < 32 {
            return Err(KeyError::TooShort);
        }
        if bytes.windows(11).any(|window| window == b"-----BEGIN ") {
            return Err(KeyError::Pem);
        }
        let mut seen = [false; 256];
        for &byte in bytes {
            if let Some(slot) = seen.get_mut(usize::from(byte)) {
                *slot = true;
            }
        }
        if seen.iter().filter(|&&slot| slot).count() < 8 {
            return Err(KeyError::TooUniform);
        }
        Ok(Self {
            kid: kid.into(),
            algorithm,
            foreign,
            fingerprint: Fingerprint::of(secret),
            decoding: DecodingKey::from_secret(bytes),
        })
    }

    /// The name that a token's header carries.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The one algorithm that this key signs and verifies with.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Does this key also admit tokens that were not minted here?
    pub const fn foreign(&self) -> bool {
        self.foreign
    }

    /// What the key is recognised by.
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Is `signature` (base64url) this key's over `message`? In constant time.
    pub(super) fn verifies(&self, message: &[u8], signature: &str) -> bool {
        hmac::install();
        jsonwebtoken::crypto::verify(signature, message, &self.decoding, self.algorithm.library())
            .unwrap_or(false)
    }

    /// A signed token with this key's `kid` and algorithm in its header.
    pub(crate) fn sign<T: serde::Serialize>(&self, claims: &T) -> Option<String> {
        hmac::install();
        let mut header = jsonwebtoken::Header::new(self.algorithm.library());
        header.kid = Some(self.kid.to_string());
        // Zeroed at the end of this.
        let encoding = EncodingKey::from_secret(self.decoding.try_get_as_bytes().ok()?);
        jsonwebtoken::encode(&header, claims, &encoding).ok()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("kid", &self.kid)
            .field("algorithm", &self.algorithm)
            .field("foreign", &self.foreign)
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

/// At least one key, each `kid` once.
#[derive(Debug)]
pub struct KeySet {
    signer: Arc<Key>,
    others: Vec<Arc<Key>>,
    generation: u64,
}

impl KeySet {
    /// The first of `keys` signs.
    pub fn new(keys: Vec<Key>) -> Result<Self, KeyError> {
        let mut keys = keys.into_iter();
        let signer = Arc::new(keys.next().ok_or(KeyError::EmptyRing)?);
        let generation = GENERATIONS.fetch_add(1, Ordering::Relaxed);
        let mut key_set = Self { signer, others: Vec::new(), generation };
        for key in keys {
            if key_set.by_kid(key.kid()).is_some() {
                return Err(KeyError::RepeatedKid);
            }
            key_set.others.push(Arc::new(key));
        }
        Ok(key_set)
    }

    /// The same keys, but for those that are not to be kept.
    pub fn filtered(&self, keep: impl Fn(&Key) -> bool) -> Result<Self, KeyError> {
        let mut keys = self.shared().filter(|key| keep(key)).cloned();
        let signer = keys.next().ok_or(KeyError::EmptyRing)?;
        let generation = GENERATIONS.fetch_add(1, Ordering::Relaxed);
        Ok(Self { signer, others: keys.collect(), generation })
    }

    /// The same keys, as another set: what this one verified says nothing under it.
    #[must_use]
    pub fn next_generation(&self) -> Self {
        let generation = GENERATIONS.fetch_add(1, Ordering::Relaxed);
        Self { signer: Arc::clone(&self.signer), others: self.others.clone(), generation }
    }

    /// Are the keys of both the same, and in the same order?
    pub fn has_keys_of(&self, other: &Self) -> bool {
        let of = |key: &Key| (key.fingerprint(), key.algorithm(), key.foreign());
        self.iter().map(|key| (key.kid(), of(key))).eq(other.iter().map(|key| (key.kid(), of(key))))
    }

    /// The first key, which signs unless it is revoked.
    pub fn signer(&self) -> &Key {
        &self.signer
    }

    /// Tells this key set from every other of the process: what one verified says nothing under another.
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// The key of that name.
    pub fn by_kid(&self, kid: &str) -> Option<&Key> {
        self.iter().find(|key| key.kid() == kid)
    }

    /// All keys, the signing one first.
    pub fn iter(&self) -> impl Iterator<Item = &Key> {
        self.shared().map(Arc::as_ref)
    }

    /// The same, for who keeps one.
    pub fn shared(&self) -> impl Iterator<Item = &Arc<Key>> {
        std::iter::once(&self.signer).chain(&self.others)
    }
}

static GENERATIONS: AtomicU64 = AtomicU64::new(0);

#[cfg(test)]
mod tests;
