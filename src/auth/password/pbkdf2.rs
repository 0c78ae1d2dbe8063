//! PBKDF2 with HMAC, as PHC, passlib, Django and Werkzeug write it.

use argon2::password_hash::phc::PasswordHash;
use pbkdf2::pbkdf2_hmac;
use sha1::Sha1;
use sha2::{Sha256, Sha512};
use subtle::ConstantTimeEq as _;

use super::cost::Cost;
use super::encoding::{adapted_base64, base64, decimal, hexadecimal};
use super::error::PhcError;

/// A PBKDF2 hash, taken apart.
pub(super) struct Hash {
    digest: Digest,
    rounds: u32,
    salt: Vec<u8>,
    output: Vec<u8>,
}

#[derive(Clone, Copy)]
enum Digest {
    Sha1,
    Sha256,
    Sha512,
}

impl Digest {
    /// Its name in all the forms that there are.
    fn parse(name: &str) -> Result<Self, PhcError> {
        match name {
            "sha1" => Ok(Self::Sha1),
            "sha256" => Ok(Self::Sha256),
            "sha512" => Ok(Self::Sha512),
            _ => Err(PhcError::Refused("is PBKDF2 with a digest other than SHA-1, SHA-256 and SHA-512")),
        }
    }

    const fn algorithm(self) -> &'static str {
        match self {
            Self::Sha1 => "pbkdf2-sha1",
            Self::Sha256 => "pbkdf2-sha256",
            Self::Sha512 => "pbkdf2-sha512",
        }
    }

    const fn size(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }
}

impl Hash {
    /// `$pbkdf2-sha256$i=600000,l=32$SALT$DIGEST`, and passlib's `$pbkdf2-sha256$29000$SALT$DIGEST`, where `$pbkdf2$` is SHA-1.
    pub(super) fn parse(text: &str) -> Result<Self, PhcError> {
        let fields: Vec<&str> = text.split('$').collect();
        let ["", name, parameters, salt, output] = *fields.as_slice() else { return Err(MALFORMED) };
        let digest = match name.strip_prefix("pbkdf2").ok_or(MALFORMED)? {
            "" => Digest::Sha1,
            name => Digest::parse(name.strip_prefix('-').ok_or(MALFORMED)?)?,
        };
        if !parameters.contains('=') {
            return Self::with(
                digest,
                digest.size(),
                decimal(parameters),
                adapted_base64(salt),
                adapted_base64(output),
            );
        }
        let hash = PasswordHash::new(text).map_err(|_| MALFORMED)?;
        if hash.version.is_some() || hash.params.iter().any(|(name, _)| !["i", "l"].contains(&name.as_str()))
        {
            return Err(MALFORMED);
        }
        let (Some(salt), Some(output)) = (hash.salt, hash.hash) else { return Err(MALFORMED) };
        // Here alone another length may be chosen, which is written down beside it.
        let length = hash.params.get_decimal("l").map_or(digest.size(), |length| length as usize);
        Self::with(
            digest,
            length,
            hash.params.get_decimal("i"),
            Some(salt.to_vec()),
            Some(output.as_bytes().to_vec()),
        )
    }

    /// `pbkdf2_sha256$1000000$SALT$DIGEST`
    pub(super) fn parse_django(text: &str) -> Result<Self, PhcError> {
        let fields: Vec<&str> = text.split('$').collect();
        let [name, rounds, salt, output] = *fields.as_slice() else { return Err(MALFORMED) };
        let digest = Digest::parse(name.strip_prefix("pbkdf2_").ok_or(MALFORMED)?)?;
        Self::with(digest, digest.size(), decimal(rounds), Some(salt.into()), base64(output))
    }

    /// `pbkdf2:sha256:600000$SALT$DIGEST`
    pub(super) fn parse_werkzeug(text: &str) -> Result<Self, PhcError> {
        let fields: Vec<&str> = text.split(['$', ':']).collect();
        let ["pbkdf2", digest, rounds, salt, output] = *fields.as_slice() else { return Err(MALFORMED) };
        let digest = Digest::parse(digest)?;
        Self::with(digest, digest.size(), decimal(rounds), Some(salt.into()), hexadecimal(output))
    }

    fn with(
        digest: Digest,
        length: usize,
        rounds: Option<u32>,
        salt: Option<Vec<u8>>,
        output: Option<Vec<u8>>,
    ) -> Result<Self, PhcError> {
        let (Some(rounds), Some(salt), Some(output)) = (rounds, salt, output) else { return Err(MALFORMED) };
        if salt.is_empty() || output.len() != length || !(16..=64).contains(&length) {
            return Err(MALFORMED);
        }
        if !(1_000..=10_000_000).contains(&rounds) {
            return Err(PhcError::Cost("has costs out of bounds: 1,000 to 10,000,000 rounds for PBKDF2"));
        }
        Ok(Self { digest, rounds, salt, output })
    }

    pub(super) fn verify(&self, password: &[u8]) -> bool {
        let mut output = vec![0; self.output.len()];
        match self.digest {
            Digest::Sha1 => pbkdf2_hmac::<Sha1>(password, &self.salt, self.rounds, &mut output),
            Digest::Sha256 => pbkdf2_hmac::<Sha256>(password, &self.salt, self.rounds, &mut output),
            Digest::Sha512 => pbkdf2_hmac::<Sha512>(password, &self.salt, self.rounds, &mut output),
        }
        output.ct_eq(&self.output).into()
    }

    pub(super) fn cost(&self) -> Cost {
        // Each piece of the digest's size takes all the rounds again.
        let pieces = self.output.len().div_ceil(self.digest.size()) as u32;
        let rounds = self.rounds;
        let parameters =
            if pieces == 1 { format!("{rounds} rounds") } else { format!("{pieces} times {rounds} rounds") };
        Cost { algorithm: self.digest.algorithm(), factors: [rounds, pieces, 0], parameters }
    }
}

const MALFORMED: PhcError = PhcError::Malformed(
    "is not a whole PBKDF2 hash: rounds, a salt and a digest, as PHC strings, passlib, Django or Werkzeug have them",
);
