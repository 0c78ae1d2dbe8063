//! Password hashes: Argon2id is made, Argon2, bcrypt and PBKDF2 are understood.

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, PasswordVerifier, Version};
use std::fmt;

use super::secret::Secret;

/// A stored password hash: a PHC string, or a bcrypt string in its own older form.
#[derive(Clone, PartialEq, Eq)]
pub struct Phc(Box<str>);

/// What Argon2 works in. Whoever hashes one password after the other keeps it: 19 MiB taken from the system and given back
/// each time are two fifths of a login.
#[derive(Default)]
pub struct HashMemory(Vec<Block>);

/// Why a text is no password hash that this gateway would check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PhcError {
    /// Neither a PHC string nor a bcrypt string.
    Malformed,
    /// An algorithm other than Argon2, bcrypt and PBKDF2.
    Algorithm,
    /// Costs so high that one login could stall the gateway, or so low that they protect nothing.
    Cost,
}

impl PhcError {
    /// The reason as the second half of a sentence.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "is not a PHC or bcrypt string",
            Self::Algorithm => {
                "is of an unknown kind; argon2id, argon2i, argon2d, bcrypt (2a, 2b, 2x, 2y), \
                 pbkdf2-sha256 and pbkdf2-sha512 are understood"
            }
            Self::Cost => {
                "has costs out of bounds (argon2: at most 256 MiB and 16 passes; bcrypt: 4 to 15; \
                 pbkdf2: 1,000 to 10,000,000 rounds)"
            }
        }
    }
}

impl fmt::Display for PhcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for PhcError {}

impl HashMemory {
    /// Gives it back to the allocator; what comes next takes it anew.
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

impl Phc {
    /// The longest password, in bytes, that is hashed at all.
    pub const MAX_PASSWORD: usize = 1024;

    /// Checks that a stored or imported hash can be verified at a bearable cost.
    pub fn parse(text: &str) -> Result<Self, PhcError> {
        if is_bcrypt(text) {
            let parts: bcrypt::HashParts = text.parse().map_err(|_| PhcError::Malformed)?;
            return if (4..=15).contains(&parts.get_cost()) {
                Ok(Self(text.into()))
            } else {
                Err(PhcError::Cost)
            };
        }
        let hash = PasswordHash::new(text).map_err(|_| PhcError::Malformed)?;
        if hash.salt.is_none() || hash.hash.is_none() {
            return Err(PhcError::Malformed);
        }
        let bearable = match hash.algorithm.as_str() {
            "argon2id" | "argon2i" | "argon2d" => {
                let params = Params::try_from(&hash).map_err(|_| PhcError::Malformed)?;
                params.m_cost() <= 256 * 1024 && params.t_cost() <= 16 && params.p_cost() <= 16
            }
            "pbkdf2-sha256" | "pbkdf2-sha512" => {
                let params = pbkdf2::Params::try_from(&hash).map_err(|_| PhcError::Malformed)?;
                (1_000..=10_000_000).contains(&params.rounds())
            }
            _ => return Err(PhcError::Algorithm),
        };
        bearable.then(|| Self(text.into())).ok_or(PhcError::Cost)
    }

    /// A new Argon2id hash (19 MiB, two passes, one lane: OWASP's floor). `None` if the password is longer
    /// than [`Phc::MAX_PASSWORD`] or memory is out.
    pub fn hash(password: &Secret, salt: [u8; 16], memory: &mut HashMemory) -> Option<Self> {
        if password.expose_secret().len() > Self::MAX_PASSWORD {
            return None;
        }
        let output = memory.hash(&current(), password, &salt)?;
        let hash = PasswordHash {
            algorithm: Algorithm::Argon2id.ident(),
            version: Some(Version::V0x13.into()),
            params: ParamsString::try_from(current().params()).ok()?,
            salt: Some(Salt::new(&salt).ok()?),
            hash: Some(output),
        };
        Some(Self(hash.to_string().into()))
    }

    /// Is this the hash of `password`? Takes as long as the hash costs, whatever the answer.
    pub fn verify(&self, password: &Secret, memory: &mut HashMemory) -> bool {
        let bytes = password.expose_secret();
        if bytes.len() > Self::MAX_PASSWORD {
            return false;
        }
        if is_bcrypt(&self.0) {
            // bcrypt reads 72 bytes and older hashes were made that way, so the rest is ignored here too.
            return bcrypt::verify(bytes, &self.0).unwrap_or(false);
        }
        let Ok(hash) = PasswordHash::new(&self.0) else {
            return false;
        };
        if hash.algorithm.as_str().starts_with("pbkdf2") {
            return pbkdf2::Pbkdf2::default().verify_password(bytes, &hash).is_ok();
        }
        // `==` of an `Output` takes constant time.
        context_of(&hash)
            .zip(hash.salt)
            .and_then(|(context, salt)| memory.hash(&context, password, &salt))
            .is_some_and(|output| hash.hash == Some(output))
    }

