//! The platform's section: its servers, how they are checked, what they are sent.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::uri::Authority;
use serde::Deserialize;

use super::addresses::is_server_name;
use super::materials::PlatformFiles;
use super::sections::read_pair;
use super::settings::{
    Ejection, HostField, Platform, PlatformRoute, PlatformServer, ServerAddress, ServerPool,
};
use super::source::{Section, Source};
use crate::auth::cors::is_token;
use crate::auth::fields::{Field, ManagedFields};
use crate::auth::policy::{Ends, PathPrefix, UserChange};

pub(super) fn read_platform(mut section: Section<'_>, base: &Path) -> (Option<Platform>, PlatformFiles) {
    let (pool, files) = read_pool(&mut section, base);
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
    let user_changes = read_user_changes(&mut section);
    let platform = Platform {
        pool,
        forward_token: section.or("forward_token", true, "write true or false"),
        forward_authorization: section.or("forward_authorization", false, "write true or false"),
        identity_fields,
        drop_fields,
        user_changes,
    };
    (Some(platform), files)
}

/// An entry of `user_changes`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UserChangeEntry {
    #[serde(default)]
    methods: Vec<String>,
    path: String,
    ends: String,
}

fn read_user_changes(section: &mut Section<'_>) -> Vec<UserChange> {
    let hint = "write a list of { methods = [\"PUT\", \"DELETE\"], path = \"/ds-api/users/{email}\", ends = \"{email}\" }";
    let entries: Vec<UserChangeEntry> = section.or("user_changes", Vec::new(), hint);
    let mut changes = Vec::new();
    for UserChangeEntry { methods, path, ends } in entries {
        let ends = match ends.as_str() {
            "{email}" => Ends::Email,
            "{user}" => Ends::User,
            "self" => Ends::Own,
            "organization" => Ends::Organization,
            "everybody" => Ends::Everybody,
            other => {
                let text = format!(
                    "ends = {other:?}: write \"{{email}}\", \"{{user}}\", \"self\", \"organization\" or \"everybody\""
                );
                section.error("user_changes", text);
                continue;
            }
        };
        if let Some(method) = methods.iter().find(|method| !is_token(method)) {
            section.error("user_changes", format!("{method:?} is not a method: write for example \"PUT\""));
        }
        match UserChange::new(methods, &path, ends) {
            Ok(change) => changes.push(change),
            Err(text) => section.error("user_changes", format!("path {path:?} {text}")),
        }
    }
    changes
}

/// `[[platforms]]`, the longest prefix first, and their files in the same order.
pub(super) fn read_platforms(source: &mut Source, base: &Path) -> Vec<(PlatformRoute, PlatformFiles)> {
    let mut platforms = Vec::<(PlatformRoute, PlatformFiles)>::new();
    for (name, table) in source.sections("platforms") {
        let mut section = source.section_of(name.clone(), table);
        let hint = "write a path such as \"/ui\"";
        let text: Option<String> = section.optional("prefix", hint);
        let (pool, files) = read_pool(&mut section, base);
        let files = PlatformFiles { section: name, ..files };
        let Some(prefix) = text.as_deref().and_then(PathPrefix::new) else {
            let text = text.unwrap_or_default();
            section.error(
                "prefix",
                format!("{text:?} must be a canonical path without a final slash, and not the token endpoint: {hint}"),
            );
            continue;
        };
        if platforms.iter().any(|(other, _)| other.prefix == prefix) {
            section.error("prefix", format!("{:?} is there twice", prefix.as_str()));
        }
        platforms.push((PlatformRoute { prefix, pool }, files));
    }
    platforms.sort_by_key(|(route, _)| std::cmp::Reverse(route.prefix.as_str().len()));
    platforms
}

/// Servers, and how they are reached.
fn read_pool(section: &mut Section<'_>, base: &Path) -> (ServerPool, PlatformFiles) {
    let entries: Vec<ServerEntry> =
        section.or("servers", Vec::new(), "write a list such as [\"http://127.0.0.1:9000\"]");
    let path = "write a path to a PEM file";
    let ca_file: Option<PathBuf> = section.optional("ca_file", path);
    let server_name: Option<String> =
        section.optional("server_name", "write the name in the platform's certificate");
    let verify = section.or("verify", true, "write true or false");
    let client_certificate: Option<PathBuf> = section.optional("client_certificate", path);
    let client_key: Option<PathBuf> = section.optional("client_key", path);

    if entries.is_empty() {
        section.missing(
            "servers",
            "is required: the platform's servers, for example [\"http://127.0.0.1:9000\"]",
        );
    }
    let is_usable = server_name.as_deref().is_none_or(is_server_name);
    if !is_usable {
        section.error("server_name", NOT_A_SERVER_NAME);
    }
    let mut schemes = Vec::new();
    let mut servers = Vec::<PlatformServer>::new();
    for ServerEntry { url, server_name: own } in entries {
        let shared = server_name.as_deref().filter(|_| is_usable);
        match parse_server(&url, own.as_deref(), shared, base) {
            Ok((_, server)) if servers.iter().any(|other| other.name == server.name) => {
                section.error("servers", format!("{url:?} is there twice"));
            }
            Ok((scheme, server)) => {
                schemes.push(scheme);
                servers.push(server);
            }
            Err(text) => section.error("servers", format!("{url:?} {text}")),
        }
    }
    let https = schemes.contains(&Scheme::Https);
    if https && schemes.contains(&Scheme::Http) {
        section.error("servers", "must be all http or all https");
    }
    let mut files = PlatformFiles { section: "platform".into(), ..PlatformFiles::default() };
    if https {
        let names = ("client_certificate", "client_key");
        files.ca = ca_file.map(|path| base.join(path));
        files.client = read_pair(section, base, names, (client_certificate, client_key));
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
    }
    let pool = ServerPool {
        servers,
        verify,
        host: read_host(section),
        connect_timeout: section.duration("connect_timeout", 2),
        read_timeout: section.duration("read_timeout", 60),
        write_timeout: section.duration("write_timeout", 30),
        idle_timeout: section.duration("idle_timeout", 50),
        resolve_interval: section.interval("resolve_interval", Duration::from_secs(30)),
        ejection: read_ejection(section),
    };
    (pool, files)
}

