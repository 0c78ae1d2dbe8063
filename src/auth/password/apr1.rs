//! `$apr1$`: what `htpasswd` of Apache wrote for long, and still does with `-m`. A thousand rounds of MD5.

use md5::{Digest as _, Md5};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::cost::Cost;
use super::error::PhcError;

/// An apr1 hash, taken apart.
pub(super) struct Hash<'t> {
    salt: &'t [u8],
    digest: &'t [u8],
}

impl<'t> Hash<'t> {
    pub(super) fn parse(text: &'t str) -> Result<Self, PhcError> {
        let fields: Vec<&str> = text.split('$').collect();
        let ["", "apr1", salt, digest] = *fields.as_slice() else { return Err(MALFORMED) };
        let is_crypt = |text: &str| text.bytes().all(|byte| ALPHABET.contains(&byte));
        if !(1..=8).contains(&salt.len()) || digest.len() != 22 || !is_crypt(salt) || !is_crypt(digest) {
            return Err(MALFORMED);
        }
        Ok(Self { salt: salt.as_bytes(), digest: digest.as_bytes() })
    }

    pub(super) fn verify(&self, password: &[u8]) -> bool {
        encode(&digest(password, self.salt)).ct_eq(self.digest).into()
    }

    pub(super) fn cost() -> Cost {
        Cost::fixed("apr1")
    }
}

/// As `apr_md5_encode` of the Apache Portable Runtime does it, which is Poul-Henning Kamp's md5-crypt with a prefix of its own.
fn digest(password: &[u8], salt: &[u8]) -> Zeroizing<[u8; 16]> {
    let md5 = |parts: &[&[u8]]| -> Zeroizing<[u8; 16]> {
        let mut hasher = Md5::new();
        parts.iter().for_each(|part| hasher.update(part));
        Zeroizing::new(hasher.finalize().into())
    };
    let inner = md5(&[password, salt, password]);
    let mut first = Md5::new();
    first.update(password);
    first.update(b"$apr1$");
    first.update(salt);
    inner.iter().cycle().take(password.len()).for_each(|byte| first.update([*byte]));
    // A bit of the length at a time, from the lowest.
    let mut length = password.len();
    while length > 0 {
        let byte = if length & 1 == 1 { 0 } else { password.first().copied().unwrap_or_default() };
        first.update([byte]);
        length >>= 1;
    }
    (0..1_000).fold(Zeroizing::new(first.finalize().into()), |last, round| {
        let (odd, third, seventh) = (round % 2 == 1, round % 3 != 0, round % 7 != 0);
        let last: &[u8] = &*last;
        md5(&[
            if odd { password } else { last },
            if third { salt } else { &[] },
            if seventh { password } else { &[] },
            if odd { last } else { password },
        ])
    })
}

/// Six bits a character, the lowest first, of three bytes that are five places apart.
fn encode(digest: &[u8; 16]) -> Vec<u8> {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = digest.map(u32::from);
    let groups =
        [[a, g, m], [b, h, n], [c, i, o], [d, j, p], [e, k, f]].map(|[x, y, z]| (x << 16 | y << 8 | z, 4));
    let characters = groups.into_iter().chain([(l, 2)]).flat_map(|(bits, count)| {
        (0..count)
            .map(move |place| ALPHABET.get((bits >> (6 * place) & 63) as usize).copied().unwrap_or_default())
    });
    characters.collect()
}

const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

const MALFORMED: PhcError = PhcError::Malformed(
    "is not a whole apr1 hash ($apr1$, a salt of up to 8 characters, $ and 22 characters)",
);
