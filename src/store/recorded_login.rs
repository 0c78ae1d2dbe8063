//! What a login leaves behind of a user whose password another source checks.

use super::command::Command;
use super::records::User;
use crate::auth::identity::Identity;
use crate::auth::name::Name;
use crate::auth::password::Phc;
use crate::auth::user_source::SourceName;

/// Keeps a user whose password another source has found right, as that source describes it, so that revocations, the audit trail and
/// `user disable` know of it. Another e-mail address or organization than before ends its older tokens, as every change of a claim does.
#[derive(Clone, Debug)]
pub struct RecordLogin {
    /// Who it is.
    pub identity: Identity,
    /// Who says so. Not the store itself.
    pub source: SourceName,
    /// The store's sequence before the source was asked.
    pub asked_at: u64,
}

/// What becomes of a [`RecordLogin`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordedLogin {
    /// The user as it is now, and the sequence from which on a cutoff is later than the source's answer.
    Recorded(User, u64),
    /// The user is disabled here.
    Disabled,
    /// A cutoff was set that concerns the user since the source was asked: it may have answered before the password was changed.
    Revoked,
    /// A user of the store has that name, or one that a person would confuse with it. The audit trail says so.
    Conflict(String),
}

impl Command for RecordLogin {
    type Outcome = RecordedLogin;
}

/// Keeps the hash of a password that another source has just found right, in the place of the one before.
#[derive(Clone, Debug)]
pub struct Remember {
    /// The user's name.
    pub user: Name,
    /// The version of the user whose password it is; a later one is left alone.
    pub credential_version: u64,
    /// The hash.
    pub phc: Phc,
    /// The store's sequence before the source was asked.
    pub asked_at: u64,
}

impl Command for Remember {
    type Outcome = ();
}

/// Makes users of another source the store's own, with the hash that is remembered. Their tokens go on.
#[derive(Clone, Debug)]
pub struct MoveUser {
    /// The user's name.
    pub name: Box<str>,
}

/// What becomes of a [`MoveUser`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveOutcome {
    /// From now on the store checks the password.
    Moved,
    /// The user is the store's already.
    Unchanged,
    /// No hash is remembered, or what was revoked since has ended it.
    NotRemembered,
    /// There is no user of that name.
    Unknown,
}

impl Command for MoveUser {
    type Outcome = MoveOutcome;
}
