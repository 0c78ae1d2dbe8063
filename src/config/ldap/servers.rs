//! The addresses of a directory's servers.

use std::net::IpAddr;
use std::path::Path;

use super::settings::{LdapSecurity, LdapServer};
use crate::config::addresses::is_server_name;
use crate::config::platform::read_socket_path;
use crate::config::settings::ServerAddress;

/// Reads one; `starttls` is for those without TLS from the first byte.
pub(super) fn parse_server(
    url: &str,
    starttls: bool,
    server_name: Option<&str>,
    base: &Path,
) -> Result<LdapServer, &'static str> {
    if let Some(path) = url.strip_prefix("unix:") {
        return parse_unix(url, path, base);
    }
    let (security, default_port, authority) =
        match (url.strip_prefix("ldaps://"), url.strip_prefix("ldap://")) {
            (Some(authority), _) => (LdapSecurity::Tls, 636, authority),
            (_, Some(authority)) if starttls => (LdapSecurity::StartTls, 389, authority),
            (_, Some(authority)) => (LdapSecurity::Plain, 389, authority),
            _ => return Err("must begin with ldaps://, ldap:// or unix:"),
        };
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    if authority.contains(['/', '?', '@']) {
        return Err("must consist of a host and a port only: base, filter and names have keys of their own");
    }
    // The last colon, unless it belongs to an IPv6 address.
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if host.ends_with(']') || !host.contains(':') => {
            (host, port.parse::<u16>().map_err(|_| "has no usable port")?)
        }
        _ => (authority, default_port),
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if !is_server_name(bare) {
        return Err("names no host");
    }
    if port == 0 {
        return Err("has no usable port");
    }
    let is_loopback = bare
        .parse::<IpAddr>()
        .map_or_else(|_| bare.eq_ignore_ascii_case("localhost"), |address| address.is_loopback());
    let shown = if bare.contains(':') { format!("[{bare}]") } else { bare.to_owned() };
    Ok(LdapServer {
        name: url.to_owned(),
        address: ServerAddress::Network(format!("{shown}:{port}")),
        security,
        tls_name: server_name.unwrap_or(bare).to_owned(),
        is_local: is_loopback,
    })
}

fn parse_unix(url: &str, path: &str, base: &Path) -> Result<LdapServer, &'static str> {
    let path = read_socket_path(path, base)?;
    Ok(LdapServer {
        name: url.to_owned(),
        address: ServerAddress::Unix(path),
        security: LdapSecurity::Plain,
        tls_name: String::new(),
        is_local: true,
    })
}
