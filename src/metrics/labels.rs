//! The labels of metrics, each a closed set of words.

use crate::auth::denial::Denial;

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
    /// It was refused.
    Denied(Denial),
}

impl DecisionLabel {
    /// The decision as log and metrics name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Public => "public",
            Self::Denied(denial) => denial.as_str(),
        }
    }

    pub(super) fn all() -> impl Iterator<Item = Self> {
        [Self::Admitted, Self::Public].into_iter().chain(Denial::ALL.map(Self::Denied))
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
}

impl TokenOutcome {
    pub(super) const ALL: [Self; 11] = [
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
}

impl LoginOutcome {
    pub(super) const ALL: [Self; 10] = [
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
        }
    }
}

/// What is timed beside the requests themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Latency {
    /// From forwarding a request to the platform's answer.
    Platform,
    /// A login, its wait in the queue included.
    Login,
    /// A commit of the store.
    Commit,
}

impl Latency {
    pub(super) const ALL: [Self; 3] = [Self::Platform, Self::Login, Self::Commit];
}
