//! Why a directory gave no answer.

use std::io;

use thiserror::Error;

use crate::service::login::source::Unavailable;

/// A server could not be asked, or what it said is no answer. The text is for the log; it holds nothing that is secret.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{text}")]
pub(super) struct Failure {
    pub(super) kind: Unavailable,
    pub(super) cause: Cause,
    text: String,
}

/// What follows from a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Another server may do better, and this one later.
    Server,
    /// The server ended the connection. One that was kept tells nothing of the server.
    Closed,
    /// The server answered, and not with what was asked for: an error of its own, or a pointer elsewhere.
    Question,
    /// The gateway's own account was refused. To try again and again would lock it.
    OwnAccount,
}

impl Failure {
    pub(super) fn unreachable(text: impl Into<String>) -> Self {
        Self { kind: Unavailable::Unreachable, cause: Cause::Server, text: text.into() }
    }

    pub(super) fn timed_out(text: impl Into<String>) -> Self {
        Self { kind: Unavailable::TimedOut, cause: Cause::Server, text: text.into() }
    }

    pub(super) fn invalid(text: impl Into<String>) -> Self {
        Self { kind: Unavailable::Invalid, cause: Cause::Server, text: text.into() }
    }

    pub(super) fn question(text: impl Into<String>) -> Self {
        Self { kind: Unavailable::Invalid, cause: Cause::Question, text: text.into() }
    }

    pub(super) fn busy() -> Self {
        let text = "as many logins as allowed are asking already".to_owned();
        Self { kind: Unavailable::Busy, cause: Cause::Server, text }
    }

    pub(super) fn closed(text: impl Into<String>) -> Self {
        Self { kind: Unavailable::Unreachable, cause: Cause::Closed, text: text.into() }
    }

    pub(super) fn own_account(text: impl Into<String>) -> Self {
        Self { kind: Unavailable::Invalid, cause: Cause::OwnAccount, text: text.into() }
    }
}

/// Of a connection that is there.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::closed(format!("the connection broke: {error}"))
    }
}
