//! Sections of the file, from keys to checked values. Those with a file of their own: `server`, `platform`, `routes`, `cors`.

use std::num::NonZeroU32;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::certificates::PairPaths;
use super::machine;
use super::materials::KeyFile;
use super::networks::{Network, Networks};
use super::postgres::{Durability, Surroundings, read_postgres, without_scheme};
use super::routes::RouteDurations;
use super::settings::{Audit, Limits, Log, LogFormat, StorePlace, StoreSettings};
use super::source::Section;
use crate::auth::cache::CacheLimits;
use crate::auth::endpoint::InspectAuth;
use crate::auth::token::TokenRules;

pub(super) fn read_token(
    mut section: Section<'_>,
    base: &Path,
) -> (TokenRules, InspectAuth, Option<Vec<KeyFile>>) {
    let default = TokenRules::DEFAULT;
    let rules = TokenRules {
        lifetime: section.duration("lifetime", default.lifetime).as_secs(),
        max_lifetime: section.duration("max_lifetime", default.max_lifetime).as_secs(),
        max_skew: section.duration("max_skew", default.max_skew).as_secs(),
        max_bytes: section.or("max_bytes", default.max_bytes, "write a number of bytes"),
        unknown_users: section.or("unknown_users", default.unknown_users, "write \"refuse\" or \"accept\""),
    };
    if rules.max_lifetime < rules.lifetime {
        section.error("max_lifetime", "is shorter than lifetime: newly issued tokens would be rejected");
    }
    if rules.max_lifetime > 366 * 24 * 3600 {
        section.error("max_lifetime", "must be a year at most");
    }
    if rules.max_skew > 300 {
        section.error("max_skew", "must be five minutes at most: correct the clocks instead");
    }
    if !(512..=65_536).contains(&rules.max_bytes) {
        section.error("max_bytes", "must be between 512 and 65536");
    }
    let inspect = section.or("inspect_auth", InspectAuth::Basic, "write \"basic\" or \"token\"");
    let hint = "write a list such as [{ kid = \"2026-11\", algorithm = \"HS256\", file = \"…\" }]";
    let entries: Option<Vec<KeyEntry>> = section.optional("keys", hint);
    let file = |KeyEntry { kid, algorithm, file, foreign }| {
        let path = base.join(file);
        KeyFile { kid, algorithm, path, foreign }
    };
    let keys = entries.map(|entries| entries.into_iter().map(file).collect());
    (rules, inspect, keys)
}

/// One entry of `token.keys`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyEntry {
    kid: String,
    algorithm: String,
    file: PathBuf,
    #[serde(default)]
    foreign: bool,
}

/// The pair that a section names by the keys `names`: both or neither.
pub(super) fn read_pair(
    section: &mut Section<'_>,
    base: &Path,
    names: (&str, &str),
    paths: (Option<PathBuf>, Option<PathBuf>),
) -> Option<PairPaths> {
    match paths {
        (Some(certificate), Some(key)) => {
            Some(PairPaths { certificate: base.join(certificate), key: base.join(key) })
        }
        (None, None) => None,
        _ => {
            section.error(names.0, format!("{} and {} go together: give both", names.0, names.1));
            None
        }
    }
}

pub(super) fn read_cache(mut section: Section<'_>) -> CacheLimits {
    CacheLimits {
        entries: section.or("entries", 100_000, "write a number of tokens, 0 for no cache"),
        bytes: section.or("bytes", 128 * 1024 * 1024, "write a number of bytes"),
    }
}

