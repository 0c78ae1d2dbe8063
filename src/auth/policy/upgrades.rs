//! Routes whose connections may change to another protocol (RFC 9110 §7.8). Where it is in doubt which route it is, none may.

use super::path::{PathPattern, is_canonical};

/// One entry of `routes.upgrades`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpgradeRoute {
    pattern: PathPattern,
    /// As `Upgrade` names them, in lower case.
    protocols: Vec<Box<str>>,
}

/// Why an entry of `routes.upgrades` is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpgradeError {
    /// The path is not canonical (see [`PathPattern::new`]).
    Path,
    /// Not the name of a protocol, with at most a version: `name` or `name/version`.
    Name,
    /// HTTP or TLS: requests inside the connection would pass without a check.
    Hidden,
}

impl UpgradeRoute {
    /// For a `/path` or `/folder/*`.
    ///
    /// # Errors
    ///
    /// A path that could never match, and protocols that are none or may not be let through.
    pub fn new(pattern: &str, protocols: &[String]) -> Result<Self, UpgradeError> {
        let pattern = PathPattern::new(pattern).ok_or(UpgradeError::Path)?;
        let protocols = protocols.iter().map(|protocol| check(protocol)).collect::<Result<_, _>>()?;
        Ok(Self { pattern, protocols })
    }

    /// May requests for this path, without its query, change to that protocol?
    pub fn allows(&self, path: &[u8], protocol: &[u8]) -> bool {
        self.protocols.iter().any(|listed| listed.as_bytes().eq_ignore_ascii_case(protocol))
            && self.pattern.matches(path)
            && is_canonical(path)
    }
}

/// The name in lower case.
fn check(protocol: &str) -> Result<Box<str>, UpgradeError> {
    let is_token = |text: &str| !text.is_empty() && text.bytes().all(is_token_byte);
    let protocol = protocol.to_ascii_lowercase();
    let (name, version) = protocol.split_once('/').unwrap_or((&protocol, "x"));
    if !is_token(name) || !is_token(version) {
        return Err(UpgradeError::Name);
    }
    if HIDDEN.contains(&name) {
        return Err(UpgradeError::Hidden);
    }
    Ok(protocol.into())
}

/// RFC 9110 §5.6.2.
const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// Names under which requests would follow that nobody checks, or a layer that may hold them.
const HIDDEN: [&str; 6] = ["h2", "h2c", "h3", "http", "https", "tls"];

#[cfg(test)]
mod tests {
    use super::*;

    fn route(pattern: &str, protocols: &[&str]) -> Result<UpgradeRoute, UpgradeError> {
        let protocols: Vec<String> = protocols.iter().map(|&protocol| protocol.to_owned()).collect();
        UpgradeRoute::new(pattern, &protocols)
    }

    #[test]
    fn http_and_tls_cannot_be_listed() {
        for name in ["h2c", "H2C", "h2c/1", "HTTP/2.0", "http/1.1", "TLS/1.2", "tls", "h2", "h3", "HTTPS"] {
            assert_eq!(route("/x", &[name]), Err(UpgradeError::Hidden), "{name}");
            assert_eq!(route("/x", &["websocket", name]), Err(UpgradeError::Hidden), "{name}");
        }
        for name in ["", "/", "a/", "/1", "a b", "web socket", "a,b", "a/b/c", "é", "a\r\n"] {
            assert_eq!(route("/x", &[name]), Err(UpgradeError::Name), "{name}");
        }
        for pattern in ["x", "/a//b", "/a/../b", "/a*", "/a;b", ""] {
            assert_eq!(route(pattern, &["websocket"]), Err(UpgradeError::Path), "{pattern}");
        }
    }

    #[test]
    fn only_a_path_of_one_meaning_may_change_its_protocol() {
        let route = route("/ds-api/live/*", &["WebSocket", "foo/1.1"]).unwrap();
        for (path, protocol, expected) in [
            ("/ds-api/live/1", "websocket", true),
            ("/ds-api/live/1", "WEBSOCKET", true),
            ("/ds-api/live/", "Foo/1.1", true),
            ("/ds-api/live/a/b", "websocket", true),
            ("/ds-api/live/1", "foo", false),
            ("/ds-api/live/1", "foo/1", false),
            ("/ds-api/live/1", "websocket/13", false),
            ("/ds-api/live/1", "", false),
            ("/ds-api/live", "websocket", false),
            ("/ds-api/Live/1", "websocket", false),
            ("/ds-api/live/../1", "websocket", false),
            ("/ds-api/live/%2e%2e/1", "websocket", false),
            ("/ds-api/live/a;b", "websocket", false),
            ("/ds-api/live//1", "websocket", false),
            ("/ds-api/live/a%2Fb", "websocket", false),
            ("/ds-api/other", "websocket", false),
        ] {
            assert_eq!(route.allows(path.as_bytes(), protocol.as_bytes()), expected, "{path} {protocol}");
        }
    }
}
