//! A place outside the store that users come from. It is asked at each login; nothing of its answers is kept here.

use async_trait::async_trait;

use crate::auth::endpoint::Credentials;
use crate::auth::identity::Identity;
use crate::auth::name::Name;

/// A directory, or a platform with users of its own. What it does is bounded in time and number by itself.
#[async_trait]
pub trait UserSource: Send + Sync {
    /// Whose credentials are these?
    async fn authenticate(&self, credentials: &Credentials) -> Answer;

    /// Whether the user is still there and may log in; `None` from a source that cannot tell without a password.
    async fn find(&self, user: &Name) -> Option<Presence>;
}

/// What a source says of a name and a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The password is that of this user, whose name need not be in the case in which it was asked for.
    Accepted(Identity),
    /// Not for this password. A source that cannot tell an unknown name from a wrong password says this of both.
    Refused(Refused),
    /// The source has nobody of that name.
    Unknown,
    /// It cannot be asked now, or its answer makes no sense. Nobody knows whether the name is one of its own.
    Unavailable(Unavailable),
}

/// Why a source lets nobody in: for the log, never for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The password is wrong, or the source does not say what is.
    Password,
    /// The account may not log in: disabled, expired, locked, outside the required group.
    Account,
    /// The account has no name, e-mail address or organization that a token could carry.
    Identity,
}

impl Refused {
    /// The reason as the log names it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Password => "wrong password",
            Self::Account => "the account may not log in",
            Self::Identity => {
                "the account has no name, e-mail address or organization that a token can carry"
            }
        }
    }
}

/// Why a source gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// More logins wait for it than it may be asked at once.
    Busy,
    /// No connection, or one that could not be verified.
    Unreachable,
    /// Nothing in time.
    TimedOut,
    /// It says that it fails (5xx).
    Failing,
    /// An answer that is none, or an error of the source's own.
    Invalid,
}

impl Unavailable {
    /// Is the source away for everybody? An answer that makes no sense may be one about this user, and so a refusal.
    pub const fn is_outage(self) -> bool {
        matches!(self, Self::Unreachable | Self::TimedOut | Self::Failing)
    }

    /// The reason as the log names it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "more logins at once than it may be asked about",
            Self::Unreachable => "it cannot be reached, or its certificate cannot be verified",
            Self::TimedOut => "no answer in time",
            Self::Failing => "it answers with an error of its own",
            Self::Invalid => "its answer makes no sense",
        }
    }
}

/// What a source says of a name alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// The user is there and may log in.
    Present(Identity),
    /// Nobody of that name may log in.
    Gone,
    /// It cannot be asked now.
    Unavailable(Unavailable),
}
