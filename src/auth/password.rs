//! Password hashes: Argon2id is made, and what other systems made is understood, a file for each family of them.

mod apr1;
mod argon2;
mod bcrypt;
mod cost;
mod encoding;
mod error;
mod pbkdf2;
mod refused;
mod salted_sha;
mod scrypt;
mod sha_crypt;

use std::fmt;

use sha2::{Digest as _, Sha256};

pub use self::argon2::HashMemory;
pub use self::cost::Cost;
pub use self::error::PhcError;

use super::secret::Secret;

/// A stored password hash: a PHC string, or what another system wrote, as it wrote it.
#[derive(Clone, PartialEq, Eq)]
pub struct Phc(Box<str>);

/// What a hash is recognised by when it is imported again, after a login has replaced it. Tells nothing of the password: who would guess
/// needs the salt, which is not in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashDigest(pub [u8; 16]);

/// A hash, taken apart.
enum Scheme<'t> {
    Argon2(argon2::Hash),
    Bcrypt(bcrypt::Hash),
    Pbkdf2(pbkdf2::Hash),
    Scrypt(scrypt::Hash),
    ShaCrypt(sha_crypt::Hash<'t>),
    Apr1(apr1::Hash<'t>),
    SaltedSha(salted_sha::Hash),
}

impl<'t> Scheme<'t> {
    fn parse(text: &'t str) -> Result<Self, PhcError> {
        if text.len() > MAX_LENGTH {
            return Err(PhcError::Malformed("is longer than any password hash"));
        }
        match FORMS.iter().find(|(start, _)| text.starts_with(start)) {
            Some((_, parse)) => parse(text),
            None => in_braces(text).unwrap_or_else(|| Err(PhcError::Refused(refused::reason(text)))),
        }
    }

    fn verify(&self, password: &Secret, memory: &mut HashMemory) -> bool {
        let bytes = password.expose_secret();
        match self {
            Self::Argon2(hash) => hash.verify(password, memory),
            Self::Bcrypt(hash) => hash.verify(bytes),
            Self::Pbkdf2(hash) => hash.verify(bytes),
            Self::Scrypt(hash) => hash.verify(bytes),
            Self::ShaCrypt(hash) => hash.verify(bytes),
            Self::Apr1(hash) => hash.verify(bytes),
            Self::SaltedSha(hash) => hash.verify(bytes),
        }
    }
}

type Parse = for<'t> fn(&'t str) -> Result<Scheme<'t>, PhcError>;

/// How each accepted form begins; none begins like another.
const FORMS: [(&str, Parse); 18] = [
    ("$argon2", |text| argon2::Hash::parse(text).map(Scheme::Argon2)),
    // Django writes its own name of the family before the PHC string.
    ("argon2$argon2", |text| {
        argon2::Hash::parse(text.strip_prefix("argon2").unwrap_or(text)).map(Scheme::Argon2)
    }),
    ("$2a$", |text| bcrypt::Hash::parse(text).map(Scheme::Bcrypt)),
    ("$2b$", |text| bcrypt::Hash::parse(text).map(Scheme::Bcrypt)),
    ("$2x$", |text| bcrypt::Hash::parse(text).map(Scheme::Bcrypt)),
    ("$2y$", |text| bcrypt::Hash::parse(text).map(Scheme::Bcrypt)),
    ("bcrypt$", |text| bcrypt::Hash::parse_django(text).map(Scheme::Bcrypt)),
    ("bcrypt_sha256$", |text| bcrypt::Hash::parse_django_sha256(text).map(Scheme::Bcrypt)),
    ("$bcrypt-sha256$", |text| bcrypt::Hash::parse_passlib_sha256(text).map(Scheme::Bcrypt)),
    ("$pbkdf2", |text| pbkdf2::Hash::parse(text).map(Scheme::Pbkdf2)),
    ("pbkdf2_", |text| pbkdf2::Hash::parse_django(text).map(Scheme::Pbkdf2)),
    ("pbkdf2:", |text| pbkdf2::Hash::parse_werkzeug(text).map(Scheme::Pbkdf2)),
    ("$scrypt$", |text| scrypt::Hash::parse(text).map(Scheme::Scrypt)),
    ("scrypt$", |text| scrypt::Hash::parse_django(text).map(Scheme::Scrypt)),
    ("scrypt:", |text| scrypt::Hash::parse_werkzeug(text).map(Scheme::Scrypt)),
    ("$5$", |text| sha_crypt::Hash::parse(text).map(Scheme::ShaCrypt)),
    ("$6$", |text| sha_crypt::Hash::parse(text).map(Scheme::ShaCrypt)),
    ("$apr1$", |text| apr1::Hash::parse(text).map(Scheme::Apr1)),
];