pub(super) fn read_store(mut section: Section<'_>, surroundings: Surroundings<'_>) -> StoreSettings {
    let hint = "write \"sqlite:\" and a file name, or a URL of PostgreSQL";
    let url: String = section.or("url", "sqlite:gateway.db".into(), hint);
    let password_file: Option<PathBuf> = section.optional("password_file", "write a path to a file");
    let durability: Option<Durability> =
        section.optional("durability", "write \"local\" or \"remote_apply\"");
    let place = match without_scheme(&url) {
        Some(url) => {
            let durability = durability.unwrap_or_default();
            read_postgres(&mut section, url, password_file, durability, surroundings)
                .map(|settings| StorePlace::Postgres(Box::new(settings)))
        }
        None => {
            let given = [("password_file", password_file.is_some()), ("durability", durability.is_some())];
            for (key, _) in given.into_iter().filter(|(_, is_given)| *is_given) {
                section.error(key, "is for a store in PostgreSQL only: remove it");
            }
            Some(StorePlace::Sqlite(read_file(&mut section, &url, surroundings)))
        }
    };
    // With an error noted: the settings are never used.
    let place = place.unwrap_or_else(|| StorePlace::Sqlite(surroundings.base.to_owned()));
    let max_staleness = section.duration("max_staleness", 300);
    let poll_interval = section.interval("poll_interval", Duration::from_millis(100));
    let heartbeat_interval = section.interval("heartbeat_interval", Duration::from_secs(5));
    let upkeep_interval = section.interval("upkeep_interval", Duration::from_secs(60));
    if heartbeat_interval < poll_interval {
        section.error("heartbeat_interval", "must not be shorter than poll_interval");
    }
    if max_staleness < heartbeat_interval * 2 {
        section.error("max_staleness", "must be at least twice heartbeat_interval");
    }
    StoreSettings { place, max_staleness, poll_interval, heartbeat_interval, upkeep_interval }
}

/// The file of a store in SQLite.
fn read_file(section: &mut Section<'_>, url: &str, surroundings: Surroundings<'_>) -> PathBuf {
    let state_dir = surroundings.state_dir.unwrap_or(surroundings.base);
    match url.strip_prefix("sqlite:") {
        Some(name) if !name.is_empty() => {
            let path = state_dir.join(name);
            if let Some(fault) = store_name_fault(name, &path, state_dir) {
                section.error("url", fault);
            }
            path
        }
        _ => {
            section.error(
                "url",
                "must be \"sqlite:\" and the name of a file in state_dir, or postgres://USER@HOST/DATABASE",
            );
            state_dir.to_owned()
        }
    }
}

/// Why the store cannot have this name, if so.
fn store_name_fault(name: &str, path: &Path, state_dir: &Path) -> Option<String> {
    let is_folder = matches!(path.components().next_back(), Some(Component::ParentDir | Component::RootDir))
        || name.ends_with('/')
        || name.split('/').next_back() == Some(".");
    // The components, since "./keys" is the same place.
    let is_taken = RESERVED.iter().any(|taken| path.components().eq(state_dir.join(taken).components()));
    match (is_folder, is_taken) {
        (_, true) => Some(format!("{name:?} is a place in state_dir for something else: name another file")),
        (true, _) => Some(format!("{name:?} is a folder: name a file in it")),
        _ => None,
    }
}

/// What else is in the state folder.
const RESERVED: [&str; 5] = ["failed-logins", "gateways", "keys", "lock", "tls"];

pub(super) fn read_audit(mut section: Section<'_>) -> Audit {
    let audit = Audit {
        keep: section.duration("keep", 90 * 24 * 3600),
        max_bytes: section.or("max_bytes", 100 * 1024 * 1024, "write a number of bytes"),
    };
    if audit.max_bytes < 1024 * 1024 {
        section.error("max_bytes", "must be at least 1048576");
    }
    audit
}

