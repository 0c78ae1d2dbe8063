//! `{SSHA}`, `{SSHA256}` and `{SSHA512}` of LDAP directories: one digest over password and salt, and the salt behind it.

use sha1::Sha1;
use sha2::{Sha256, Sha512};
use subtle::ConstantTimeEq as _;

use super::cost::Cost;
use super::encoding::base64;
use super::error::PhcError;

/// A salted digest, taken apart.
pub(super) struct Hash {
    digest: Digest,
    output: Vec<u8>,
    salt: Vec<u8>,
}

#[derive(Clone, Copy)]
pub(super) enum Digest {
    Sha1,
    Sha256,
    Sha512,
}

impl Hash {
    /// What is behind the closing brace.
    pub(super) fn parse(digest: Digest, text: &str) -> Result<Self, PhcError> {
        let size = match digest {
            Digest::Sha1 => 20,
            Digest::Sha256 => 32,
            Digest::Sha512 => 64,
        };
        let mut output =
            base64(text).filter(|bytes| (size + 4..=size + 64).contains(&bytes.len())).ok_or(MALFORMED)?;
        let salt = output.split_off(size);
        Ok(Self { digest, output, salt })
    }

    pub(super) fn verify(&self, password: &[u8]) -> bool {
        fn digest<D: sha2::Digest>(password: &[u8], salt: &[u8]) -> Vec<u8> {
            D::new().chain_update(password).chain_update(salt).finalize().to_vec()
        }
        let output = match self.digest {
            Digest::Sha1 => digest::<Sha1>(password, &self.salt),
            Digest::Sha256 => digest::<Sha256>(password, &self.salt),
            Digest::Sha512 => digest::<Sha512>(password, &self.salt),
        };
        output.ct_eq(&self.output).into()
    }

    pub(super) fn cost(&self) -> Cost {
        Cost::fixed(match self.digest {
            Digest::Sha1 => "salted SHA-1",
            Digest::Sha256 => "salted SHA-256",
            Digest::Sha512 => "salted SHA-512",
        })
    }
}

const MALFORMED: PhcError = PhcError::Malformed(
    "is not a whole salted digest of LDAP ({SSHA}, {SSHA256} or {SSHA512} and the base64 of the digest and 4 to 64 bytes of salt)",
);
