//! Addresses to listen on: the forms that people write, and which of them cannot be listened on at once.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What the machine has of IPv6.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ipv6 {
    /// Can a socket be made?
    pub(super) any: bool,
    /// Is there `::1`?
    pub(super) loopback: bool,
}

/// The addresses that a text means, at least one: `"0.0.0.0:8443"`, `"[::]:8443"`, `":8443"` for every address of the machine, or
/// `"localhost:8443"`.
pub(super) fn parse(text: &str, ipv6: Ipv6) -> Result<Vec<SocketAddr>, String> {
    if let Ok(address) = text.parse() {
        return Ok(vec![address]);
    }
    let Some((host, port)) =
        text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)))
    else {
        return Err(faulty(text));
    };
    let (four, six, has_six) = match host {
        "" => (Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED, ipv6.any),
        // Loopback on every machine (RFC 6761 §6.3), whatever a resolver says.
        host if host.eq_ignore_ascii_case("localhost") => {
            (Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST, ipv6.loopback)
        }
        _ => return Err(faulty(text)),
    };
    let six = has_six.then(|| SocketAddr::from((six, port)));
    Ok([SocketAddr::from((four, port))].into_iter().chain(six).collect())
}

/// What to write instead.
fn faulty(text: &str) -> String {
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return format!(
            "{text:?} names no port: write for example {:?}",
            SocketAddr::new(ip, 8443).to_string()
        );
    }
    let port = text.rsplit(':').next().unwrap_or_default();
    match port.parse::<u16>() {
        Ok(port) => format!(
            "{text:?} is not an address of this machine: write \":{port}\" for all of them, \"localhost:{port}\", or one as \
             \"192.0.2.7:{port}\" or \"[2001:db8::7]:{port}\""
        ),
        Err(_) => format!(
            "{text:?} is not an address and a port: write for example \":8443\", \"0.0.0.0:8443\" or \"localhost:8443\""
        ),
    }
}

/// Must a socket of this address leave IPv4 alone, because another of the sockets has that port there? Otherwise `[::]` takes
/// IPv4 too, as the system has it.
pub fn is_ipv6_only(address: &SocketAddr, all: &[SocketAddr]) -> bool {
    let has_port = |other: &SocketAddr| other.is_ipv4() && other.port() == address.port();
    is_wildcard(address) && address.is_ipv6() && address.port() != 0 && all.iter().any(has_port)
}

