//! The labels of metrics, each a closed set of words.

use crate::auth::denial::Denial;
use crate::auth::gate::WouldRefuse;

/// Which way a request went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteLabel {
    /// The token endpoint and its reserved path.
    Endpoint,
    /// Forwarded without a credential.
    Public,
    /// Forwarded with a token, or refused for want of one.
    Protected,
    /// Refused for its form.
    Refused,
    /// A browser asked what pages of another origin may send.
    Preflight,
}

impl RouteLabel {
    pub(super) const ALL: [Self; 5] =
        [Self::Endpoint, Self::Public, Self::Protected, Self::Refused, Self::Preflight];

    /// The route as log and metrics name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Endpoint => "endpoint",
            Self::Public => "public",
            Self::Protected => "protected",
            Self::Refused => "refused",
            Self::Preflight => "preflight",
        }
    }
}

/// What was decided about a request that wanted to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecisionLabel {
    /// It carried a valid token.
    Admitted,
    /// Its path is public.
    Public,
    /// It is observed: it went on, and this is why it would have been refused, if it is known.
    Observed(Option<WouldRefuse>),
    /// It was refused.
    Denied(Denial),
}

impl DecisionLabel {
    /// The decision as log and metrics name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Public => "public",
            Self::Observed(_) => "observed",
            Self::Denied(denial) => denial.as_str(),
        }
    }

    pub(super) fn all() -> impl Iterator<Item = Self> {
        let others = [Self::Admitted, Self::Public, Self::Observed(None)];
        others.into_iter().chain(Denial::ALL.map(Self::Denied))
    }
}

/// What the token endpoint was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenAction {
    /// `POST`.
    Mint,
    /// `GET`.
    Inspect,
    /// `DELETE`.
    Revoke,
}

impl TokenAction {
    pub(super) const ALL: [Self; 3] = [Self::Mint, Self::Inspect, Self::Revoke];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Mint => "mint",
            Self::Inspect => "inspect",
            Self::Revoke => "revoke",
        }
    }
}

/// How the token endpoint answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenOutcome {
    /// With a token, or with what one says.
    Ok,
    /// Basic was missing, malformed or wrong.
    BadCredentials,
    /// The token to inspect does not hold.
    BadToken,
    /// The request has no single meaning.
    BadRequest,
    /// The organization in the path is not the user's or the token's.
    OrganizationMismatch,
    /// Too many logins at once.
    Busy,
    /// Too many wrong passwords came before.
    Throttled,
    /// The store could not be asked.
    StoreUnavailable,
    /// The user has had too many tokens minted.
    RateLimited,
    /// Too many of the user's tokens are revoked and kept.
    RevocationLimit,
    /// Every signing key is revoked.
    NoKey,
    /// The source of users that may know the name could not be asked.
    SourceUnavailable,
}

impl TokenOutcome {
    pub(super) const ALL: [Self; 12] = [
        Self::Ok,
        Self::BadCredentials,
        Self::BadToken,
        Self::BadRequest,
        Self::OrganizationMismatch,
        Self::Busy,
        Self::Throttled,
        Self::StoreUnavailable,
        Self::RateLimited,
        Self::RevocationLimit,
        Self::NoKey,
        Self::SourceUnavailable,
    ];

    /// The outcome as log and metrics name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::BadCredentials => "bad_credentials",
            Self::BadToken => "bad_token",
            Self::BadRequest => "bad_request",
            Self::OrganizationMismatch => "organization_mismatch",
            Self::Busy => "busy",
            Self::Throttled => "throttled",
            Self::StoreUnavailable => "store_unavailable",
            Self::RateLimited => "rate_limited",
            Self::RevocationLimit => "revocation_limit",
            Self::NoKey => "no_key",
            Self::SourceUnavailable => "source_unavailable",
        }
    }
}

/// Why a client connection was not served, or not for longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionEnd {
    /// `limits.connections` were open, and none that could yield was idle.
    Refused,
    /// Its address had `limits.connections_per_address`.
    RefusedAddress,
    /// The process has no descriptor left.
    NoDescriptor,
    /// It was idle, and its block of addresses had the most where another needed a place.
    Yielded,
    /// It did not begin with a PROXY header, or not from a trusted proxy.
    ProxyHeader,
    /// It sent an HTTP request in the clear to an address with TLS.
    PlainHttp,
    /// Its TLS handshake failed.
    Handshake,
    /// Its TLS handshake did not end in time.
    HandshakeTimeout,
}

impl ConnectionEnd {
    /// Every reason.
    pub const ALL: [Self; 8] = [
        Self::Refused,
        Self::RefusedAddress,
        Self::NoDescriptor,
        Self::Yielded,
        Self::ProxyHeader,
        Self::PlainHttp,
        Self::Handshake,
        Self::HandshakeTimeout,
    ];

    /// The reason as log and metrics name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "connections",
            Self::RefusedAddress => "connections_per_address",
            Self::NoDescriptor => "descriptors",
            Self::Yielded => "yielded",
            Self::ProxyHeader => "proxy_header",
            Self::PlainHttp => "plain_http",
            Self::Handshake => "handshake",
            Self::HandshakeTimeout => "handshake_timeout",
        }
    }
}

