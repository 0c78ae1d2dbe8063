//! The cryptography that jsonwebtoken calls: HMAC and nothing else.
//!
//! Its own back ends bring RSA and elliptic curves along (and, with RSA, a timing advisory without a fix);
//! a gateway that is both issuer and verifier needs one keyed hash.

use hmac::{Hmac, KeyInit, Mac};
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use sha2::{Sha256, Sha384, Sha512};
use signature::{Error, Signer, Verifier};

/// Makes [`PROVIDER`] the one that jsonwebtoken uses in this process; cheap and harmless when repeated.
pub(super) fn install() {
    static INSTALLED: once_cell::sync::OnceCell<()> = once_cell::sync::OnceCell::new();
    INSTALLED.get_or_init(|| {
        // An error means that it was installed before: then it is this one, or a test's own.
        let _ = PROVIDER.install_default();
    });
}

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |algorithm, key: &EncodingKey| {
        Ok(match algorithm {
            Algorithm::HS256 => Box::new(Tagger::<Hmac<Sha256>>::new(*algorithm, key.as_bytes())?),
            Algorithm::HS384 => Box::new(Tagger::<Hmac<Sha384>>::new(*algorithm, key.as_bytes())?),
            Algorithm::HS512 => Box::new(Tagger::<Hmac<Sha512>>::new(*algorithm, key.as_bytes())?),
            _ => return Err(ErrorKind::InvalidAlgorithm.into()),
        })
    },
    verifier_factory: |algorithm, key: &DecodingKey| {
        let secret = key.try_get_as_bytes()?;
        Ok(match algorithm {
            Algorithm::HS256 => Box::new(Tagger::<Hmac<Sha256>>::new(*algorithm, secret)?),
            Algorithm::HS384 => Box::new(Tagger::<Hmac<Sha384>>::new(*algorithm, secret)?),
            Algorithm::HS512 => Box::new(Tagger::<Hmac<Sha512>>::new(*algorithm, secret)?),
            _ => return Err(ErrorKind::InvalidAlgorithm.into()),
        })
    },
    key_utils: KeyUtils::new_unimplemented(),
};

/// One keyed hash, used once.
struct Tagger<M> {
    algorithm: Algorithm,
    mac: M,
}

impl<M: KeyInit> Tagger<M> {
    fn new(algorithm: Algorithm, secret: &[u8]) -> Result<Self> {
        let mac = M::new_from_slice(secret).map_err(|_| ErrorKind::InvalidKeyFormat)?;
        Ok(Self { algorithm, mac })
    }
}

impl<M: Mac + Clone> Signer<Vec<u8>> for Tagger<M> {
    fn try_sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, Error> {
        let tag = self.mac.clone().chain_update(message).finalize();
        Ok(tag.into_bytes().to_vec())
    }
}

/// Constant in the content of the tag.
impl<M: Mac + Clone> Verifier<Vec<u8>> for Tagger<M> {
    fn verify(&self, message: &[u8], tag: &Vec<u8>) -> std::result::Result<(), Error> {
        let mac = self.mac.clone().chain_update(message);
        mac.verify_slice(tag).map_err(|_| Error::new())
    }
}

impl<M: Mac + Clone> JwtSigner for Tagger<M> {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl<M: Mac + Clone> JwtVerifier for Tagger<M> {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
