//! A path and all that lies below it, by whole segments.

use super::path::is_canonical;
use super::target::ENDPOINT;

/// `/prefix`: that path, and `/prefix/` with whatever follows, of raw paths.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PathPrefix(Box<str>);

impl PathPrefix {
    /// `None` if it is not canonical, ends with `/`, or is about the token endpoint, which is the gateway's own.
    pub fn new(prefix: &str) -> Option<Self> {
        let is_sound = is_canonical(prefix.as_bytes()) && !prefix.ends_with('/') && !prefix.contains('*');
        let folded = prefix.to_ascii_lowercase();
        let rest = folded.strip_prefix(ENDPOINT);
        let is_endpoint = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        (is_sound && !is_endpoint).then(|| Self(prefix.into()))
    }

    /// Does this path, without its query, lie there? A path that servers read in different ways lies nowhere.
    pub fn matches(&self, path: &[u8]) -> bool {
        let rest = path.strip_prefix(self.0.as_bytes());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/")) && is_canonical(path)
    }

    /// As configured.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_canonical_and_not_the_endpoint() {
        for (prefix, is_sound) in [
            ("/ui", true),
            ("/ui/v2", true),
            ("/UI", true),
            ("/", false),
            ("/ui/", false),
            ("ui", false),
            ("", false),
            ("/ui/*", false),
            ("/a//b", false),
            ("/a/../b", false),
            ("/a;b", false),
            ("/%75i", false),
            ("/ds-api", true),
            ("/ds-api/user-token", false),
            ("/DS-API/User-Token", false),
            ("/ds-api/user-token/x", false),
            ("/ds-api/user-tokens", true),
        ] {
            assert_eq!(PathPrefix::new(prefix).is_some(), is_sound, "{prefix:?}");
        }
    }

    #[test]
    fn it_matches_whole_segments_of_canonical_paths() {
        let prefix = PathPrefix::new("/ui").unwrap();
        for (path, expected) in [
            ("/ui", true),
            ("/ui/", true),
            ("/ui/a/b", true),
            ("/ui/a%20b", true),
            ("/uix", false),
            ("/u", false),
            ("/", false),
            ("/UI", false),
            ("/%75i", false),
            ("/x/ui", false),
            ("//ui", false),
            ("/ui//a", false),
            ("/ui/../x", false),
            ("/ui/%2e%2e/x", false),
            ("/ui/.", false),
            ("/ui;x", false),
            ("/ui/a;x", false),
            ("/ui\\a", false),
            ("/ui%2fa", false),
            ("/x/../ui/a", false),
            ("*", false),
        ] {
            assert_eq!(prefix.matches(path.as_bytes()), expected, "{path}");
        }
    }
}
