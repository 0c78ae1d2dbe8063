//! The settings of each section, checked: plain data.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::networks::{ForwardedFields, Networks};
use super::postgres::PostgresSettings;
use crate::auth::policy::{PathPrefix, UserChange};
use crate::auth::time::UnixTime;
use crate::auth::user_source::SourceName;

/// `[server]`: where the gateway listens, and where its own files are.
#[derive(Clone, Debug)]
pub struct Server {
    /// Addresses with TLS.
    pub https: Vec<SocketAddr>,
    /// Addresses without.
    pub http: Vec<SocketAddr>,
    /// Store, keys, certificate.
    pub state_dir: PathBuf,
    /// Worker threads.
    pub threads: usize,
    /// Proxies in front whose word about a client counts.
    pub trusted_proxies: Networks,
    /// In which fields they say it.
    pub forwarded_fields: ForwardedFields,
    /// Those of the addresses above where each connection begins with a PROXY header.
    pub proxy_protocol: Vec<SocketAddr>,
    /// May a client close its half of the connection and still get its answer?
    pub half_close: bool,
    /// Do plain HTTP/1.1 requests go without the engine?
    pub fast_lane: bool,
    /// How the gateway stops.
    pub stop: Stop,
    /// Is the configuration reloaded when one of its files changes?
    pub watch: bool,
}

/// How the gateway stops once it is asked to.
#[derive(Clone, Copy, Debug)]
pub struct Stop {
    /// From "not ready" to no longer accepting.
    pub drain_delay: Duration,
    /// How long requests in flight may take after that.
    pub grace: Duration,
    /// How long the old process of an upgrade may go on with what it had.
    pub upgrade_grace: Duration,
}

/// `[platform]`: what the gateway stands in front of.
#[derive(Clone, Debug)]
pub struct Platform {
    /// Its servers, and how they are reached.
    pub pool: ServerPool,
    /// Does the `user-token` go on?
    pub forward_token: bool,
    /// Does `Authorization` go on?
    pub forward_authorization: bool,
    /// Field names for user, e-mail and organization, in this order.
    pub identity_fields: [String; 3],
    /// Names of fields that a client's request loses, beside those that always are.
    pub drop_fields: Vec<String>,
    /// Requests that change users, and whose tokens they end.
    pub user_changes: Vec<UserChange>,
}

/// One of `[[platforms]]`: where requests below a path go instead.
#[derive(Clone, Debug)]
pub struct PlatformRoute {
    /// The path.
    pub prefix: PathPrefix,
    /// Its servers, and how they are reached.
    pub pool: ServerPool,
}

/// Servers that may each answer any of the requests that come to them, and how they are reached.
#[derive(Clone, Debug)]
pub struct ServerPool {
    /// In the order of the configuration.
    pub servers: Vec<PlatformServer>,
    /// Are certificates verified? Off only by explicit word.
    pub verify: bool,
    /// The `Host` that they see.
    pub host: HostField,
    /// TCP, and TLS again.
    pub connect_timeout: Duration,
    /// Between two reads, the wait for the answer included.
    pub read_timeout: Duration,
    /// For each write.
    pub write_timeout: Duration,
    /// How long an unused connection is kept; shorter than the platform keeps it.
    pub idle_timeout: Duration,
    /// How often the servers' names are looked up.
    pub resolve_interval: Duration,
    /// When a server is left out for a while.
    pub ejection: Ejection,
}

/// One server of a platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformServer {
    /// `host:port`, or `unix:` and the path: what logs and metrics call it.
    pub name: String,
    /// Where it listens.
    pub address: ServerAddress,
    /// With TLS: the name or IP address that its certificate must have.
    pub tls_name: Option<String>,
    /// Its own name, as a `Host` field has it.
    pub host: String,
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerAddress {
    /// `host:port`
    Network(String),
    /// The path of a Unix domain socket.
    Unix(PathBuf),
}

/// `platform.host`: the `Host` field that the platform sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostField {
    /// The client's.
    Keep,
    /// That of the server which the request goes to.
    Server,
    /// Always this one.
    Name(String),
}

/// `platform.eject_after` and `platform.eject_on`: when a server is left out for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// After so many failures in a row; `None`: never.
    pub after: Option<NonZeroU32>,
    /// Do answers that did not come in time count?
    pub on_timeouts: bool,
    /// Do answers with a status of 500 or more count?
    pub on_errors: bool,
}

/// `[users]`: where users come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Users {
    /// The sources, in the order in which they are asked.
    pub sources: Vec<SourceName>,
    /// `[users.platform]`
    pub platform: PlatformLogin,
}

/// `[users.platform]`: how the platform's own users log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformLogin {
    /// Of its token endpoint.
    pub path: String,
    /// The status of an answer that has a token.
    pub success: u16,
    /// The member of the answer that is the token.
    pub member: String,
    /// What says who the user is.
    pub says: PlatformSays,
    /// How many logins it is asked about at once.
    pub connections: usize,
    /// How long it may take for each.
    pub timeout: Duration,
    /// For how long a hash serves of what it found right, while it cannot be asked; `None`: none is kept.
    pub remember_for: Option<Duration>,
}

