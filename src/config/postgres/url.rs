//! `store.url` for PostgreSQL, as libpq writes it.
//!
//! Errors quote nothing of the URL but names of parameters: where an `@` or a `/` in a password is not escaped, any part may be its.

use std::collections::BTreeMap;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;

use super::host::PostgresHost;
use crate::config::addresses::is_server_name;

/// What the URL says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PostgresUrl {
    pub(super) hosts: Vec<PostgresHost>,
    pub(super) user: String,
    pub(super) database: String,
    pub(super) parameters: BTreeMap<&'static str, String>,
}

/// What is behind `postgres://` or `postgresql://`; nothing for the URL of another kind of store.
pub(in crate::config) fn without_scheme(url: &str) -> Option<&str> {
    url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"))
}

/// Reads what is behind the scheme, and finds every error at once.
pub(super) fn parse_url(text: &str) -> Result<PostgresUrl, Vec<String>> {
    let (front, query) = text.split_once('?').unwrap_or((text, ""));
    let (user, rest) = match front.rsplit_once('@') {
        Some((user, _)) if user.contains([':', '/', '@']) => return Err(vec![PASSWORD.into()]),
        Some((user, rest)) => (user, rest),
        None if front.contains(':') && query.contains('@') => return Err(vec![PASSWORD.into()]),
        None => ("", front),
    };
    let mut errors = Vec::new();
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let user = decoded(user, "the user", &mut errors);
    let database = decoded(database, "the database", &mut errors);
    if user.is_empty() {
        errors.push("names no user: write postgres://USER@HOST/DATABASE".to_owned());
    }
    if database.is_empty() {
        errors.push("names no database: write postgres://USER@HOST/DATABASE".to_owned());
    }
    let mut hosts = Vec::new();
    for text in authority.split(',') {
        match parse_host(text) {
            Ok(host) if hosts.contains(&host) => errors.push(format!("names the host {host} twice")),
            Ok(host) => hosts.push(host),
            Err(text) => errors.push(text.to_owned()),
        }
    }
    let parameters = parse_parameters(query, &mut errors);
    if errors.is_empty() { Ok(PostgresUrl { hosts, user, database, parameters }) } else { Err(errors) }
}

/// Why a password is refused.
const PASSWORD: &str = "must not contain a password, which everyone who may read the configuration would learn: put it in a file that \
     store.password_file names (mode 600), in the environment variable PGPASSWORD or in ~/.pgpass; write an \"@\", \":\" or \"/\" \
     in a name as %40, %3A or %2F";

fn decoded(text: &str, what: &str, errors: &mut Vec<String>) -> String {
    match percent_decode_str(text).decode_utf8() {
        Ok(text) if !text.contains('\0') => text.into_owned(),
        _ => {
            errors.push(format!("{what} is not UTF-8, or has a zero byte"));
            "?".to_owned()
        }
    }
}

fn parse_host(text: &str) -> Result<PostgresHost, &'static str> {
    // The last colon, unless it belongs to an IPv6 address.
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if host.ends_with(']') || !host.contains(':') => {
            (host, port.parse::<u16>().ok().filter(|port| *port > 0).ok_or("a host has no usable port")?)
        }
        Some(_) if !text.ends_with(']') => return Err("an IPv6 address must stand in brackets: [::1]:5432"),
        _ => (text, 5432),
    };
    let host = percent_decode_str(host).decode_utf8().map_err(|_| "a host is not UTF-8")?;
    if host.is_empty() {
        return Err(
            "names no host: write a name, an address, or the folder of a Unix socket as %2Frun%2Fpostgresql",
        );
    }
    if host.starts_with('/') {
        // `sun_path` has 108 bytes, the last of which is a zero.
        if host.contains('\0') || host.len() + "/.s.PGSQL.65535".len() > 107 {
            return Err("the folder of a Unix socket is longer than 92 bytes, or has a zero byte");
        }
        return Ok(PostgresHost::Unix { folder: PathBuf::from(host.into_owned()), port });
    }
    let bare = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) if address.parse::<std::net::Ipv6Addr>().is_ok() => address,
        Some(_) => return Err("what stands in brackets is not an IPv6 address"),
        None => &*host,
    };
    if !is_server_name(bare) {
        return Err(
            "a host is neither a DNS name, an IP address nor the folder of a Unix socket (%2Frun%2Fpostgresql)",
        );
    }
    Ok(PostgresHost::Tcp { host: bare.to_owned(), port })
}

fn parse_parameters(query: &str, errors: &mut Vec<String>) -> BTreeMap<&'static str, String> {
    let mut parameters = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let Some((name, value)) = pair.split_once('=') else {
            errors.push("a parameter has no value: write name=value".to_owned());
            continue;
        };
        if matches!(name, "password" | "sslpassword") {
            errors.push(PASSWORD.to_owned());
            continue;
        }
        let Some(known) = PARAMETERS.iter().find(|known| **known == name) else {
            errors.push(format!("has an unknown parameter {name:?}: {}", hint(name)));
            continue;
        };
        let mut faults = Vec::new();
        let value = decoded(value, name, &mut faults);
        errors.append(&mut faults);
        if parameters.insert(*known, value).is_some() {
            errors.push(format!("has the parameter {name:?} twice"));
        }
    }
    parameters
}

fn hint(name: &str) -> String {
    match name {
        "host" | "port" | "user" | "dbname" => {
            "write it before the \"?\": postgres://USER@HOST:PORT/DATABASE, with a Unix socket's folder as %2Frun%2Fpostgresql".into()
        }
        _ => match crate::config::spelling::closest(name, PARAMETERS.iter().copied()) {
            Some(like) => format!("did you mean {like:?}?"),
            None => format!("remove it; there are {}", PARAMETERS.join(", ")),
        },
    }
}

/// All that may stand behind the `?`.
const PARAMETERS: [&str; 8] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "target_session_attrs",
    "connect_timeout",
    "application_name",
    "options",
];