/// Addresses that cannot be listened on beside another one that stands before them, with the settings that name them: the
/// setting, and why not.
pub(super) fn conflicts(all: &[(&'static str, SocketAddr)]) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    for (at, (key, address)) in all.iter().enumerate() {
        for (other_key, other) in all.iter().take(at) {
            if !collide(address, other) {
                continue;
            }
            found.push((
                *key,
                match address == other {
                    true if key == other_key => format!("{address} is listed twice"),
                    true => format!("{address} is in {other_key} already: choose another port"),
                    false => format!(
                        "{address} and {other} ({other_key}) are the same port of one address: 0.0.0.0 stands for every IPv4 address, \
                         [::] for every IPv6 address. Remove one of them"
                    ),
                },
            ));
        }
    }
    found
}

/// Would a connection to one be a connection to the other?
fn collide(one: &SocketAddr, other: &SocketAddr) -> bool {
    let [one_ip, other_ip] = [one, other].map(|address| address.ip().to_canonical());
    let is_same_family = one_ip.is_ipv4() == other_ip.is_ipv4();
    let covers_family = is_same_family && (one_ip.is_unspecified() || other_ip.is_unspecified());
    // A socket of [::] does not leave IPv4 alone for an IPv4 address that is written as IPv6.
    let covers_mapped = one.is_ipv6() && other.is_ipv6() && (is_wildcard(one) || is_wildcard(other));
    let covers = one_ip == other_ip || covers_family || covers_mapped;
    one.port() == other.port() && one.port() != 0 && covers
}

fn is_wildcard(address: &SocketAddr) -> bool {
    address.ip().is_unspecified()
}

/// Is it a DNS name or an IP address, as a certificate has one? Without a name nothing would be verified, silently.
pub(super) fn is_server_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let is_dns =
        !name.is_empty() && name.len() <= 253 && name.bytes().all(is_plain) && !name.starts_with('.');
    name.parse::<IpAddr>().is_ok() || is_dns
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Ipv6 = Ipv6 { any: true, loopback: true };
    const NONE: Ipv6 = Ipv6 { any: false, loopback: false };

    #[test]
    fn the_forms_that_people_write_are_understood() {
        for (text, ipv6, expected) in [
            ("0.0.0.0:8443", BOTH, &["0.0.0.0:8443"][..]),
            ("[::]:8443", BOTH, &["[::]:8443"]),
            ("[::]:8443", NONE, &["[::]:8443"]),
            (":8443", BOTH, &["0.0.0.0:8443", "[::]:8443"]),
            (":8443", Ipv6 { any: true, loopback: false }, &["0.0.0.0:8443", "[::]:8443"]),
            (":8443", NONE, &["0.0.0.0:8443"]),
            ("localhost:8443", BOTH, &["127.0.0.1:8443", "[::1]:8443"]),
            ("LocalHost:0", BOTH, &["127.0.0.1:0", "[::1]:0"]),
            ("localhost:8443", Ipv6 { any: true, loopback: false }, &["127.0.0.1:8443"]),
        ] {
            let found = parse(text, ipv6).unwrap();
            let found: Vec<String> = found.iter().map(SocketAddr::to_string).collect();
            assert_eq!(found, expected, "{text} {ipv6:?}");
        }
        for (text, hint) in [
            ("8443", "\":8443\""),
            ("*:8443", "\":8443\""),
            ("gateway.example:8443", "\":8443\""),
            ("::1:8443", "[::1:8443]:8443"),
            ("127.0.0.1", "127.0.0.1:8443"),
            ("::1", "[::1]:8443"),
            ("[::1]", "[::1]:8443"),
            ("localhost", "localhost:8443"),
            ("localhost:99999", "localhost:8443"),
            (":", ":8443"),
            ("", ":8443"),
            ("nowhere", ":8443"),
            ("localhost :8443", ":8443"),
        ] {
            let fault = parse(text, BOTH).unwrap_err();
            assert!(fault.contains(hint) && fault.contains(&format!("{text:?}")), "{text}: {fault}");
        }
    }

    #[test]
    fn addresses_that_exclude_each_other_are_found_before_the_system_is_asked() {
        for (one, other, collides) in [
            ("0.0.0.0:1", "[::]:1", false),
            ("127.0.0.1:1", "[::]:1", false),
            ("127.0.0.1:1", "[::1]:1", false),
            ("127.0.0.1:1", "127.0.0.2:1", false),
            ("127.0.0.1:1", "127.0.0.1:2", false),
            ("0.0.0.0:0", "0.0.0.0:0", false),
            ("127.0.0.1:1", "127.0.0.1:1", true),
            ("0.0.0.0:1", "127.0.0.1:1", true),
            ("[::]:1", "[::1]:1", true),
            ("[::]:1", "[::ffff:127.0.0.1]:1", true),
            ("[::]:1", "[::ffff:0.0.0.0]:1", true),
            ("[::ffff:127.0.0.1]:1", "127.0.0.1:1", true),
        ] {
            let [one, other]: [SocketAddr; 2] = [one, other].map(|text| text.parse().unwrap());
            for pair in [[one, other], [other, one]] {
                let found = conflicts(&[("server.https", pair[0]), ("server.http", pair[1])]);
                assert_eq!(found.len(), usize::from(collides), "{pair:?}");
                assert!(
                    found.iter().all(|(key, text)| *key == "server.http" && text.contains("server.https"))
                );
            }
        }
    }

    #[test]
    fn ipv6_leaves_ipv4_alone_only_where_another_socket_has_the_port() {
        let all: Vec<SocketAddr> =
            ["0.0.0.0:1", "[::]:1", "[::]:2", "127.0.0.1:3", "[::]:3", "[::1]:1", "[::]:0"]
                .map(|text| text.parse().unwrap())
                .into();
        let only: Vec<String> =
            all.iter().filter(|address| is_ipv6_only(address, &all)).map(SocketAddr::to_string).collect();
        assert_eq!(only, ["[::]:1", "[::]:3"]);
    }
}