/// What came of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginOutcome {
    /// The password was right.
    Ok,
    /// It was wrong, or there is no such user, or it is disabled.
    Refused,
    /// Too many wrong ones for the account, from places that it does not know.
    ThrottledAccount,
    /// Too many wrong ones for the account from this place, which it knows.
    ThrottledSource,
    /// Too many wrong ones from the address.
    ThrottledAddress,
    /// Too many wrong ones from the network.
    ThrottledNetwork,
    /// More logins waited than can be checked in time.
    QueueFull,
    /// Too many of the account waited from this address.
    PairFull,
    /// It waited, and one of a network that has fewer took its place.
    Displaced,
    /// It waited for too long.
    Late,
    /// The source of users that may know the name could not be asked.
    Unanswered,
}

impl LoginOutcome {
    pub(super) const ALL: [Self; 11] = [
        Self::Ok,
        Self::Refused,
        Self::ThrottledAccount,
        Self::ThrottledSource,
        Self::ThrottledAddress,
        Self::ThrottledNetwork,
        Self::QueueFull,
        Self::PairFull,
        Self::Displaced,
        Self::Late,
        Self::Unanswered,
    ];

    /// The outcome as metrics name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::ThrottledAccount => "throttled_account",
            Self::ThrottledSource => "throttled_source",
            Self::ThrottledAddress => "throttled_address",
            Self::ThrottledNetwork => "throttled_network",
            Self::QueueFull => "queue_full",
            Self::PairFull => "queue_full_for_account",
            Self::Displaced => "displaced",
            Self::Late => "late",
            Self::Unanswered => "unanswered",
        }
    }
}

/// What is timed beside the requests themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Latency {
    /// A login, its wait in the queue included.
    Login,
    /// A commit of the store.
    Commit,
}

impl Latency {
    pub(super) const ALL: [Self; 2] = [Self::Login, Self::Commit];
}

/// How a try of a request failed at a server of the platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryFault {
    /// Nobody listens there.
    ConnectRefused,
    /// No connection within `platform.connect_timeout`.
    ConnectTimeout,
    /// No connection for another reason: no route, no such socket.
    ConnectFailed,
    /// The TLS handshake failed, or the certificate is not the one that is expected.
    Tls,
    /// The gateway has no descriptor or no port left, or may not open the socket.
    Local,
    /// A connection that was kept for later turned out to be closed.
    KeptConnectionClosed,
    /// The connection ended before the answer was complete.
    Closed,
    /// No byte of the answer within `platform.read_timeout`.
    ReadTimeout,
    /// It took no byte of the request within `platform.write_timeout`.
    WriteTimeout,
    /// The answer is not valid HTTP.
    Malformed,
    /// Interim answers (1xx) without end.
    EndlessInterim,
    /// It answered with a status of 500 or more; a failure only where `platform.eject_on` says so.
    ServerError,
    /// The request that was to find out whether it is back ended before it had an answer: its client left.
    Abandoned,
}

impl TryFault {
    /// Every fault.
    pub const ALL: [Self; 13] = [
        Self::ConnectRefused,
        Self::ConnectTimeout,
        Self::ConnectFailed,
        Self::Tls,
        Self::Local,
        Self::KeptConnectionClosed,
        Self::Closed,
        Self::ReadTimeout,
        Self::WriteTimeout,
        Self::Malformed,
        Self::EndlessInterim,
        Self::ServerError,
        Self::Abandoned,
    ];

    /// The fault as log and metrics name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConnectRefused => "connect_refused",
            Self::ConnectTimeout => "connect_timeout",
            Self::ConnectFailed => "connect_failed",
            Self::Tls => "tls",
            Self::Local => "local",
            Self::KeptConnectionClosed => "kept_connection_closed",
            Self::Closed => "closed",
            Self::ReadTimeout => "read_timeout",
            Self::WriteTimeout => "write_timeout",
            Self::Malformed => "malformed",
            Self::EndlessInterim => "endless_interim",
            Self::ServerError => "server_error",
            Self::Abandoned => "abandoned",
        }
    }

    /// The fault in words.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::ConnectRefused => "connection refused",
            Self::ConnectTimeout => "no connection within platform.connect_timeout",
            Self::ConnectFailed => "no connection: no route, or no such socket",
            Self::Tls => "the TLS handshake failed, or its certificate is not the one that is expected",
            Self::Local => "the gateway could not open a socket: no descriptor, no port, or no permission",
            Self::KeptConnectionClosed => "a connection that was kept for later was closed",
            Self::Closed => "the connection ended before the answer was complete",
            Self::ReadTimeout => "no byte of an answer within platform.read_timeout",
            Self::WriteTimeout => "no byte of the request was taken within platform.write_timeout",
            Self::Malformed => "the answer is not valid HTTP",
            Self::EndlessInterim => "too many interim answers (1xx) before the final one",
            Self::ServerError => "an answer with a status of 500 or more",
            Self::Abandoned => "the client of the request that tried it again left before an answer",
        }
    }
}

/// What became of a request that could be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryOutcome {
    /// It was.
    Sent,
    /// Too many were already.
    OverBudget,
}

impl RetryOutcome {
    pub(super) const ALL: [Self; 2] = [Self::Sent, Self::OverBudget];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::OverBudget => "over_budget",
        }
    }
}
