//! The configured rules for tokens.

use serde::Deserialize;

/// How tokens are minted and how far they are believed. Durations are in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenRules {
    /// `exp − iat` of a minted token.
    pub lifetime: u64,
    /// The largest `exp − iat` that is accepted.
    pub max_lifetime: u64,
    /// How far ahead of our clock an `iat` may be.
    pub max_skew: u64,
    /// The longest token, in bytes, that is looked at.
    pub max_bytes: usize,
    /// Foreign tokens of users that the store does not know.
    pub unknown_users: UnknownUsers,
}

impl TokenRules {
    /// How long a revocation is remembered, in seconds of lived time: twice as long as any token can live, and a day. By then
    /// a token that it is about has expired, by whatever clock it was minted.
    pub const fn retention(&self) -> u64 {
        self.max_lifetime.saturating_mul(2).saturating_add(24 * 3600)
    }

    /// A day, an hour more for what the platform mints, and nobody unknown.
    pub const DEFAULT: Self = Self {
        lifetime: 24 * 3600,
        max_lifetime: 25 * 3600,
        max_skew: 5,
        max_bytes: 8192,
        unknown_users: UnknownUsers::Refuse,
    };
}

/// What happens to a foreign token whose user is not in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownUsers {
    /// 401.
    Refuse,
    /// The claims are believed.
    Accept,
}
