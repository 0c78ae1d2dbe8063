//! The id that one request has towards the client, the platform and the log.

/// The name of the response header that carries it.
pub(super) const REQUEST_ID: &str = "X-Request-Id";

/// The same for client, platform and log: 32 hexadecimal digits, or what a trusted proxy gave it.
pub(super) struct RequestId {
    digits: [u8; 32],
    given: Option<Box<str>>,
}

impl RequestId {
    pub(super) fn new() -> Self {
        Self { digits: hex(fastrand::u128(..)), given: None }
    }

    /// Takes the id that a trusted proxy gave.
    pub(super) fn give(&mut self, id: Box<str>) {
        self.given = Some(id);
    }

    pub(super) fn as_str(&self) -> &str {
        self.given.as_deref().unwrap_or_else(|| self.digits())
    }

    /// Those of its own.
    pub(super) fn digits(&self) -> &str {
        std::str::from_utf8(&self.digits).unwrap_or_default()
    }
}

/// As many hexadecimal digits of random bits.
pub(super) fn hex<const N: usize>(mut bits: u128) -> [u8; N] {
    let mut digits = [b'0'; N];
    for digit in &mut digits {
        *digit = HEX.get(usize::from(bits as u8 & 0xf)).copied().unwrap_or(b'0');
        bits >>= 4;
    }
    digits
}

const HEX: &[u8; 16] = b"0123456789abcdef";
