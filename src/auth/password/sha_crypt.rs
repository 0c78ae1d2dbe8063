//! SHA-256-crypt and SHA-512-crypt, `$5$` and `$6$` of crypt(3).

use sha_crypt::{PasswordVerifier as _, ShaCrypt};

use super::cost::Cost;
use super::encoding::decimal;
use super::error::PhcError;

/// A hash of SHA-crypt, taken apart as far as is needed here.
pub(super) struct Hash<'t> {
    text: &'t str,
    algorithm: &'static str,
    rounds: u32,
}

impl<'t> Hash<'t> {
    /// `$6$SALT$DIGEST` or `$6$rounds=5000$SALT$DIGEST`
    pub(super) fn parse(text: &'t str) -> Result<Self, PhcError> {
        let fields: Vec<&str> = text.split('$').collect();
        let (id, rounds, salt, digest) = match *fields.as_slice() {
            ["", id, salt, digest] => (id, DEFAULT_ROUNDS, salt, digest),
            ["", id, rounds, salt, digest] => {
                let rounds = rounds.strip_prefix("rounds=").and_then(decimal).ok_or(MALFORMED)?;
                (id, rounds, salt, digest)
            }
            _ => return Err(MALFORMED),
        };
        // The last character has what is left of the digest: four bits, or two. Any other would be refused before anything is hashed.
        let (algorithm, length, last) = match id {
            "5" => ("sha256-crypt", 43, "./0123456789ABCD"),
            "6" => ("sha512-crypt", 86, "./01"),
            _ => return Err(MALFORMED),
        };
        let is_crypt =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"./".contains(&byte));
        if !(1..=16).contains(&salt.len())
            || digest.len() != length
            || !digest.ends_with(|end| last.contains(end))
            || !is_crypt(salt)
            || !is_crypt(digest)
        {
            return Err(MALFORMED);
        }
        // crypt(3) takes fewer for 1,000: what is written is not what was done.
        if !(1_000..=1_000_000).contains(&rounds) {
            return Err(PhcError::Cost("has costs out of bounds: 1,000 to 1,000,000 rounds for SHA-crypt"));
        }
        Ok(Self { text, algorithm, rounds })
    }

    pub(super) fn verify(&self, password: &[u8]) -> bool {
        ShaCrypt::default().verify_password(password, self.text).is_ok()
    }

    pub(super) fn cost(&self) -> Cost {
        let Self { algorithm, rounds, .. } = *self;
        Cost { algorithm, factors: [rounds, 0, 0], parameters: format!("{rounds} rounds") }
    }
}

/// Where none are written.
const DEFAULT_ROUNDS: u32 = 5_000;

const MALFORMED: PhcError = PhcError::Malformed(
    "is not a whole SHA-crypt hash ($5$ or $6$, perhaps rounds=…$, a salt of up to 16 characters, $ and 43 or 86 characters)",
);