/// What directories write behind a scheme in braces; `None` for a scheme that is not accepted.
fn in_braces(text: &str) -> Option<Result<Scheme<'_>, PhcError>> {
    let (scheme, rest) = text.strip_prefix('{')?.split_once('}')?;
    let salted = |digest| Some(salted_sha::Hash::parse(digest, rest).map(Scheme::SaltedSha));
    match scheme.to_ascii_uppercase().as_str() {
        "SSHA" => salted(salted_sha::Digest::Sha1),
        "SSHA256" => salted(salted_sha::Digest::Sha256),
        "SSHA512" => salted(salted_sha::Digest::Sha512),
        // OpenLDAP and Dovecot; behind it is what its own form says. Not once more braces.
        "CRYPT" | "ARGON2" | "ARGON2I" | "ARGON2ID" | "BLF-CRYPT" | "SHA256-CRYPT" | "SHA512-CRYPT"
            if !rest.starts_with('{') =>
        {
            Some(Scheme::parse(rest))
        }
        _ => None,
    }
}

impl Phc {
    /// The longest password, in bytes, that is hashed at all.
    pub const MAX_PASSWORD: usize = 1024;

    /// Checks that a stored or imported hash can be verified at a bearable cost.
    pub fn parse(text: &str) -> Result<Self, PhcError> {
        Scheme::parse(text).map(|_| Self(text.into()))
    }

    /// A new Argon2id hash (19 MiB, two passes, one lane: OWASP's floor). `None` if the password is longer
    /// than [`Phc::MAX_PASSWORD`] or memory is out.
    pub fn hash(password: &Secret, salt: [u8; 16], memory: &mut HashMemory) -> Option<Self> {
        if password.expose_secret().len() > Self::MAX_PASSWORD {
            return None;
        }
        argon2::Hash::make(password, salt, memory).map(|text| Self(text.into()))
    }

    /// Is this the hash of `password`? Takes as long as the hash costs, whatever the answer.
    pub fn verify(&self, password: &Secret, memory: &mut HashMemory) -> bool {
        let is_hashed = password.expose_secret().len() <= Self::MAX_PASSWORD;
        is_hashed && Scheme::parse(&self.0).is_ok_and(|scheme| scheme.verify(password, memory))
    }

    /// Would this hash be verified with another password as well, since its algorithm ignores a part of this one? Then the one that was
    /// verified need not be its owner's, and must not be stored in the place of the hash.
    pub fn is_lossy_for(&self, password: &Secret) -> bool {
        let bytes = password.expose_secret();
        match Scheme::parse(&self.0) {
            Ok(Scheme::Argon2(_)) => false,
            Ok(Scheme::Bcrypt(hash)) => hash.is_lossy_for(bytes),
            // HMAC fills a password up with NULs, so it ignores those at its end. What ends at the first NUL, as crypt(3) does, never
            // hashed one either.
            _ => bytes.contains(&0),
        }
    }

    /// Was this hash made with today's algorithm and costs? If not, the next login replaces it.
    pub fn is_current(&self) -> bool {
        // In the form of today, too.
        self.0.starts_with('$')
            && matches!(Scheme::parse(&self.0), Ok(Scheme::Argon2(hash)) if hash.is_current())
    }

    /// What it costs to verify it; `None` never in practice, since it was parsed before.
    pub fn cost(&self) -> Option<Cost> {
        Some(match Scheme::parse(&self.0).ok()? {
            Scheme::Argon2(hash) => hash.cost(),
            Scheme::Bcrypt(hash) => hash.cost(),
            Scheme::Pbkdf2(hash) => hash.cost(),
            Scheme::Scrypt(hash) => hash.cost(),
            Scheme::ShaCrypt(hash) => hash.cost(),
            Scheme::Apr1(_) => apr1::Hash::cost(),
            Scheme::SaltedSha(hash) => hash.cost(),
        })
    }

    /// What it is recognised by when it is gone.
    pub fn digest(&self) -> HashDigest {
        let mut digest = [0; 16];
        digest.iter_mut().zip(Sha256::digest(self.0.as_bytes())).for_each(|(byte, from)| *byte = from);
        HashDigest(digest)
    }

    /// The hash of nobody's password, with today's costs: what is verified for a user that does not exist,
    /// so that the answer takes as long.
    pub fn dummy() -> Self {
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

/// Longer than every hash with a salt and a digest of usual sizes.
const MAX_LENGTH: usize = 1024;

#[cfg(test)]
mod tests;
