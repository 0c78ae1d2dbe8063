//! Why a text is not a password hash that this gateway accepts.

use std::fmt;

/// Why a text is not a password hash that this gateway would check. Each holds the reason as the second half of a sentence, which never
/// quotes the text: it may be a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PhcError {
    /// Begins as a known form does and goes on otherwise.
    Malformed(&'static str),
    /// A form that is recognised and not accepted, or none that is known.
    Refused(&'static str),
    /// Costs so high that one login could stall the gateway, or so low that they protect nothing.
    Cost(&'static str),
}

impl PhcError {
    /// The reason as the second half of a sentence.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed(reason) | Self::Refused(reason) | Self::Cost(reason) => reason,
        }
    }
}

impl fmt::Display for PhcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for PhcError {}
