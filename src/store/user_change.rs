//! Changes of users that the platform is asked for: noted before they are sent, so that a crash forgets none.

use super::command::Command;
use crate::auth::revocation::{Cutoff, Subject};
use crate::auth::time::UnixTime;

/// Notes that the platform is about to be asked for a change that would end the tokens of these subjects.
#[derive(Clone, Debug)]
pub struct BeginChange {
    /// Whose tokens.
    pub subjects: Vec<Subject>,
}

impl Command for BeginChange {
    /// By what the change is known.
    type Outcome = ChangeId;
}

/// A change that was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChangeId(pub i64);

/// How a change ended, as far as the gateway knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeEnd {
    /// The platform refused it: nothing has changed.
    Refused,
    /// It was made, or may have been.
    Made,
    /// Nobody knows; the platform may still be at work on it, so its tokens are ended now and once more later.
    Unknown,
}

/// Ends a change: revokes the tokens of its subjects, unless the platform refused it.
#[derive(Clone, Debug)]
pub struct EndChange {
    /// Which; it may have been ended by another gateway that took it for forgotten.
    pub id: ChangeId,
    /// Whose tokens.
    pub subjects: Vec<Subject>,
    /// How it ended.
    pub end: ChangeEnd,
}

impl Command for EndChange {
    /// The cutoffs that were set.
    type Outcome = Vec<(Subject, Cutoff)>;
}

/// Ends changes that nobody has ended, as if they had been made.
#[derive(Clone, Copy, Debug)]
pub struct EndForgottenChanges {
    /// Those that began before this are over.
    pub before: UnixTime,
    /// Others end tokens now and stay noted: the platform, or another gateway, may still be at them.
    pub all: bool,
}

impl Command for EndForgottenChanges {
    /// The cutoffs that were set.
    type Outcome = Vec<(Subject, Cutoff)>;
}
