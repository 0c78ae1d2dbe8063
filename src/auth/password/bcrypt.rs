//! bcrypt, plain and behind a digest that makes passwords of any length fit into it.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD, STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::cost::Cost;
use super::encoding::decimal;
use super::error::PhcError;

/// A bcrypt hash, taken apart.
pub(super) struct Hash {
    /// `$2b$`, the cost, `$`, 22 characters of salt and 31 of digest.
    text: String,
    cost: u32,
    /// `$2x$`: made by crypt_blowfish before 1.1, which took bytes above 127 for negative numbers.
    has_sign_bug: bool,
    input: Input,
}

/// What bcrypt is given.
enum Input {
    /// The password, of which it reads 72 bytes.
    Password,
    /// Django: SHA-256 in hexadecimal digits.
    Hexadecimal,
    /// passlib, the first version: SHA-256 in base64.
    Base64,
    /// passlib: HMAC-SHA-256 in base64, its key the salt as it is written.
    Keyed,
}

impl Hash {
    pub(super) fn parse(text: &str) -> Result<Self, PhcError> {
        Self::with(text.to_owned(), Input::Password)
    }

    /// `bcrypt$$2b$…`
    pub(super) fn parse_django(text: &str) -> Result<Self, PhcError> {
        let text = text.strip_prefix("bcrypt$").ok_or(MALFORMED)?;
        Self::with(text.to_owned(), Input::Password)
    }

    /// `bcrypt_sha256$$2b$…`
    pub(super) fn parse_django_sha256(text: &str) -> Result<Self, PhcError> {
        let text = text.strip_prefix("bcrypt_sha256$").ok_or(MALFORMED)?;
        Self::with(text.to_owned(), Input::Hexadecimal)
    }

    /// `$bcrypt-sha256$v=2,t=2b,r=12$SALT$DIGEST`, and before passlib 1.7.3 `$bcrypt-sha256$2a,12$SALT$DIGEST`
    pub(super) fn parse_passlib_sha256(text: &str) -> Result<Self, PhcError> {
        let fields: Vec<&str> = text.split('$').collect();
        let ["", "bcrypt-sha256", parameters, salt, digest] = *fields.as_slice() else {
            return Err(MALFORMED_PASSLIB);
        };
        let mut parameters = parameters.split(',');
        let [first, second, third, none] = std::array::from_fn(|_| parameters.next());
        let (version, cost, input) = match (first, second, third, none) {
            (Some("v=2"), Some(version), Some(cost), None) => {
                (version.strip_prefix("t="), cost.strip_prefix("r="), Input::Keyed)
            }
            (Some(version), Some(cost), None, None) => (Some(version), Some(cost), Input::Base64),
            _ => return Err(MALFORMED_PASSLIB),
        };
        let version =
            version.filter(|version| matches!(*version, "2a" | "2b" | "2y")).ok_or(MALFORMED_PASSLIB)?;
        let cost = cost.and_then(decimal).ok_or(MALFORMED_PASSLIB)?;
        if salt.len() != SALT {
            return Err(MALFORMED_PASSLIB);
        }
        Self::with(format!("${version}${cost:02}${salt}{digest}"), input)
    }

    fn with(text: String, input: Input) -> Result<Self, PhcError> {
        let malformed =
            if matches!(input, Input::Keyed | Input::Base64) { MALFORMED_PASSLIB } else { MALFORMED };
        let parts: bcrypt::HashParts = text.parse().map_err(|_| malformed)?;
        let cost = parts.get_cost();
        if !(4..=15).contains(&cost) {
            return Err(PhcError::Cost("has a cost out of bounds: 4 to 15 for bcrypt"));
        }
        Ok(Self { cost, has_sign_bug: text.starts_with("$2x$"), text, input })
    }

