//! The configuration: TOML and environment in, checked values out, or every fault at once with its cure.
//!
//! `docs/configuration.md` describes each key; a test holds the two together.

mod files;
mod source;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer};

pub use files::{CertifiedKey, PairFile, SigningKeys, read_secret};
pub use source::Fault;

use self::source::{Section, Source};
use crate::auth::endpoint::InspectAuth;
use crate::auth::policy::{ENDPOINT, Policy, PublicRoute};
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
    /// `[token] inspect_auth`
    pub inspect_auth: InspectAuth,
    /// `[token] keys`
    pub keys: SigningKeys,
    /// `[routes]`
    pub routes: Policy,
    /// `[store]`
    pub store: StoreSettings,
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
        let routes = read_routes(source.section("routes"));
        let state_dir = server.as_ref().map(|server| server.state_dir.as_path());
        let store = read_store(source.section("store"), state_dir.unwrap_or(base));
        let limits = read_limits(source.section("limits"));
        let log = read_log(source.section("log"));
        let (faults, asked) = source.finish();
        let config = match (server, platform) {
            (Some(server), Some(platform)) if faults.is_empty() => {
                Ok(Self { server, admin, platform, token, inspect_auth, keys, routes, store, limits, log })
            }
            _ => Err(faults),
        };
        (config, asked)
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
        warnings
    }
}

fn read_server(mut section: Section<'_>, base: &Path) -> Option<Server> {
    let addresses = "write a list such as [\"0.0.0.0:8443\"]";
    let https: Vec<SocketAddr> = section.or("https", Vec::new(), addresses);
    let http: Vec<SocketAddr> = section.or("http", Vec::new(), addresses);
    let state_dir: Option<PathBuf> = section.optional("state_dir", "write a path");
    let certificate: Option<PathBuf> = section.optional("certificate", "write a path to a PEM file");
    let key: Option<PathBuf> = section.optional("private_key", "write a path to a PEM file");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = section.or("threads", cores, "write a number of threads");
    if https.is_empty() && http.is_empty() {
        section.fault("https", "no listener: give https or http at least one address");
    }
    if threads == 0 || threads > 1024 {
        section.fault("threads", "must be between 1 and 1024");
    }
    let certificate = match (certificate, key) {
        (Some(certificate), Some(key)) => {
            match CertifiedKey::read(&base.join(certificate), &base.join(key)) {
                Ok(pair) => Some(pair),
                Err((file, text)) => {
                    section.fault(file.key("certificate", "private_key"), text);
                    None
                }
            }
        }
        (None, None) => None,
        _ => {
            section.fault("certificate", "certificate and private_key go together: give both");
            None
        }
    };
    let Some(state_dir) = state_dir else {
        section.fault("state_dir", "is needed: the folder for store, keys and certificate");
        return None;
    };
    Some(Server { https, http, state_dir: base.join(state_dir), certificate, threads })
}

fn read_admin(mut section: Section<'_>) -> SocketAddr {
    let default = SocketAddr::from(([127, 0, 0, 1], 9464));
    section.or("listen", default, "write an address such as \"127.0.0.1:9464\"")
}

