//! The section on routes.

use std::time::Duration;

use serde::Deserialize;

use super::observe::{Observe, read_observe};
use super::source::{Section, Span};
use crate::auth::policy::{
    ENDPOINT, LenientPrefix, PathPattern, Policy, PublicRoute, UpgradeError, UpgradeRoute,
};

/// `routes.request_duration`: how long requests of a route may take; a limit of zero is none.
pub(super) type RouteDurations = Vec<(PathPattern, Option<Duration>)>;

pub(super) fn read_routes(mut section: Section<'_>) -> (Policy, RouteDurations, Option<Observe>) {
    let hint = "write a list of \"/path\", \"/folder/*\" or { path = \"…\", methods = [\"OPTIONS\"] }";
    let entries: Vec<PublicEntry> = section.or("public", Vec::new(), hint);
    let lenient: Vec<String> = section.or("lenient", Vec::new(), "write a list of \"/folder/*\"");
    let hint = "write a list of \"/path\", \"/folder/*\" or { path = \"…\", protocols = [\"websocket\"] }";
    let upgrades: Vec<UpgradeEntry> = section.or("upgrades", Vec::new(), hint);
    let hint = "write a list of { path = \"/folder/*\", limit = \"10m\" }";
    let limits: Vec<DurationEntry> = section.or("request_duration", Vec::new(), hint);
    let mut durations = RouteDurations::new();
    for DurationEntry { path, limit: Span(limit) } in limits {
        match PathPattern::new(&path) {
            Some(pattern) => durations.push((pattern, (!limit.is_zero()).then_some(limit))),
            None => section
                .error("request_duration", format!("{path:?} is not a canonical path or \"/folder/*\"")),
        }
    }
    let mut policy = Policy {
        strict_paths: section.or("strict_paths", false, "write true or false"),
        ..Policy::default()
    };
    for pattern in lenient {
        match LenientPrefix::new(&pattern) {
            Some(prefix) => policy.lenient.push(prefix),
            None => section.error(
                "lenient",
                format!("{pattern:?} is not a canonical \"/folder/*\", or {ENDPOINT} lies below it"),
            ),
        }
    }
    for entry in entries {
        let (path, methods) = match entry {
            PublicEntry::Path(path) => (path, Vec::new()),
            PublicEntry::Methods(entry) if entry.methods.is_empty() => {
                section.error("public", format!("{:?} lists no method", entry.path));
                continue;
            }
            PublicEntry::Methods(entry) => (entry.path, entry.methods),
        };
        if is_own(&path) {
            let text = format!("{path:?} is the gateway's own and never forwarded: remove it");
            section.error("public", text);
            continue;
        }
        match PublicRoute::new(&path, &methods) {
            Some(route) => policy.public.push(route),
            None => {
                let text = format!(
                    "{path:?} is not a canonical path, \"/folder/*\", or one of its methods is not in capitals"
                );
                section.error("public", text);
            }
        }
    }
    policy.upgrades = upgrades.into_iter().filter_map(|entry| read_upgrade(&mut section, entry)).collect();
    (policy, durations, read_observe(&mut section))
}

/// One entry of `routes.upgrades`; without protocols it is about WebSocket.
fn read_upgrade(section: &mut Section<'_>, entry: UpgradeEntry) -> Option<UpgradeRoute> {
    let (path, protocols) = match entry {
        UpgradeEntry::Path(path) => (path, vec!["websocket".to_owned()]),
        UpgradeEntry::Protocols(entry) => (entry.path, entry.protocols),
    };
    let text = match UpgradeRoute::new(&path, &protocols) {
        _ if is_own(&path) => format!("{path:?} is the gateway's own and never forwarded: remove it"),
        _ if protocols.is_empty() => format!("{path:?} lists no protocol"),
        Ok(route) => return Some(route),
        Err(UpgradeError::Path) => format!("{path:?} is not a canonical path or \"/folder/*\""),
        Err(UpgradeError::Name) => {
            format!(
                "{path:?}: {protocols:?} must be names of protocols such as \"websocket\" or \"name/version\""
            )
        }
        Err(UpgradeError::Hidden) => format!(
            "{path:?}: HTTP and TLS (\"h2c\", \"HTTP/…\", \"TLS/…\") cannot be listed: requests inside such a connection would reach the platform without a check"
        ),
    };
    section.error("upgrades", text);
    None
}

/// Does the gateway answer this path itself?
fn is_own(path: &str) -> bool {
    path.strip_prefix(ENDPOINT).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[derive(Deserialize)]
#[serde(untagged)]
enum UpgradeEntry {
    Path(String),
    Protocols(UpgradeProtocols),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UpgradeProtocols {
    path: String,
    protocols: Vec<String>,
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DurationEntry {
    path: String,
    limit: Span,
}
