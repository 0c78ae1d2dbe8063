//! scrypt, as PHC, passlib, Django and Werkzeug write it.

use argon2::password_hash::phc::PasswordHash;
use scrypt::{Params, scrypt};
use subtle::ConstantTimeEq as _;

use super::cost::Cost;
use super::encoding::{base64, decimal, hexadecimal};
use super::error::PhcError;

/// An scrypt hash, taken apart.
pub(super) struct Hash {
    params: Params,
    factors: [u32; 3],
    salt: Vec<u8>,
    output: Vec<u8>,
}

impl Hash {
    /// `$scrypt$ln=15,r=8,p=1$SALT$DIGEST`, which passlib writes too.
    pub(super) fn parse(text: &str) -> Result<Self, PhcError> {
        let hash = PasswordHash::new(text).map_err(|_| MALFORMED)?;
        let parameter = |name: &str| hash.params.get_decimal(name);
        let (Some(log_n), Some(r), Some(p)) = (parameter("ln"), parameter("r"), parameter("p")) else {
            return Err(MALFORMED);
        };
        let (Some(salt), Some(output)) = (hash.salt, hash.hash) else { return Err(MALFORMED) };
        if hash.algorithm.as_str() != "scrypt" || hash.params.iter().count() != 3 || hash.version.is_some() {
            return Err(MALFORMED);
        }
        Self::with([log_n, r, p], salt.to_vec(), output.as_bytes().to_vec())
    }

    /// `scrypt$16384$SALT$8$5$DIGEST`
    pub(super) fn parse_django(text: &str) -> Result<Self, PhcError> {
        let fields: Vec<&str> = text.split('$').collect();
        let ["scrypt", n, salt, r, p, output] = *fields.as_slice() else { return Err(MALFORMED) };
        Self::with(parameters(n, r, p)?, salt.into(), base64(output).ok_or(MALFORMED)?)
    }

    /// `scrypt:32768:8:1$SALT$DIGEST`
    pub(super) fn parse_werkzeug(text: &str) -> Result<Self, PhcError> {
        let fields: Vec<&str> = text.split(['$', ':']).collect();
        let ["scrypt", n, r, p, salt, output] = *fields.as_slice() else { return Err(MALFORMED) };
        Self::with(parameters(n, r, p)?, salt.into(), hexadecimal(output).ok_or(MALFORMED)?)
    }

    fn with([log_n, r, p]: [u32; 3], salt: Vec<u8>, output: Vec<u8>) -> Result<Self, PhcError> {
        if salt.is_empty() || ![32, 64].contains(&output.len()) {
            return Err(MALFORMED);
        }
        let is_bearable = (10..=17).contains(&log_n) && (1..=32).contains(&r) && (1..=16).contains(&p);
        if !is_bearable || 128 * (u64::from(r) << log_n) > MEMORY {
            return Err(PhcError::Cost(
                "has costs out of bounds: N from 2^10, p up to 16 and up to 128 MiB for scrypt",
            ));
        }
        let params =
            u8::try_from(log_n).ok().and_then(|log_n| Params::new(log_n, r, p).ok()).ok_or(MALFORMED)?;
        Ok(Self { params, factors: [log_n, r, p], salt, output })
    }

    pub(super) fn verify(&self, password: &[u8]) -> bool {
        let mut output = vec![0; self.output.len()];
        scrypt(password, &self.salt, &self.params, &mut output).is_ok() && output.ct_eq(&self.output).into()
    }

    pub(super) fn cost(&self) -> Cost {
        let [log_n, r, p] = self.factors;
        Cost {
            algorithm: "scrypt",
            factors: self.factors,
            parameters: format!("N=2^{log_n}, r={r} and p={p}"),
        }
    }
}

/// With the logarithm of N, which is a power of two.
fn parameters(n: &str, r: &str, p: &str) -> Result<[u32; 3], PhcError> {
    let n = decimal(n).filter(|n| n.is_power_of_two()).ok_or(MALFORMED)?;
    Ok([n.ilog2(), decimal(r).ok_or(MALFORMED)?, decimal(p).ok_or(MALFORMED)?])
}

/// The most that one login takes, in bytes.
const MEMORY: u64 = 128 << 20;

const MALFORMED: PhcError = PhcError::Malformed(
    "is not a whole scrypt hash: N (a power of two), r, p, a salt and a digest of 32 or 64 bytes, as PHC strings, passlib, Django or \
     Werkzeug have them",
);
