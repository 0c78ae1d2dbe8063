//! The configuration: TOML and environment in, checked values out, or every fault at once with its cure.
//!
//! `docs/configuration.md` describes each key; a test holds the two together.

mod files;
mod platform;
mod sections;
mod source;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

pub use files::{CertifiedKey, PairFile, SigningKeys, read_secret};
pub use source::{Fault, PREFIX};

use self::platform::read_platform;
use self::sections::{
    read_admin, read_audit, read_cache, read_limits, read_log, read_routes, read_server, read_store,
    read_token,
};
use self::source::Source;
use crate::auth::cache::CacheLimits;
use crate::auth::endpoint::InspectAuth;
use crate::auth::policy::{Policy, PublicRoute};
use crate::auth::token::{TokenRules, UnknownUsers};

/// Everything that an operator can decide, checked.
#[derive(Debug)]
pub struct Config {
    /// `[server]`
    pub server: Server,
    /// `[admin] listen`
    pub admin: SocketAddr,
    /// `[platform]`
    pub platform: Platform,
    /// `[token]`, but for the two below
    pub token: TokenRules,
    /// `[cache]`
    pub cache: CacheLimits,
    /// `[token] inspect_auth`
    pub inspect_auth: InspectAuth,
    /// `[token] keys`
    pub keys: SigningKeys,
    /// `[routes]`
    pub routes: Policy,
    /// `[store]`
    pub store: StoreSettings,
    /// `[audit]`
    pub audit: Audit,
    /// `[limits]`
    pub limits: Limits,
    /// `[log]`
    pub log: Log,
}

/// `[server]`: where the gateway listens, and where its own files are.
#[derive(Debug)]
pub struct Server {
    /// Addresses with TLS.
    pub https: Vec<SocketAddr>,
    /// Addresses without.
    pub http: Vec<SocketAddr>,
    /// Store, keys, certificate.
    pub state_dir: PathBuf,
    /// The operator's certificate; none: a self-signed one in `state_dir`.
    pub certificate: Option<CertifiedKey>,
    /// Worker threads.
    pub threads: usize,
    /// How the gateway stops.
    pub stop: Stop,
}

/// How the gateway stops once it is asked to.
#[derive(Clone, Copy, Debug)]
pub struct Stop {
    /// From "not ready" to no longer accepting.
    pub drain_delay: Duration,
    /// How long requests in flight may take after that.
    pub grace: Duration,
}

/// `[platform]`: what the gateway stands in front of.
#[derive(Debug)]
pub struct Platform {
    /// `host:port` of each server, as configured.
    pub servers: Vec<String>,
    /// TLS towards the platform.
    pub tls: Option<PlatformTls>,
    /// Does the `user-token` go on?
    pub forward_token: bool,
    /// Does `Authorization` go on?
    pub forward_authorization: bool,
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
    /// Field names for user, e-mail and organization, in this order.
    pub identity_fields: [String; 3],
}

/// How an https platform is checked.
#[derive(Debug)]
pub struct PlatformTls {
    /// The name in the certificate, and SNI.
    pub server_name: String,
    /// Certificates to trust instead of the system's.
    pub ca: Option<Vec<openssl::x509::X509>>,
    /// Off only by explicit word.
    pub verify: bool,
    /// What the gateway shows the platform.
    pub client: Option<CertifiedKey>,
}

/// `[store]`
#[derive(Debug)]
pub struct StoreSettings {
    /// The SQLite file.
    pub path: PathBuf,
    /// Longer without a successful read, and nothing is admitted.
    pub max_staleness: Duration,
    /// How often the gateway looks for changes that others made.
    pub poll_interval: Duration,
    /// How often the gateway says that it runs, and reads the sequence regardless.
    pub heartbeat_interval: Duration,
    /// How often expired rows are deleted and failed logins are written to the audit trail.
    pub upkeep_interval: Duration,
}

/// `[audit]`: how much of the trail is kept.
#[derive(Clone, Copy, Debug)]
pub struct Audit {
    /// Older rows go.
    pub keep: Duration,
    /// So do the oldest, where all take more room than this.
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
    /// Client connections at once.
    pub connections: usize,
    /// Threads that hash passwords.
    pub login_workers: usize,
    /// Logins that may wait for one.
    pub login_queue: usize,
    /// Tokens minted for one user in a second, in the long run.
    pub mint_rate: NonZeroU32,
    /// Tokens minted for one user at once.
    pub mint_burst: NonZeroU32,
}