pub(super) fn read_limits(mut section: Section<'_>, threads: usize, durations: &RouteDurations) -> Limits {
    let number = "write a number";
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let body_bytes: u64 = section.or("body_bytes", 0, "write a number of bytes, 0 for no limit");
    // One core is left to the requests, where there are several.
    let login_workers = section.or("login_workers", cores.saturating_sub(1).max(1), number);
    let per_address: usize = section.or("connections_per_address", 0, "write a number, 0 for no limit");
    let body_min_rate: u64 =
        section.or("body_min_rate", 240, "write a number of bytes a second, 0 for no limit");
    let request_duration = section.delay("request_duration", 0);
    let request_duration = (!request_duration.is_zero()).then_some(request_duration);
    let memory = section.or("memory", machine::memory() / 4, "write a number of bytes");
    let connections: usize =
        section.or("connections", Limits::connections_within(memory).min(10_000), number);
    // A quarter may be idle, and the rest is enough for a request of each client.
    let platform_connections =
        connections.saturating_add(connections.div_ceil(3)).saturating_add(2 * threads);
    let limits = Limits {
        header_bytes: section.or("header_bytes", 32 * 1024, "write a number of bytes"),
        header_fields: section.or("header_fields", 100, number),
        body_bytes: (body_bytes > 0).then_some(body_bytes),
        header_timeout: section.duration("header_timeout", 10),
        keepalive_timeout: section.duration("keepalive_timeout", 75),
        body_timeout: section.duration("body_timeout", 30),
        body_min_rate: (body_min_rate > 0).then_some(body_min_rate),
        request_duration,
        has_deadlines: request_duration.is_some() || !durations.is_empty(),
        upgraded_idle_timeout: section.duration("upgraded_idle_timeout", 600),
        handshake_timeout: section.duration("handshake_timeout", 10),
        write_timeout: section.duration("write_timeout", 30),
        connections,
        connections_per_address: (per_address > 0).then_some(per_address),
        requests: section.or("requests", 10_000, number),
        requests_per_connection: section.or("requests_per_connection", 100, number),
        platform_connections: section.or("platform_connections", platform_connections, number),
        memory,
        login_workers,
        mint_rate: section.or("mint_rate", NonZeroU32::MIN, "write a number of tokens, at least 1"),
        mint_burst: section.or("mint_burst", BURST, "write a number of tokens, at least 1"),
        revocations_per_user: section.or(
            "revocations_per_user",
            300_000,
            "write a number of revoked tokens, at least 1",
        ),
    };
    if !(1024..1_048_576).contains(&limits.header_bytes) {
        section.error("header_bytes", "must be at least 1024 and less than 1048576");
    }
    if !(10..=256).contains(&limits.header_fields) {
        section.error("header_fields", "must be between 10 and 256");
    }
    if !(1..=1_000_000).contains(&limits.connections) {
        section.error("connections", "must be between 1 and 1000000");
    }
    if limits.requests == 0 {
        section.error("requests", "must be at least 1");
    }
    if !(1..=10_000).contains(&limits.requests_per_connection) {
        section.error("requests_per_connection", "must be between 1 and 10000");
    }
    if !(2 * threads..=2_000_000).contains(&limits.platform_connections) {
        let least = 2 * threads;
        section.error(
            "platform_connections",
            format!("must be between {least}, two for each of server.threads, and 2000000"),
        );
    }
    if limits.memory < LEAST_MEMORY {
        section.error("memory", "must be at least 16777216: a few connections and requests need it");
    }
    if !(1..=10_000_000).contains(&limits.revocations_per_user) {
        section.error(
            "revocations_per_user",
            "must be between 1 and 10000000: 0 would allow no token, and each revocation takes memory in every gateway",
        );
    }
    if !(1..=256).contains(&limits.login_workers) {
        section.error("login_workers", "must be between 1 and 256; each needs 19 MiB");
    }
    limits
}

/// `limits.login.trusted`
pub(super) fn read_login(mut section: Section<'_>) -> Networks {
    networks(&mut section, "trusted")
}

pub(super) fn networks(section: &mut Section<'_>, key: &str) -> Networks {
    let texts: Vec<String> =
        section.or(key, Vec::new(), "write a list such as [\"10.0.0.0/8\", \"192.0.2.7\"]");
    let mut networks = Vec::new();
    for text in texts {
        match text.parse::<Network>() {
            Ok(network) => networks.push(network),
            Err(()) => {
                section.error(key, format!("{text:?} is not an address or a network such as \"10.0.0.0/8\""))
            }
        }
    }
    networks.into_iter().collect()
}

/// 16 MiB.
const LEAST_MEMORY: u64 = 16 * 1024 * 1024;

/// Tokens that one user may have at once.
const BURST: NonZeroU32 = NonZeroU32::new(100).unwrap();

pub(super) fn read_log(mut section: Section<'_>) -> Log {
    let level: String = section.or("level", "info".into(), "write a level");
    let level = match level.as_str() {
        "error" => log::LevelFilter::Error,
        "warn" => log::LevelFilter::Warn,
        "info" => log::LevelFilter::Info,
        _ => {
            // Finer levels of the libraries below would show raw requests.
            section.error("level", "must be \"error\", \"warn\" or \"info\"");
            log::LevelFilter::Info
        }
    };
    Log {
        format: section.or("format", LogFormat::Auto, "write \"json\", \"text\" or \"auto\""),
        level,
        access: section.or("access", true, "write true or false"),
        redact: section.or("redact", Vec::new(), "write a list of names of query parameters"),
    }
}
