//! The platform's section: its servers, how they are checked, what they are sent.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::materials::PairPaths;
use super::sections::read_pair;
use super::settings::{Platform, PlatformTls};
use super::source::Section;
use crate::auth::fields::{Field, ManagedFields};

pub(super) fn read_platform(mut section: Section<'_>, base: &Path) -> (Option<Platform>, PlatformFiles) {
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
            Err(text) => section.error("servers", format!("{url:?} {text}")),
        }
    }
    if urls.is_empty() {
        section.missing(
            "servers",
            "is required: the platform's servers, for example [\"http://127.0.0.1:9000\"]",
        );
    }
    let https = schemes.contains(&Scheme::Https);
    if https && schemes.contains(&Scheme::Http) {
        section.error("servers", "must be all http or all https");
    }
    let mut files = PlatformFiles::default();
    let tls = if https {
        let names = ("client_certificate", "client_key");
        files.ca = ca_file.map(|path| base.join(path));
        files.client = read_pair(&mut section, base, names, (client_certificate, client_key));
        let server_name = read_server_name(&mut section, server_name, servers.first());
        Some(PlatformTls { server_name, verify })
    } else {
        let given = [
            ("ca_file", ca_file.is_some()),
            ("server_name", server_name.is_some()),
            ("client_certificate", client_certificate.is_some()),
            ("client_key", client_key.is_some()),
        ];
        for (key, _) in given.into_iter().filter(|(_, given)| *given) {
            section.error(key, "applies to https servers only: remove it or use https://");
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
        section.error("user_header", "the three identity headers need three names");
    }
    let drop_fields = read_dropped(&mut section);
    let platform = Platform {
        servers,
        tls,
        forward_token: section.or("forward_token", true, "write true or false"),
        forward_authorization: section.or("forward_authorization", false, "write true or false"),
        connect_timeout: section.duration("connect_timeout", 2),
        read_timeout: section.duration("read_timeout", 60),
        write_timeout: section.duration("write_timeout", 30),
        idle_timeout: section.duration("idle_timeout", 50),
        resolve_interval: section.interval("resolve_interval", Duration::from_secs(30)),
        identity_fields,
        drop_fields,
    };
    (Some(platform), files)
}

/// Files that the section names.
#[derive(Default)]
pub(super) struct PlatformFiles {
    pub(super) ca: Option<PathBuf>,
    pub(super) client: Option<PairPaths>,
}

/// Without a name nothing would be verified, silently; an address is never the name in a certificate.
fn read_server_name(
    section: &mut Section<'_>,
    name: Option<String>,
    first_server: Option<&String>,
) -> String {
    let host = first_server.and_then(|server| server.rsplit_once(':')).map(|(host, _)| host);
    let is_address = |host: &str| host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    match (name, host) {
        (Some(name), _) if !name.is_empty() && !is_address(&name) => name,
        (Some(_), _) => {
            section.error("server_name", "must be the DNS name in the platform's certificate");
            String::new()
        }
        (None, Some(host)) if !is_address(host) => host.to_owned(),
        (None, _) => {
            let text = "is required for https to an IP address: the DNS name in the platform's certificate";
            section.error("server_name", text);
            String::new()
        }
    }
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
        return Err("must have no path: requests keep their own");
    }
    let authority = uri.authority().ok_or("names no host")?;
    if authority.as_str().contains('@') || authority.host().is_empty() {
        return Err("must consist of a host and a port only");
    }
    // The last colon, unless it belongs to an IPv6 address.
    let (host, port) = match authority.as_str().rsplit_once(':') {
        Some((host, port)) if host.ends_with(']') || !host.contains(':') => {
            (host, port.parse::<u16>().map_err(|_| "has no usable port")?)
        }
        _ => (authority.as_str(), default_port),
    };
    if port == 0 {
        return Err("has no usable port");
    }
    Ok((scheme, format!("{host}:{port}")))
}

fn read_field_name(section: &mut Section<'_>, key: &str, default: &str) -> String {
    let name: String = section.or(key, default.to_owned(), "write a header name such as \"X-DS-User\"");
    check_field_name(section, key, &name);
    name
}

fn read_dropped(section: &mut Section<'_>) -> Vec<String> {
    let key = "drop_headers";
    let names: Vec<String> =
        section.or(key, Vec::new(), "write a list of header names such as [\"X-Internal-User\"]");
    let always = ManagedFields::new([]);
    let is_dropped = |name: &&String| always.classify(name.as_bytes()) == Field::Managed;
    names.iter().filter(|name| !is_dropped(name)).for_each(|name| check_field_name(section, key, name));
    names
}

/// A name that the gateway may take for itself.
fn check_field_name(section: &mut Section<'_>, key: &str, name: &str) {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let reserved = [
        "host",
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "content-length",
        "content-type",
        "content-encoding",
        "cookie",
        "expect",
    ];
    let lower = name.to_ascii_lowercase();
    // What the gateway manages anyway.
    let taken = ManagedFields::new([]);
    // One that began with a hyphen could be spelt with any other byte there (see `ManagedFields`).
    if !name.bytes().all(token) || !name.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        section.error(key, format!("{name:?} must be letters, digits and hyphens, and begin with no hyphen"));
    } else if reserved.contains(&lower.as_str()) || taken.classify(lower.as_bytes()) != Field::Free {
        section.error(key, format!("{name:?} is a header with a meaning of its own: choose another name"));
    }
}
