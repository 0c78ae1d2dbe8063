//! How waits for a sequence of the store end.

/// What became of a request that had to wait for a sequence of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SequenceWait {
    /// The sequence was applied in time.
    Applied,
    /// It was not.
    Late,
    /// Too many waited already.
    TooMany,
}

impl SequenceWait {
    pub(super) const ALL: [Self; 3] = [Self::Applied, Self::Late, Self::TooMany];

    /// The outcome as metrics name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Late => "late",
            Self::TooMany => "too_many",
        }
    }
}