    /// Was this hash made with today's algorithm and costs? If not, the next login replaces it.
    pub fn is_current(&self) -> bool {
        PasswordHash::new(&self.0).is_ok_and(|hash| {
            hash.algorithm.as_str() == "argon2id"
                && hash.version == Some(Version::V0x13.into())
                && Params::try_from(&hash).is_ok_and(|params| {
                    (params.m_cost(), params.t_cost(), params.p_cost())
                        == (Params::DEFAULT_M_COST, Params::DEFAULT_T_COST, Params::DEFAULT_P_COST)
                })
        })
    }

    /// The hash of nobody's password, with today's costs: what is verified for a user that does not exist,
    /// so that the answer takes as long.
    pub fn decoy() -> Self {
        // A fixed salt will do: the hash is compared with nothing that anybody chose.
        Self("$argon2id$v=19$m=19456,t=2,p=1$WlpaWlpaWlpaWlpaWlpaWg$paWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaU".into())
    }

    /// The string as it is stored. Not a secret of the rank of a password, but never logged either.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Phc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Phc(…)")
    }
}

/// What a stored hash was made with; `None` if Argon2 does not know it.
fn context_of(hash: &PasswordHash) -> Option<Argon2<'static>> {
    let algorithm = Algorithm::try_from(hash.algorithm.as_str()).ok()?;
    let version = hash.version.map_or(Ok(Version::default()), Version::try_from).ok()?;
    Some(Argon2::new(algorithm, version, Params::try_from(hash).ok()?))
}

fn current() -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::DEFAULT)
}

fn is_bcrypt(text: &str) -> bool {
    ["$2a$", "$2b$", "$2x$", "$2y$"].iter().any(|prefix| text.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    use argon2::PasswordHasher;

    fn secret(text: &str) -> Secret {
        Secret::new(text.as_bytes().to_vec())
    }

    #[test]
    fn a_hash_verifies_its_password_and_no_other() {
        let mut memory = HashMemory::default();
        let phc = Phc::hash(&secret("correct horse"), [9; 16], &mut memory).unwrap();
        assert!(phc.as_str().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", phc.as_str());
        assert!(phc.is_current());
        assert!(phc.verify(&secret("correct horse"), &mut memory));
        assert!(!phc.verify(&secret("correct horsE"), &mut memory));
        assert_eq!(Phc::parse(phc.as_str()), Ok(phc));
    }

    #[test]
    fn the_decoy_costs_as_much_and_fits_nothing() {
        let mut memory = HashMemory::default();
        let decoy = Phc::decoy();
        assert!(decoy.is_current(), "{}", decoy.as_str());
        assert!(Phc::parse(decoy.as_str()).is_ok());
        assert!(!decoy.verify(&secret(""), &mut memory));
        assert!(!decoy.verify(&secret("correct horse"), &mut memory));
    }

    #[test]
    fn imported_hashes_are_verified_and_due_for_replacement() {
        let mut memory = HashMemory::default();
        // bcrypt: a vector of the crypt_blowfish test suite. PBKDF2:
        // this one was computed with Python's hashlib.
        for (text, password) in [
            ("$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "U*U"),
            (
                "$pbkdf2-sha256$i=1000,l=32$c2FsdHNhbHRzYWx0c2FsdA$8nX7hwFEzIB8aPajJTYK8weHQc5Ngz0pFVAKvSu4jQA",
                "password",
            ),
        ] {
            let phc = Phc::parse(text).unwrap();
            assert!(phc.verify(&secret(password), &mut memory), "{text}");
            assert!(!phc.verify(&secret("wrong"), &mut memory), "{text}");
            assert!(!phc.is_current(), "{text}");
        }
    }

    #[test]
    fn whatever_argon2_made_is_verified_as_its_own_crate_does() {
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
            let phc = Phc::parse(&hash.to_string()).unwrap();
            for password in ["right", "wrong", ""] {
                let expected = current().verify_password(password.as_bytes(), &hash).is_ok();
                assert_eq!(expected, password == "right", "{}", phc.as_str());
                assert_eq!(phc.verify(&secret(password), &mut memory), expected, "{}", phc.as_str());
            }
            assert!(memory.0.len() <= today, "so much is not kept");
        }
    }

    #[test]
    fn absurd_or_unknown_hashes_are_refused() {
        for (text, expected) in [
            ("", PhcError::Malformed),
            ("password", PhcError::Malformed),
            ("$1$abc$def", PhcError::Malformed),
            ("$argon2id$v=19$m=19456,t=2,p=1", PhcError::Malformed),
            ("$2b$31$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", PhcError::Cost),
            (
                "$argon2id$v=19$m=4194304,t=2,p=1$WlpaWlpaWlpaWlpaWlpaWg$paWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaU",
                PhcError::Cost,
            ),
            (
                "$scrypt$ln=15,r=8,p=1$WlpaWlpaWlpaWlpaWlpaWg$paWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaU",
                PhcError::Algorithm,
            ),
        ] {
            assert_eq!(Phc::parse(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn an_over_long_password_is_never_hashed() {
        let mut memory = HashMemory::default();
        let long = Secret::new(vec![b'x'; Phc::MAX_PASSWORD + 1]);
        assert!(Phc::hash(&long, [0; 16], &mut memory).is_none());
        assert!(!Phc::decoy().verify(&long, &mut memory));
    }
}