/// `[log]`
#[derive(Clone, Copy, Debug)]
pub struct Log {
    /// One line an event, as JSON or for people.
    pub format: LogFormat,
    /// The least important level that is written.
    pub level: log::LevelFilter,
    /// One line a request?
    pub access: bool,
}

/// The two forms of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For machines.
    Json,
    /// For people.
    Text,
}

impl Config {
    /// Reads `path`, with overrides from `environment`.
    pub fn load(
        path: &Path,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, Vec<Fault>> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            let key = path.display().to_string();
            vec![Fault { key, text: format!("cannot be read: {error}") }]
        })?;
        let base = path.parent().unwrap_or(Path::new("."));
        Self::parse(&text, base, environment).0
    }

    /// Reads a text whose relative paths start at `base`. Also says which keys it looked for.
    pub fn parse(
        text: &str,
        base: &Path,
        environment: impl Iterator<Item = (String, String)>,
    ) -> (Result<Self, Vec<Fault>>, Vec<String>) {
        let mut source = Source::new(text, environment);
        let server = read_server(source.section("server"), base);
        let admin = read_admin(source.section("admin"));
        let platform = read_platform(source.section("platform"), base);
        let (token, inspect_auth, keys) = read_token(source.section("token"), base);
        let cache = read_cache(source.section("cache"));
        let routes = read_routes(source.section("routes"));
        let state_dir = server.as_ref().map(|server| server.state_dir.as_path());
        let store = read_store(source.section("store"), state_dir.unwrap_or(base));
        let audit = read_audit(source.section("audit"));
        let limits = read_limits(source.section("limits"));
        let log = read_log(source.section("log"));
        let (faults, asked) = source.finish();
        let config = match (server, platform) {
            (Some(server), Some(platform)) if faults.is_empty() => Ok(Self {
                server,
                admin,
                platform,
                token,
                inspect_auth,
                cache,
                keys,
                routes,
                store,
                audit,
                limits,
                log,
            }),
            _ => Err(faults),
        };
        (config, asked)
    }

    /// The choices that matter to whoever reads the metrics, as labels: few, and none of them a secret.
    pub fn choices(&self) -> Vec<(&'static str, &'static str)> {
        let word = |on: bool| if on { "true" } else { "false" };
        vec![
            ("forward_token", word(self.platform.forward_token)),
            (
                "inspect_auth",
                match self.inspect_auth {
                    InspectAuth::Basic => "basic",
                    InspectAuth::Token => "token",
                },
            ),
            ("strict_paths", word(self.routes.strict_paths)),
            (
                "unknown_users",
                match self.token.unknown_users {
                    UnknownUsers::Refuse => "refuse",
                    UnknownUsers::Accept => "accept",
                },
            ),
        ]
    }

    /// Choices that are allowed and dangerous, each with its reason.
    pub fn warnings(&self) -> Vec<String> {
        let open = |address: &SocketAddr| !address.ip().is_loopback();
        let mut warnings = Vec::new();
        let mut warn = |on: bool, text: &str| {
            if on {
                warnings.push(text.to_owned());
            }
        };
        warn(
            self.routes.public.iter().any(PublicRoute::is_everything),
            "routes.public: \"/*\" lets everything through without a token",
        );
        warn(
            self.platform.tls.as_ref().is_some_and(|tls| !tls.verify),
            "platform.verify: false lets anyone on the way pretend to be the platform",
        );
        warn(
            self.server.http.iter().any(open),
            "server.http: passwords and tokens cross the network in the clear; keep it behind a TLS balancer",
        );
        warn(open(&self.admin), "admin.listen: metrics are open to the network");
        warn(
            self.token.unknown_users == UnknownUsers::Accept,
            "token.unknown_users: \"accept\" believes foreign tokens about users that were never added",
        );
        for file in self.server.certificate.iter().filter_map(|pair| pair.open_file.as_deref()) {
            let shown = file.display();
            warnings.push(format!(
                "server.private_key: everybody here may read {shown}: run `chmod 600 {shown}`"
            ));
        }
        warnings
    }
}

#[cfg(test)]
mod tests;
