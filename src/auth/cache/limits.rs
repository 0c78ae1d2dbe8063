//! How much may be kept, and how much something takes.

use std::ops::{Add, AddAssign};

/// How much is kept, over all threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheLimits {
    /// Tokens.
    pub entries: usize,
    /// Bytes, tokens and identities together, estimated.
    pub bytes: usize,
}

/// Tokens, and their estimated bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) entries: usize,
    pub(super) bytes: usize,
}

impl Size {
    pub(super) const NONE: Self = Self { entries: 0, bytes: 0 };

    /// One entry: the token, its identity about as long again, that as fields, and the tables' own.
    pub(super) const fn of(token: &[u8]) -> Self {
        Self { entries: 1, bytes: 2 * token.len() + 512 }
    }

    pub(super) const fn fits(self, limits: CacheLimits) -> bool {
        self.entries <= limits.entries && self.bytes <= limits.bytes
    }

    pub(super) const fn less(self, other: Self) -> Self {
        Self { entries: self.entries - other.entries, bytes: self.bytes - other.bytes }
    }
}

impl Add for Size {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { entries: self.entries + other.entries, bytes: self.bytes + other.bytes }
    }
}

impl AddAssign for Size {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}