fn read_platform(mut section: Section<'_>, base: &Path) -> Option<Platform> {
    let urls: Vec<String> =
        section.or("servers", Vec::new(), "write a list such as [\"http://127.0.0.1:9000\"]");
    let path = "write a path to a PEM file";
    let ca_file: Option<PathBuf> = section.optional("ca_file", path);
    let server_name: Option<String> =
        section.optional("server_name", "write the name in the platform's certificate");
    let verify = section.or("verify", true, "write true or false");
    let client_certificate: Option<PathBuf> = section.optional("client_certificate", path);
    let client_key: Option<PathBuf> = section.optional("client_key", path);

    let mut schemes = Vec::new();
    let mut servers = Vec::new();
    for url in &urls {
        match parse_server(url) {
            Ok((scheme, server)) => {
                schemes.push(scheme);
                servers.push(server);
            }
            Err(text) => section.fault("servers", format!("{url:?} {text}")),
        }
    }
    if urls.is_empty() {
        section.fault("servers", "is needed: the platform's servers, [\"http://127.0.0.1:9000\"]");
    }
    let https = schemes.contains(&Scheme::Https);
    if https && schemes.contains(&Scheme::Http) {
        section.fault("servers", "must be all http or all https");
    }
    let tls = if https {
        let settings = TlsFiles { ca_file, server_name, verify, client_certificate, client_key };
        Some(read_platform_tls(&mut section, base, settings, servers.first()))
    } else {
        let given = [
            ("ca_file", ca_file.is_some()),
            ("server_name", server_name.is_some()),
            ("client_certificate", client_certificate.is_some()),
            ("client_key", client_key.is_some()),
        ];
        for (key, _) in given.into_iter().filter(|(_, given)| *given) {
            section.fault(key, "means something only for https servers: remove it or use https://");
        }
        None
    };
    let identity_fields = [
        ("user_header", "X-DS-User"),
        ("email_header", "X-DS-Email"),
        ("organization_header", "X-DS-Organization"),
    ]
    .map(|(key, default)| read_field_name(&mut section, key, default));
    let lower = identity_fields.clone().map(|name| name.to_ascii_lowercase());
    if lower.first() == lower.get(1) || lower.get(1) == lower.get(2) || lower.first() == lower.get(2) {
        section.fault("user_header", "the three identity headers need three names");
    }
    Some(Platform {
        servers,
        tls,
        forward_token: section.or("forward_token", true, "write true or false"),
        forward_authorization: section.or("forward_authorization", false, "write true or false"),
        connect_timeout: read_duration(&mut section, "connect_timeout", 2),
        read_timeout: read_duration(&mut section, "read_timeout", 60),
        write_timeout: read_duration(&mut section, "write_timeout", 30),
        idle_timeout: read_duration(&mut section, "idle_timeout", 50),
        identity_fields,
    })
}

struct TlsFiles {
    ca_file: Option<PathBuf>,
    server_name: Option<String>,
    verify: bool,
    client_certificate: Option<PathBuf>,
    client_key: Option<PathBuf>,
}

fn read_platform_tls(
    section: &mut Section<'_>,
    base: &Path,
    files: TlsFiles,
    first_server: Option<&String>,
) -> PlatformTls {
    // Without a name nothing would be verified, silently; an address is never the name in a certificate.
    let host = first_server.and_then(|server| server.rsplit_once(':')).map(|(host, _)| host);
    let is_address = |host: &str| host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    let server_name = match (files.server_name, host) {
        (Some(name), _) if !name.is_empty() && !is_address(&name) => name,
        (Some(_), _) => {
            section.fault("server_name", "must be the DNS name in the platform's certificate");
            String::new()
        }
        (None, Some(host)) if !is_address(host) => host.to_owned(),
        (None, _) => {
            let text = "is needed for https to an address: the DNS name in the platform's certificate";
            section.fault("server_name", text);
            String::new()
        }
    };
    let ca = files.ca_file.and_then(|path| match files::read_certificates(&base.join(path)) {
        Ok(certificates) => Some(certificates),
        Err(text) => {
            section.fault("ca_file", text);
            None
        }
    });
    let client = match (files.client_certificate, files.client_key) {
        (Some(certificate), Some(key)) => {
            match CertifiedKey::read(&base.join(certificate), &base.join(key)) {
                Ok(pair) => Some(pair),
                Err((file, text)) => {
                    section.fault(file.key("client_certificate", "client_key"), text);
                    None
                }
            }
        }
        (None, None) => None,
        _ => {
            let text = "client_certificate and client_key go together: give both";
            section.fault("client_certificate", text);
            None
        }
    };
    PlatformTls { server_name, ca, verify: files.verify, client }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

fn parse_server(url: &str) -> Result<(Scheme, String), &'static str> {
    let uri: http::Uri = url.parse().map_err(|_| "is not a URL: write http://host:port")?;
    let (scheme, default_port) = match uri.scheme_str() {
        Some("http") => (Scheme::Http, 80),
        Some("https") => (Scheme::Https, 443),
        _ => return Err("must begin with http:// or https://"),
    };
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err("must have no path: requests keep the one that they came with");
    }
    let authority = uri.authority().ok_or("names no host")?;
    if authority.as_str().contains('@') || authority.host().is_empty() {
        return Err("must name a host and nothing more");
    }
    let port = authority.port_u16().unwrap_or(default_port);
    if port == 0 {
        return Err("has no usable port");
    }
    Ok((scheme, format!("{}:{port}", authority.host())))
}

