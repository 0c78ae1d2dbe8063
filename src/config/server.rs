//! The sections on the gateway's own side: where it listens, for clients and for operators.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::networks::ForwardedFields;
use serde::Deserialize;

use super::certificates::PairPaths;
use super::sections::{networks, read_pair};
use super::server_certificates::ServerPairs;
use super::settings::{Server, Stop};
use super::source::Section;
use super::{addresses, machine};

pub(super) fn read_server(mut section: Section<'_>, base: &Path) -> (Option<Server>, ServerPairs) {
    let https = read_addresses(&mut section, "https");
    let http = read_addresses(&mut section, "http");
    let state_dir: Option<PathBuf> = section.optional("state_dir", "write a path");
    let certificate: Option<PathBuf> = section.optional("certificate", "write a path to a PEM file");
    let key: Option<PathBuf> = section.optional("private_key", "write a path to a PEM file");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = section.or("threads", cores, "write a number of threads");
    let stop = Stop {
        drain_delay: section.delay("drain_delay", 0),
        grace: section.duration("grace", 30),
        upgrade_grace: section.duration("upgrade_grace", 600),
    };
    if https.is_empty() && http.is_empty() && !section.has_error("http") {
        section.missing("https", "no listener: give https or http at least one address");
    }
    let trusted_proxies = networks(&mut section, "trusted_proxies");
    let forwarded_fields =
        section.or("forwarded_fields", ForwardedFields::XForwarded, "write \"x-forwarded\" or \"forwarded\"");
    let half_close = section.or("half_close", false, "write true or false");
    let fast_lane = section.or("fast_lane", true, "write true or false");
    let watch = section.or("watch", false, "write true or false");
    let proxy_protocol = read_addresses(&mut section, "proxy_protocol");
    for address in &proxy_protocol {
        if !https.contains(address) && !http.contains(address) {
            section.error("proxy_protocol", format!("{address} is not in https or http"));
        }
    }
    if !proxy_protocol.is_empty() && trusted_proxies.is_empty() {
        section.error("proxy_protocol", "requires trusted_proxies: no other peer may name the client");
    }
    if threads == 0 || threads > 1024 {
        section.error("threads", "must be between 1 and 1024");
    }
    let default = read_pair(&mut section, base, ("certificate", "private_key"), (certificate, key));
    let hint = "write a list such as [{ certificate = \"b.crt\", private_key = \"b.key\" }], or sections [[server.certificates]]";
    let others: Vec<PairEntry> = section.or("certificates", Vec::new(), hint);
    let pair = |PairEntry { certificate, private_key }| PairPaths {
        certificate: base.join(certificate),
        key: base.join(private_key),
    };
    let pairs = ServerPairs { default, others: others.into_iter().map(pair).collect() };
    let Some(state_dir) = state_dir else {
        section.missing("state_dir", "is required: the folder for store, keys and certificate");
        return (None, pairs);
    };
    let state_dir = base.join(state_dir);
    let server = Server {
        https,
        http,
        state_dir,
        threads,
        trusted_proxies,
        forwarded_fields,
        proxy_protocol,
        half_close,
        fast_lane,
        stop,
        watch,
    };
    (Some(server), pairs)
}

/// One entry of `server.certificates`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PairEntry {
    certificate: PathBuf,
    private_key: PathBuf,
}

pub(super) fn read_admin(mut section: Section<'_>) -> Vec<SocketAddr> {
    let text: String =
        section.or("listen", "127.0.0.1:9464".into(), "write an address such as \"127.0.0.1:9464\"");
    addresses::parse(&text, machine::ipv6()).unwrap_or_else(|text| {
        section.error("listen", text);
        Vec::new()
    })
}

/// A list of addresses to listen on.
fn read_addresses(section: &mut Section<'_>, key: &str) -> Vec<SocketAddr> {
    let texts: Vec<String> = section.or(key, Vec::new(), "write a list such as [\"0.0.0.0:8443\"]");
    let mut found = Vec::new();
    for text in texts {
        match addresses::parse(&text, machine::ipv6()) {
            Ok(addresses) => found.extend(addresses),
            Err(text) => section.error(key, text),
        }
    }
    found
}
