//! A value that must not be seen: masked when printed, wiped when dropped, compared in constant time.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Secret bytes: a password as typed, or a signing key.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes ownership, so that no second copy is left behind.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes themselves; the name is long so that a reader of the call stops.
    pub fn expose_secret(&self) -> &[u8] {
        &self.0
    }
}

/// Constant in the content; the length is no secret.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_slice().ct_eq(other.0.as_slice()).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_never_prints_itself() {
        let secret = Secret::new(b"correct horse".to_vec());
        assert_eq!(format!("{secret:?}"), "Secret(…)");
    }

    #[test]
    fn secrets_are_equal_when_their_bytes_are() {
        let secret = Secret::new(b"correct horse".to_vec());
        assert_eq!(secret, Secret::new(b"correct horse".to_vec()));
        assert_ne!(secret, Secret::new(b"correct horsf".to_vec()));
        assert_ne!(secret, Secret::new(b"correct".to_vec()));
    }
}
