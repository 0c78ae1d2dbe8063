//! The id that one request has towards the client, the platform and the log.

/// The name of the response header that carries it.
pub(super) const REQUEST_ID: &str = "X-Request-Id";

/// 32 hexadecimal digits, the same for client, platform and log.
#[derive(Clone, Copy)]
pub(super) struct RequestId([u8; 32]);

impl RequestId {
    pub(super) fn new() -> Self {
        let mut digits = [b'0'; 32];
        let mut bits = fastrand::u128(..);
        for digit in &mut digits {
            *digit = HEX.get(usize::from(bits as u8 & 0xf)).copied().unwrap_or(b'0');
            bits >>= 4;
        }
        Self(digits)
    }

    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";
