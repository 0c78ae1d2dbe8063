//! Errors of the engine as answers: what a client is told, and whose fault it was.

use pingora::{Error, ErrorSource, ErrorType};

use crate::auth::reply::{Malformed, Overload, PlatformFault, Reply};
use crate::metrics::TryFault;

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

/// How a try failed at its server, if it is the server's side that did. `kept` says that the connection was kept from another request.
pub(super) fn try_fault(error: &Error, kept: bool) -> Option<TryFault> {
    if *error.esource() != ErrorSource::Upstream {
        return None;
    }
    Some(match error.etype() {
        ErrorType::ConnectRefused => TryFault::ConnectRefused,
        ErrorType::ConnectTimedout => TryFault::ConnectTimeout,
        ErrorType::TLSHandshakeTimedout
        | ErrorType::TLSHandshakeFailure
        | ErrorType::TLSWantX509Lookup
        | ErrorType::HandshakeError
        | ErrorType::InvalidCert => TryFault::Tls,
        ErrorType::InternalError | ErrorType::SocketError | ErrorType::BindError => TryFault::Local,
        ErrorType::ConnectNoRoute | ErrorType::ConnectError | ErrorType::ConnectProxyFailure => {
            TryFault::ConnectFailed
        }
        ErrorType::ReadTimedout => TryFault::ReadTimeout,
        ErrorType::WriteTimedout => TryFault::WriteTimeout,
        ErrorType::ReadError | ErrorType::WriteError | ErrorType::ConnectionClosed if kept => {
            TryFault::KeptConnectionClosed
        }
        ErrorType::ReadError | ErrorType::WriteError | ErrorType::ConnectionClosed => TryFault::Closed,
        kind if *kind == ENDLESS_INTERIM => TryFault::EndlessInterim,
        _ => TryFault::Malformed,
    })
}

/// Does the error say that the server ended a connection before it sent a byte of an answer?
pub(super) fn is_unanswered(error: &Error) -> bool {
    match error.etype() {
        ErrorType::WriteError => true,
        // The engine says how much of the header it has, in words only. Anything else is a byte of an answer.
        ErrorType::ConnectionClosed | ErrorType::ReadError => {
            let context = error.context.as_ref().map(|context| context.as_str());
            context.is_some_and(|context| context.ends_with("bytes already read: 0"))
        }
        _ => false,
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

/// As well: interim answers without end.
pub(super) const ENDLESS_INTERIM: ErrorType = ErrorType::Custom("EndlessInterim");
