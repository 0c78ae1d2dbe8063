//! Argon2: what new hashes are made with, and what others have made of it.

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};

use super::cost::Cost;
use super::error::PhcError;
use crate::auth::secret::Secret;

/// What Argon2 works in. Anyone who hashes one password after the other keeps it: 19 MiB taken from the system and given back
/// each time are two fifths of a login.
#[derive(Default)]
pub struct HashMemory(Vec<Block>);

impl HashMemory {
    /// Gives it back to the allocator; what comes next takes it again.
    pub fn release(&mut self) {
        self.0 = Vec::new();
    }

    /// `None` if it is not to be had, or `context` cannot hash this.
    fn hash(&mut self, context: &Argon2<'_>, password: &Secret, salt: &[u8]) -> Option<Output> {
        let wanted = context.params().block_count();
        if self.0.len() < wanted {
            self.release();
            self.0.try_reserve_exact(wanted).ok()?;
            self.0.resize(wanted, Block::new());
        }
        let mut bytes = [0; Output::MAX_LENGTH];
        let out = bytes.get_mut(..context.params().output_len().unwrap_or(Params::DEFAULT_OUTPUT_LEN))?;
        let done =
            context.hash_password_into_with_memory(password.expose_secret(), salt, out, &mut self.0[..]);
        // An imported hash may want many times of what today's do.
        if wanted > current().params().block_count() {
            self.release();
        }
        done.ok()?;
        Output::new(out).ok()
    }
}

/// A PHC string of Argon2, taken apart.
pub(super) struct Hash {
    context: Argon2<'static>,
    algorithm: Algorithm,
    version: Version,
    salt: Salt,
    output: Output,
}

impl Hash {
    pub(super) fn parse(text: &str) -> Result<Self, PhcError> {
        let hash = PasswordHash::new(text).map_err(|_| MALFORMED)?;
        let algorithm = Algorithm::try_from(hash.algorithm.as_str()).map_err(|_| MALFORMED)?;
        let version =
            hash.version.map_or(Ok(Version::default()), Version::try_from).map_err(|_| MALFORMED)?;
        let params = Params::try_from(&hash).map_err(|_| MALFORMED)?;
        let (Some(salt), Some(output)) = (hash.salt, hash.hash) else { return Err(MALFORMED) };
        if params.m_cost() > 256 * 1024 || params.t_cost() > 16 || params.p_cost() > 16 {
            return Err(PhcError::Cost(
                "has costs out of bounds: at most 256 MiB, 16 passes and 16 lanes for Argon2",
            ));
        }
        Ok(Self { context: Argon2::new(algorithm, version, params), algorithm, version, salt, output })
    }

    /// A new one (19 MiB, two passes, one lane: OWASP's floor), as its PHC string.
    pub(super) fn make(password: &Secret, salt: [u8; 16], memory: &mut HashMemory) -> Option<String> {
        let context = current();
        let hash = PasswordHash {
            algorithm: Algorithm::Argon2id.ident(),
            version: Some(Version::V0x13.into()),
            params: ParamsString::try_from(context.params()).ok()?,
            salt: Some(Salt::new(&salt).ok()?),
            hash: Some(memory.hash(&context, password, &salt)?),
        };
        Some(hash.to_string())
    }

    pub(super) fn verify(&self, password: &Secret, memory: &mut HashMemory) -> bool {
        // `==` of an `Output` takes constant time.
        memory.hash(&self.context, password, &self.salt).is_some_and(|output| output == self.output)
    }

    pub(super) fn is_current(&self) -> bool {
        let costs = |params: &Params| (params.m_cost(), params.t_cost(), params.p_cost());
        (self.algorithm, self.version) == (Algorithm::Argon2id, Version::V0x13)
            && costs(self.context.params()) == costs(&Params::DEFAULT)
    }

    pub(super) fn cost(&self) -> Cost {
        let params = self.context.params();
        let (m, t, p) = (params.m_cost(), params.t_cost(), params.p_cost());
        Cost {
            algorithm: self.algorithm.as_str(),
            factors: [m, t, p],
            parameters: format!("{m} KiB, {t} passes and {p} lanes"),
        }
    }
}

fn current() -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::DEFAULT)
}

const MALFORMED: PhcError = PhcError::Malformed(
    "is not a whole Argon2 hash ($argon2id$v=19$m=…,t=…,p=…$ and salt and digest of 10 to 64 bytes)",
);

#[cfg(test)]
mod tests {
    use super::*;

    use argon2::PasswordHasher as _;
    use argon2::PasswordVerifier as _;

    #[test]
    fn hash_of_every_kind_is_verified_as_its_own_crate_does() {
        let mut memory = HashMemory::default();
        let today = current().params().block_count();
        for (algorithm, version, m, t, p, output, data) in [
            (Algorithm::Argon2id, Version::V0x13, 64, 2, 1, 32, &b""[..]),
            (Algorithm::Argon2i, Version::V0x13, 64, 3, 2, 16, b""),
            (Algorithm::Argon2d, Version::V0x13, 128, 1, 4, 64, b""),
            (Algorithm::Argon2id, Version::V0x10, 64, 2, 1, 32, b""),
            (Algorithm::Argon2id, Version::V0x13, 64, 2, 1, 32, b"some data"),
            // More than today's, and less again.
            (Algorithm::Argon2id, Version::V0x13, 2 * Params::DEFAULT_M_COST, 1, 1, 32, b""),
            (Algorithm::Argon2id, Version::V0x13, 8, 1, 1, 10, b""),
        ] {
            let mut params = argon2::ParamsBuilder::new();
            params.m_cost(m).t_cost(t).p_cost(p).output_len(output);
            params.data(argon2::AssociatedData::new(data).unwrap());
            let context = Argon2::new(algorithm, version, params.build().unwrap());
            let hash = context.hash_password_with_salt(b"right", &[3; 16]).unwrap();
            let text = hash.to_string();
            let parsed = Hash::parse(&text).unwrap();
            for password in ["right", "wrong", ""] {
                let expected = current().verify_password(password.as_bytes(), &hash).is_ok();
                assert_eq!(expected, password == "right", "{text}");
                let secret = Secret::new(password.as_bytes().to_vec());
                assert_eq!(parsed.verify(&secret, &mut memory), expected, "{text}");
            }
            assert!(memory.0.len() <= today, "so much is not kept");
        }
    }
}