fn read_field_name(section: &mut Section<'_>, key: &str, default: &str) -> String {
    let name: String = section.or(key, default.to_owned(), "write a header name such as \"X-DS-User\"");
    let token = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let reserved = [
        "user-token",
        "authorization",
        "host",
        "connection",
        "content-length",
        "transfer-encoding",
        "cookie",
        "x-request-id",
    ];
    if name.is_empty() || !name.bytes().all(token) {
        section.fault(key, "must be letters, digits and hyphens");
    } else if reserved.contains(&name.to_ascii_lowercase().as_str()) {
        section.fault(key, "is a header with another meaning: choose another name");
    }
    name
}

fn read_token(mut section: Section<'_>, base: &Path) -> (TokenRules, InspectAuth, SigningKeys) {
    let rules = TokenRules {
        lifetime: read_duration(&mut section, "lifetime", 24 * 3600).as_secs(),
        max_lifetime: read_duration(&mut section, "max_lifetime", 25 * 3600).as_secs(),
        max_skew: read_duration(&mut section, "max_skew", 5).as_secs(),
        max_bytes: section.or("max_bytes", 8192, "write a number of bytes"),
        unknown_users: section.or("unknown_users", UnknownUsers::Refuse, "write \"refuse\" or \"accept\""),
    };
    if rules.lifetime == 0 {
        section.fault("lifetime", "must be at least one second");
    }
    if rules.max_lifetime < rules.lifetime {
        section.fault("max_lifetime", "is shorter than lifetime: tokens would be refused at birth");
    }
    if rules.max_lifetime > 366 * 24 * 3600 {
        section.fault("max_lifetime", "must be a year at most");
    }
    if rules.max_skew > 300 {
        section.fault("max_skew", "must be five minutes at most: set the clocks instead");
    }
    if !(512..=65_536).contains(&rules.max_bytes) {
        section.fault("max_bytes", "must be between 512 and 65536");
    }
    let inspect = section.or("inspect_auth", InspectAuth::Basic, "write \"basic\" or \"token\"");
    let cure = "write a list such as [{ kid = \"2026-11\", algorithm = \"HS256\", file = \"…\" }]";
    let entries: Option<Vec<files::KeyEntry>> = section.optional("keys", cure);
    let keys = match entries {
        None => SigningKeys::Generated,
        Some(entries) => match files::read_keys(&entries, base) {
            Ok(ring) => SigningKeys::Configured(ring),
            Err(texts) => {
                texts.into_iter().for_each(|text| section.fault("keys", text));
                SigningKeys::Generated
            }
        },
    };
    (rules, inspect, keys)
}