    pub(super) fn verify(&self, password: &[u8]) -> bool {
        let digest = || Zeroizing::new(<[u8; 32]>::from(Sha256::digest(password)));
        let input = match self.input {
            // bcrypt reads 72 bytes and the hash was made that way, so the rest is ignored here too.
            Input::Password if self.has_sign_bug => return self.verify_key(&*key_with_sign_bug(password)),
            Input::Password => return self.verify_input(password),
            Input::Hexadecimal => digest().iter().fold(Zeroizing::new(String::new()), |mut text, byte| {
                for digit in [byte >> 4, byte & 15] {
                    text.extend(char::from_digit(digit.into(), 16));
                }
                text
            }),
            Input::Base64 => Zeroizing::new(STANDARD.encode(*digest())),
            Input::Keyed => {
                let salt = self.text.get(DIGEST_AT - SALT..DIGEST_AT).unwrap_or_default();
                let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(salt.as_bytes()) else { return false };
                mac.update(password);
                Zeroizing::new(STANDARD.encode(mac.finalize().into_bytes()))
            }
        };
        self.verify_input(input.as_bytes())
    }

    fn verify_input(&self, input: &[u8]) -> bool {
        bcrypt::verify(input, &self.text).unwrap_or(false)
    }

    fn verify_key(&self, key: &[u8]) -> bool {
        let Ok(parts) = self.text.parse::<bcrypt::HashParts>() else { return false };
        let expected = self.text.get(DIGEST_AT..).and_then(|text| BASE_64.decode(text).ok());
        let digest = bcrypt::bcrypt(self.cost, parts.get_salt_raw(), key);
        // The last byte of the 24 is not kept.
        expected.is_some_and(|expected| digest.get(..23).is_some_and(|digest| digest.ct_eq(&expected).into()))
    }

    /// Would another password be verified as this one is? bcrypt repeats the password and the NUL behind it until it has 72 bytes. So
    /// one of 72 bytes has the tail of all that are longer, `a` is taken for `a\0a`, and with the sign bug a byte above 127 wipes out
    /// up to three before it.
    pub(super) fn is_lossy_for(&self, password: &[u8]) -> bool {
        match self.input {
            Input::Password => {
                password.len() >= KEY
                    || password.contains(&0)
                    || (self.has_sign_bug && password.iter().any(|byte| *byte > 127))
            }
            Input::Hexadecimal | Input::Base64 | Input::Keyed => false,
        }
    }

    pub(super) fn cost(&self) -> Cost {
        Cost { algorithm: "bcrypt", factors: [self.cost, 0, 0], parameters: format!("cost {}", self.cost) }
    }
}

/// The key as crypt_blowfish read it before 1.1: each byte is put behind the others of its word by an `or` with its value as a
/// signed number, so that one above 127 sets every bit before it.
fn key_with_sign_bug(password: &[u8]) -> Zeroizing<[u8; KEY]> {
    let mut bytes = password.iter().copied().chain([0]).cycle();
    let mut key = Zeroizing::new([0; KEY]);
    for word in key.as_chunks_mut::<4>().0 {
        let signed = bytes.by_ref().take(4).map(|byte| i32::from(byte.cast_signed()));
        *word = signed.fold(0, |word, byte| word << 8 | byte).to_be_bytes();
    }
    key
}

const BASE_64: GeneralPurpose = GeneralPurpose::new(&alphabet::BCRYPT, NO_PAD);

/// Bytes that bcrypt reads.
const KEY: usize = 72;

/// Characters of the salt.
const SALT: usize = 22;

/// Where the digest begins.
const DIGEST_AT: usize = 29;

const MALFORMED: PhcError =
    PhcError::Malformed("is not a whole bcrypt hash ($2b$, a cost of two digits, $ and 53 characters)");

const MALFORMED_PASSLIB: PhcError = PhcError::Malformed(
    "is not a whole hash of passlib's bcrypt_sha256 ($bcrypt-sha256$v=2,t=2b,r=…$salt$digest)",
);

#[cfg(test)]
mod tests;
