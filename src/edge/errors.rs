//! Errors of the engine as answers: what a client is told, and whose fault it was.

use pingora::{Error, ErrorSource, ErrorType};

use crate::auth::reply::{Malformed, Overload, PlatformFault, Reply};

/// What the platform did wrong, if it did.
pub(super) fn platform_fault(error: &Error) -> Option<PlatformFault> {
    match (error.esource(), error.etype()) {
        (
            ErrorSource::Upstream,
            ErrorType::ConnectTimedout
            | ErrorType::TLSHandshakeTimedout
            | ErrorType::ReadTimedout
            | ErrorType::WriteTimedout,
        ) => Some(PlatformFault::TimedOut),
        (ErrorSource::Upstream, _) => Some(PlatformFault::Unreachable),
        _ => None,
    }
}

/// What the client is told; nothing if it is the one that failed.
pub(super) fn reply_to(error: &Error) -> Option<Reply> {
    let downstream_gone = matches!(
        error.etype(),
        ErrorType::WriteError
            | ErrorType::ReadError
            | ErrorType::ConnectionClosed
            | ErrorType::WriteTimedout
            // Bytes behind the body, while the platform works: no answer is better than a false 400.
            | ErrorType::ConnectError
    );
    match (error.esource(), error.etype()) {
        (_, kind) if *kind == TOO_LARGE => Some(Reply::malformed(Malformed::Body)),
        (_, kind) if *kind == TOO_SLOW => Some(Reply::malformed(Malformed::BodyTimeout)),
        (_, kind) if *kind == OVERLOADED => Some(Reply::overloaded(Overload::Memory)),
        (ErrorSource::Upstream, _) => platform_fault(error).map(Reply::platform),
        (ErrorSource::Downstream, _) if downstream_gone => None,
        (ErrorSource::Downstream, ErrorType::ReadTimedout) => Some(Reply::malformed(Malformed::BodyTimeout)),
        (ErrorSource::Downstream, _) => Some(Reply::malformed(Malformed::Unreadable)),
        (ErrorSource::Internal | ErrorSource::Unset, _) => Some(Reply::internal()),
    }
}

/// The body filter's own error, told apart from anything that the engine says.
pub(super) const TOO_LARGE: ErrorType = ErrorType::HTTPStatus(413);

/// As well.
pub(super) const TOO_SLOW: ErrorType = ErrorType::HTTPStatus(408);

/// The response filter's own error.
pub(super) const OVERLOADED: ErrorType = ErrorType::HTTPStatus(503);
