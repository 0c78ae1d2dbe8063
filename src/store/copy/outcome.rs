//! What is asked of a copy, and what came of it.

use thiserror::Error;

use crate::store::error::StoreError;

/// What is copied, and how.
#[derive(Clone, Debug)]
pub struct CopyOptions {
    /// The source, as messages name it; a copy goes on only from the same one.
    pub source: String,
    /// How many rows are committed at once.
    pub rows: usize,
    /// Whether the copy is completed although the source has changed since.
    pub may_change: bool,
}

impl CopyOptions {
    /// So many rows that a commit takes some 20 ms.
    pub const ROWS: usize = 2048;
}

/// How far a copy has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Whether the rows are compared, and not copied any more.
    pub is_comparing: bool,
    /// The table.
    pub table: &'static str,
    /// So many of its rows are done.
    pub done: u64,
    /// So many it has.
    pub rows: u64,
}

/// Hears how far a copy has come, after each batch; an error from there ends it, and it may be continued.
pub type OnProgress = Box<dyn FnMut(Progress) -> Result<(), StoreError> + Send>;

/// A table that was copied and compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopiedTable {
    /// Its name.
    pub name: &'static str,
    /// How many rows it has.
    pub rows: u64,
    /// The SHA-256 of all of them, in hexadecimal digits.
    pub digest: String,
}

/// What was copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Every table.
    pub tables: Vec<CopiedTable>,
    /// How it began.
    pub began: Began,
    /// Whether the source has changed since.
    pub is_outdated: bool,
}

/// How a copy began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Began {
    /// In an empty place.
    New,
    /// Where an earlier one of the same source had stopped.
    Continued,
    /// From the first row, since the source has changed since the earlier one, or that one was not equal to it.
    Again,
}

/// Why a store was not copied. What was copied so far stays, marked as unfinished.
#[derive(Debug, Error)]
pub enum CopyError {
    /// The source could not be read.
    #[error("the source: {0}")]
    Source(StoreError),
    /// The target could not be written.
    #[error("the target: {0}")]
    Target(StoreError),
    /// There is a store already.
    #[error(
        "the target holds a store already, and nothing is overwritten: name a place without one (a file that does not exist, or an empty database)"
    )]
    Occupied,
    /// There is an unfinished copy of something else.
    #[error(
        "the target is an unfinished copy of {0}: name that source, or a place without a store (a file that does not exist, or an empty database)"
    )]
    OtherSource(String),
    /// What was written is not what was read.
    #[error(
        "the copy differs from the source in {}: something else has written to it; run the same command again, which begins from the first row",
        .0.join(", ")
    )]
    Differs(Vec<&'static str>),
    /// The source is another one than when the copy began.
    #[error("the source has changed while it was copied: stop every gateway and run the same command again")]
    Changed,
}
