//! What the sources of users answer.

/// An answer of a source, of a closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceAnswer {
    /// The password is right.
    Accepted,
    /// It is wrong, or the account may not log in.
    Refused,
    /// The source does not know the name.
    Unknown,
    /// It could not be asked, or its answer made no sense.
    Unavailable,
}

impl SourceAnswer {
    pub(super) const ALL: [Self; 4] = [Self::Accepted, Self::Refused, Self::Unknown, Self::Unavailable];

    /// The answer as metrics name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
            Self::Unavailable => "unavailable",
        }
    }
}