impl Default for PlatformLogin {
    fn default() -> Self {
        Self {
            path: "/ds-api/user-token".into(),
            success: 201,
            member: "user-token".into(),
            says: PlatformSays::default(),
            connections: 16,
            timeout: Duration::from_secs(5),
            remember_for: None,
        }
    }
}

/// What says who a user of the platform is.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum PlatformSays {
    /// The claims of the token that it returns.
    #[default]
    Claims,
    /// What it says when it is asked about that token.
    Inspection,
}

/// `[store]`
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// Where it is.
    pub place: StorePlace,
    /// Longer without a successful read, and nothing is admitted.
    pub max_staleness: Duration,
    /// How often the gateway looks for changes that others made.
    pub poll_interval: Duration,
    /// How often the gateway says that it runs, and reads the sequence regardless.
    pub heartbeat_interval: Duration,
    /// How often expired rows are deleted and failed logins are written to the audit trail.
    pub upkeep_interval: Duration,
}

/// `store.url`: where the store is.
#[derive(Clone, Debug)]
pub enum StorePlace {
    /// An SQLite file.
    Sqlite(PathBuf),
    /// A PostgreSQL database.
    Postgres(Box<PostgresSettings>),
}

impl StorePlace {
    /// The SQLite file, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Sqlite(path) => Some(path),
            Self::Postgres(_) => None,
        }
    }

    /// As messages name it.
    pub fn shown(&self) -> PathBuf {
        match self {
            Self::Sqlite(path) => path.clone(),
            Self::Postgres(settings) => settings.shown().into(),
        }
    }

    /// What others may not accept of its certificate at this time, each with its reason.
    pub fn warnings(&self, now: UnixTime) -> Vec<String> {
        match self {
            Self::Sqlite(_) => Vec::new(),
            Self::Postgres(settings) => settings.certificate_warnings(now),
        }
    }
}

/// `[audit]`: how much of the trail is kept.
#[derive(Clone, Copy, Debug)]
pub struct Audit {
    /// Older rows go.
    pub keep: Duration,
    /// Where all take more room than this, so do the oldest rows of whoever has the most.
    pub max_bytes: u64,
}

/// `[limits]`
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Request line and fields together, in bytes.
    pub header_bytes: usize,
    /// Fields of a request.
    pub header_fields: usize,
    /// Body of a request, in bytes; `None`: any.
    pub body_bytes: Option<u64>,
    /// From the first byte of a header to its end.
    pub header_timeout: Duration,
    /// An idle client connection.
    pub keepalive_timeout: Duration,
    /// Between two reads of a body.
    pub body_timeout: Duration,
    /// Bytes a second that a body must bring, 20 s after it began; `None`: any number.
    pub body_min_rate: Option<u64>,
    /// A request, where its route has no limit of its own; `None`: any time.
    pub request_duration: Option<Duration>,
    /// Is there a limit of that kind for any request?
    pub has_deadlines: bool,
    /// A connection that has changed its protocol and moves no byte either way.
    pub upgraded_idle_timeout: Duration,
    /// Until a client has made its TLS handshake.
    pub handshake_timeout: Duration,
    /// A client that takes no byte of what waits for it.
    pub write_timeout: Duration,
    /// Client connections at once.
    pub connections: usize,
    /// Client connections at once from one address, or one IPv6 /64; `None`: any number.
    pub connections_per_address: Option<usize>,
    /// Requests at once.
    pub requests: u64,
    /// Requests at once on one connection of HTTP/2.
    pub requests_per_connection: u32,
    /// Connections to the platform at once, those included that are kept for later.
    pub platform_connections: usize,
    /// What connections and requests may take together, in bytes, estimated.
    pub memory: u64,
    /// Threads that hash passwords.
    pub login_workers: usize,
    /// Tokens minted for one user in a second, in the long run.
    pub mint_rate: NonZeroU32,
    /// Tokens minted for one user at once.
    pub mint_burst: NonZeroU32,
    /// Revoked tokens of one user that are kept; a user with so many gets no more tokens until some are forgotten.
    pub revocations_per_user: u64,
}

impl Limits {
    /// What a connection takes, in bytes: its socket, buffers, TLS and task, at rest and with a small header.
    pub const CONNECTION_BYTES: u64 = 32 * 1024;

    /// Half of `memory` at most is for connections: so many there can be.
    pub fn connections_within(memory: u64) -> usize {
        usize::try_from(memory / 2 / Self::CONNECTION_BYTES).unwrap_or(usize::MAX)
    }
}

/// `[log]`
#[derive(Clone, Debug)]
pub struct Log {
    /// One line an event, as JSON or for people.
    pub format: LogFormat,
    /// The least important level that is written.
    pub level: log::LevelFilter,
    /// One line a request?
    pub access: bool,
    /// Names of query parameters whose values are not shown, beside those that never are.
    pub redact: Vec<String>,
}

/// The forms of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people where standard error is a terminal, else for machines.
    Auto,
    /// For machines.
    Json,
    /// For people.
    Text,
}
