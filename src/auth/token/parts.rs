//! The compact serialization (RFC 7515 §3.1).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The three parts of a compact serialization, and the bytes that its signature covers.
pub(super) struct Parts<'t> {
    pub(super) signed: &'t [u8],
    pub(super) header: &'t str,
    pub(super) claims: &'t str,
    pub(super) signature: &'t str,
}

impl<'t> Parts<'t> {
    /// `None` unless there are exactly three parts, none empty, all of the base64url alphabet.
    pub(super) fn split(token: &'t [u8]) -> Option<Self> {
        let text = std::str::from_utf8(token).ok()?;
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let base64url = |part: &str| {
            let in_alphabet = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            !part.is_empty() && part.bytes().all(in_alphabet)
        };
        [header, claims, signature].into_iter().all(base64url).then_some(Self {
            signed: signed.as_bytes(),
            header,
            claims,
            signature,
        })
    }
}

/// A part as JSON. Strict base64url: no padding, no stray bits, so that a token has one spelling.
pub(super) fn decode<T: serde::de::DeserializeOwned>(part: &str) -> Option<T> {
    let json = URL_SAFE_NO_PAD.decode(part).ok()?;
    serde_json::from_slice(&json).ok()
}