#[derive(Deserialize)]
#[serde(untagged)]
enum PublicEntry {
    Path(String),
    Methods(PublicMethods),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PublicMethods {
    path: String,
    methods: Vec<String>,
}

fn read_routes(mut section: Section<'_>) -> Policy {
    let cure = "write a list of \"/path\", \"/folder/*\" or { path = \"…\", methods = [\"OPTIONS\"] }";
    let entries: Vec<PublicEntry> = section.or("public", Vec::new(), cure);
    let mut policy =
        Policy { public: Vec::new(), strict_paths: section.or("strict_paths", false, "write true or false") };
    for entry in entries {
        let (path, methods) = match entry {
            PublicEntry::Path(path) => (path, Vec::new()),
            PublicEntry::Methods(entry) if entry.methods.is_empty() => {
                section.fault("public", format!("{:?} lists no method", entry.path));
                continue;
            }
            PublicEntry::Methods(entry) => (entry.path, entry.methods),
        };
        if path == ENDPOINT || path.strip_prefix(ENDPOINT).is_some_and(|rest| rest.starts_with('/')) {
            let text = format!("{path:?} is the gateway's own and never forwarded: remove it");
            section.fault("public", text);
            continue;
        }
        match PublicRoute::new(&path, &methods) {
            Some(route) => policy.public.push(route),
            None => {
                let text = format!(
                    "{path:?} is not a canonical path, \"/folder/*\", or one of its methods is not in capitals"
                );
                section.fault("public", text);
            }
        }
    }
    policy
}

fn read_store(mut section: Section<'_>, state_dir: &Path) -> StoreSettings {
    let url: String = section.or("url", "sqlite:gateway.db".into(), "write \"sqlite:\" and a file name");
    let path = match url.strip_prefix("sqlite:") {
        Some(name) if !name.is_empty() => state_dir.join(name),
        _ => {
            section.fault("url", "must be \"sqlite:\" and the name of a file, in state_dir");
            state_dir.to_owned()
        }
    };
    let max_staleness = read_duration(&mut section, "max_staleness", 300);
    if max_staleness < Duration::from_secs(10) {
        section.fault("max_staleness", "must be at least 10s: the store is read every 5s");
    }
    StoreSettings { path, max_staleness }
}

fn read_limits(mut section: Section<'_>) -> Limits {
    let number = "write a number";
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let body_bytes: u64 = section.or("body_bytes", 0, "write a number of bytes, 0 for no limit");
    let login_workers = section.or("login_workers", cores, number);
    let limits = Limits {
        header_bytes: section.or("header_bytes", 32 * 1024, "write a number of bytes"),
        header_fields: section.or("header_fields", 100, number),
        body_bytes: (body_bytes > 0).then_some(body_bytes),
        header_timeout: read_duration(&mut section, "header_timeout", 10),
        keepalive_timeout: read_duration(&mut section, "keepalive_timeout", 60),
        body_timeout: read_duration(&mut section, "body_timeout", 30),
        connections: section.or("connections", 10_000, number),
        login_workers,
        login_queue: section.or("login_queue", 2 * login_workers, number),
    };
    if !(1024..1_048_576).contains(&limits.header_bytes) {
        section.fault("header_bytes", "must be at least 1024 and less than 1048576");
    }
    if !(10..=256).contains(&limits.header_fields) {
        section.fault("header_fields", "must be between 10 and 256");
    }
    if limits.connections == 0 {
        section.fault("connections", "must be at least 1");
    }
    if !(1..=256).contains(&limits.login_workers) {
        section.fault("login_workers", "must be between 1 and 256; each needs 19 MiB");
    }
    limits
}

fn read_log(mut section: Section<'_>) -> Log {
    let level: String = section.or("level", "info".into(), "write a level");
    let level = match level.as_str() {
        "error" => log::LevelFilter::Error,
        "warn" => log::LevelFilter::Warn,
        "info" => log::LevelFilter::Info,
        _ => {
            // Finer levels of the libraries below would show raw requests.
            section.fault("level", "must be \"error\", \"warn\" or \"info\"");
            log::LevelFilter::Info
        }
    };
    Log {
        format: section.or("format", LogFormat::Json, "write \"json\" or \"text\""),
        level,
        access: section.or("access", true, "write true or false"),
    }
}

/// A duration of at least one second, written `"90s"`, `"5m"`, `"24h"`.
fn read_duration(section: &mut Section<'_>, key: &str, default_seconds: u64) -> Duration {
    let default = Span(Duration::from_secs(default_seconds));
    let Span(span) = section.or(key, default, "write a duration such as \"30s\", \"5m\" or \"24h\"");
    if span < Duration::from_secs(1) {
        section.fault(key, "must be at least one second");
    }
    span
}

struct Span(Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        let text = String::deserialize(source)?;
        humantime::parse_duration(&text).map(Self).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
