//! Connections that have changed their protocol.

/// What a connection has changed to. Names of protocols come from clients; as labels there are two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpgradedProtocol {
    /// RFC 6455.
    WebSocket,
    /// Any other that a route lists.
    Other,
}

impl UpgradedProtocol {
    pub(super) const ALL: [Self; 2] = [Self::WebSocket, Self::Other];

    /// The protocol as metrics name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::Other => "other",
        }
    }
}

/// Who or what ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpgradedEnd {
    /// The client, or its connection was lost.
    Client,
    /// As well, of the platform.
    Platform,
    /// Its token no longer held.
    Token,
    /// It was open for longer than `limits.request_duration`, or its route's.
    Duration,
    /// No byte either way for `limits.upgraded_idle_timeout`.
    Idle,
    /// The gateway stopped.
    Stopping,
}

impl UpgradedEnd {
    pub(super) const ALL: [Self; 6] =
        [Self::Client, Self::Platform, Self::Token, Self::Duration, Self::Idle, Self::Stopping];

    /// The reason as metrics name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Platform => "platform",
            Self::Token => "token",
            Self::Duration => "duration",
            Self::Idle => "idle",
            Self::Stopping => "stopping",
        }
    }
}