/// An entry of `servers`: a URL, or a table with more than that.
#[derive(Deserialize)]
#[serde(from = "Entry")]
struct ServerEntry {
    url: String,
    server_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Url(String),
    Table(Table),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    url: String,
    server_name: Option<String>,
}

impl From<Entry> for ServerEntry {
    fn from(entry: Entry) -> Self {
        match entry {
            Entry::Url(url) => Self { url, server_name: None },
            Entry::Table(Table { url, server_name }) => Self { url, server_name },
        }
    }
}

fn read_host(section: &mut Section<'_>) -> HostField {
    let hint = "write \"keep\", \"server\" or a host name";
    match section.optional::<String>("host", hint).as_deref() {
        None | Some("keep") => HostField::Keep,
        Some("server") => HostField::Server,
        Some(name) => {
            let is_host = |name: &str| {
                let authority = name.parse::<Authority>();
                authority.is_ok_and(|authority| !authority.host().is_empty() && !name.contains('@'))
            };
            if !is_host(name) {
                section.error("host", format!("{name:?} is not a host name: {hint}"));
            }
            HostField::Name(name.to_owned())
        }
    }
}

fn read_ejection(section: &mut Section<'_>) -> Ejection {
    let after: u32 = section.or("eject_after", 3, "write a number of failures, 0 for never");
    let words: Vec<String> =
        section.or("eject_on", Vec::new(), "write a list such as [\"timeout\", \"5xx\"]");
    for word in words.iter().filter(|word| !matches!(word.as_str(), TIMEOUT | SERVER_ERROR)) {
        section.error("eject_on", format!("{word:?} must be \"timeout\" or \"5xx\""));
    }
    let has = |word: &str| words.iter().any(|other| other == word);
    Ejection { after: NonZeroU32::new(after), on_timeouts: has(TIMEOUT), on_errors: has(SERVER_ERROR) }
}

const TIMEOUT: &str = "timeout";
const SERVER_ERROR: &str = "5xx";

const NOT_A_SERVER_NAME: &str = "must be the DNS name or the IP address in the platform's certificate";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
    Unix,
}

/// One server: `own` is the name that its entry gives, `shared` the section's.
fn parse_server(
    url: &str,
    own: Option<&str>,
    shared: Option<&str>,
    base: &Path,
) -> Result<(Scheme, PlatformServer), &'static str> {
    if let Some(path) = url.strip_prefix("unix:") {
        return parse_unix(path, own, base).map(|server| (Scheme::Unix, server));
    }
    let uri: http::Uri = url.parse().map_err(|_| "is not a URL: write http://host:port")?;
    let (scheme, default_port) = match uri.scheme_str() {
        Some("http") => (Scheme::Http, 80),
        Some("https") => (Scheme::Https, 443),
        _ => return Err("must begin with http://, https:// or unix:"),
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
    let tls_name = match (scheme, own) {
        (Scheme::Https, Some(name)) if !is_server_name(name) => {
            return Err("has a server_name that is not a DNS name or an IP address");
        }
        (Scheme::Https, _) => Some(own.or(shared).unwrap_or(host.trim_matches(['[', ']'])).to_owned()),
        (_, Some(_)) => return Err("has a server_name, which applies to https servers only"),
        (_, None) => None,
    };
    // The name that its certificate has is its name for clients too; an address is no better than the one in the URL.
    let named = own.or(shared).filter(|name| tls_name.is_some() && name.parse::<IpAddr>().is_err());
    let shown = named.unwrap_or(host);
    let host_field = if port == default_port { shown.to_owned() } else { format!("{shown}:{port}") };
    let name = format!("{host}:{port}");
    let address = ServerAddress::Network(name.clone());
    Ok((scheme, PlatformServer { name, address, tls_name, host: host_field }))
}

fn parse_unix(path: &str, own: Option<&str>, base: &Path) -> Result<PlatformServer, &'static str> {
    if own.is_some() {
        return Err("has a server_name, which applies to https servers only");
    }
    let path = read_socket_path(path, base)?;
    let name = format!("unix:{}", path.display());
    Ok(PlatformServer { name, address: ServerAddress::Unix(path), tls_name: None, host: "localhost".into() })
}

/// The path of a server's Unix socket, from what follows `unix:`; relative to the configuration file's directory.
pub(super) fn read_socket_path(path: &str, base: &Path) -> Result<PathBuf, &'static str> {
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.is_empty() || path.contains('\0') {
        return Err("names no socket: write unix:/path/to/socket");
    }
    let path = base.join(path);
    // `sun_path` has 108 bytes, the last of which is a zero.
    if path.as_os_str().len() > 107 {
        return Err("is longer than a Unix socket's path may be (107 bytes)");
    }
    Ok(path)
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
    let is_dropped =
        |name: &&String| matches!(always.classify(name.as_bytes()), Field::Managed | Field::AtLeast);
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
