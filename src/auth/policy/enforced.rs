//! Routes that are enforced while the others are observed. Where it is in doubt what a server reads, the request is on one of them.
//!
//! This is the other way round than for a public route: there a path must have one meaning to match, here a path that could have this
//! one matches.

use super::path::is_canonical;

/// `/exact` or `/folder/*`, of paths in any spelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnforcedPath {
    /// In lower case, and without a slash at its end.
    path: Box<[u8]>,
    has_more: bool,
}

impl EnforcedPath {
    /// `/folder/*` is the folder itself as well. `None` if the pattern is not canonical, as with the patterns of public routes.
    pub fn new(pattern: &str) -> Option<Self> {
        let (path, has_more) = match pattern.strip_suffix('*') {
            Some(folder) if folder.ends_with('/') => (folder, true),
            Some(_) => return None,
            None => (pattern, false),
        };
        if path.contains('*') || !is_canonical(path.as_bytes()) {
            return None;
        }
        let path = path.strip_suffix('/').unwrap_or(path);
        Some(Self { path: path.to_ascii_lowercase().into_bytes().into(), has_more })
    }

    /// Could a server take this path, without its query, for one of these?
    ///
    /// The two are compared up to where they differ. A byte there that servers may drop, decode or fold says nothing about what follows,
    /// so it is taken for a match; a letter or a digit is another name.
    pub fn may_match(&self, path: &[u8]) -> bool {
        if self.path.is_empty() && self.has_more {
            return true;
        }
        let is_same = |(have, want): &(&u8, &u8)| have.eq_ignore_ascii_case(want);
        let common = path.iter().zip(&self.path).take_while(is_same).count();
        let (before, rest) = path.split_at_checked(common).unwrap_or_default();
        match (rest.first(), self.path.get(common)) {
            (None, None) => true,
            (None, Some(_)) => false,
            (Some(b'/'), None) => self.has_more || rest.get(1).is_none_or(|next| !is_plain(*next)),
            (Some(next), None) => !is_plain(*next),
            // The segment ends where the pattern's goes on, unless it is an empty one that servers leave out.
            (Some(b'/'), Some(_)) => before.last() == Some(&b'/'),
            // A dot in the middle of a name stays; at its end, and alone, it may go.
            (Some(b'.'), Some(want)) => *want == b'/' || before.last() == Some(&b'/'),
            (Some(next), Some(_)) => !is_plain(*next),
        }
    }

    /// Is it about what the other one is about, or about something below it?
    pub fn lies_within(&self, path: &str) -> bool {
        let rest = self.path.strip_prefix(path.as_bytes());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    }
}

/// A byte of a name that is the same to every server.
const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'_' | b'~' | b'@' | b'=' | b',' | b'!' | b'$' | b'&' | b'\'')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    use super::super::spellings::{BETWEEN, TAILS, spelling};
    use super::super::tests::reader;
    use super::super::{ENDPOINT, Policy, split_target};
    use super::*;

    #[test]
    fn a_path_that_could_be_enforced_is() {
        for (pattern, path, expected) in [
            ("/ds-api/agents/*", "/ds-api/agents/7", true),
            ("/ds-api/agents/*", "/ds-api/agents/", true),
            ("/ds-api/agents/*", "/ds-api/agents", true),
            ("/ds-api/agents/*", "/DS-API/Agents/7", true),
            ("/ds-api/agents/*", "/ds-api//agents/7", true),
            ("/ds-api/agents/*", "/ds-api/%61gents/7", true),
            ("/ds-api/agents/*", "/ds-api;x=1/agents/7", true),
            ("/ds-api/agents/*", "/ds-api./agents", true),
            ("/ds-api/agents/*", "/ds-api%2Fagents", true),
            ("/ds-api/agents/*", "/ds-api\\agents", true),
            ("/ds-api/agents/*", "/(S(x))/ds-api/agents", true),
            ("/ds-api/agents/*", "/ds-api/agents;x", true),
            ("/ds-api/agents/*", "/ds-api/agents.json", true),
            ("/ds-api/agents/*", "*", true),
            ("/ds-api/agents/*", "/ds-api/agentsx", false),
            ("/ds-api/agents/*", "/ds-api/agent", false),
            ("/ds-api/agents/*", "/ds-api/ag/x", false),
            ("/ds-api/agents/*", "/ds-api/a.b", false),
            ("/ds-api/agents/*", "/ds-api/servers/Zo%C3%AB", false),
            ("/ds-api/agents/*", "/ds-api/", false),
            ("/ds-api/agents/*", "/x/ds-api/agents/7", false),
            ("/ds-api/agents", "/ds-api/agents", true),
            ("/ds-api/agents", "/ds-api/agents/", true),
            ("/ds-api/agents", "/ds-api/agents//", true),
            ("/ds-api/agents", "/ds-api/agents/%20", true),
            ("/ds-api/agents", "/ds-api/agents/7", false),
            ("/ds-api/agents", "/ds-api/agents-7", false),
            ("/ds-api/agents/", "/ds-api/agents", true),
            ("/", "/", true),
            ("/", "/x", false),
            ("/*", "/x", true),
            ("/*", "*", true),
        ] {
            let enforced = EnforcedPath::new(pattern).unwrap();
            assert_eq!(enforced.may_match(path.as_bytes()), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn a_pattern_that_could_never_match_is_none() {
        for pattern in ["", "x", "/a*", "/a/*/b", "/a//b", "/a/../b", "/%61", "*"] {
            assert_eq!(EnforcedPath::new(pattern), None, "{pattern}");
        }
    }

    #[test]
    fn what_lies_within_a_path_is_told_by_whole_segments() {
        let within = |pattern: &str| EnforcedPath::new(pattern).unwrap().lies_within(ENDPOINT);
        for pattern in
            ["/ds-api/user-token", "/ds-api/user-token/*", "/ds-api/user-token/x", "/DS-API/User-Token"]
        {
            assert!(within(pattern), "{pattern}");
        }
        for pattern in ["/ds-api/user-tokens", "/ds-api/*", "/*", "/ds-api/user"] {
            assert!(!within(pattern), "{pattern}");
        }
    }

    /// The endpoint's path with little of it spelt otherwise, so that most of them go on.
    fn spelt() -> impl Strategy<Value = String> {
        let between = || prop_oneof![2 => Just("/"), 1 => select(BETWEEN.to_vec())];
        let letter = select(vec!["%75ser", "User", "%5Fser", "\u{ff55}ser", "u\u{200b}ser", "%2575ser"]);
        let name = prop_oneof![3 => Just("user"), 1 => letter];
        (between(), between(), name, select(TAILS.to_vec())).prop_map(|(start, middle, name, tail)| {
            let path = format!("{start}ds-api{middle}{name}-token{tail}");
            if path.starts_with('/') { path } else { format!("/{path}") }
        })
    }

    /// The property below would notice a rule that compares a path as it stands.
    #[test]
    fn readers_find_what_a_naive_rule_observes() {
        let mut runner = TestRunner::deterministic();
        let mut found = 0;
        for _ in 0..1000 {
            let (reader, path) = (reader(), spelt()).new_tree(&mut runner).unwrap().current();
            let goes_on = Policy::default().classify(b"GET", path.as_bytes(), false).is_ok();
            found +=
                usize::from(goes_on && !path.starts_with(ENDPOINT) && reader.reads_endpoint(path.as_bytes()));
        }
        assert!(found > 50, "{found}");
    }

    proptest! {
        /// However a server reads paths: one that it takes for an enforced one is enforced.
        #[test]
        fn no_reader_is_sent_an_enforced_path_as_observed(reader in reader(), path in prop_oneof![spelling(), spelt()]) {
            let enforced = EnforcedPath::new(ENDPOINT).unwrap();
            let is_refused = Policy::default().classify(b"GET", path.as_bytes(), false).is_err();
            let (raw, _) = split_target(path.as_bytes());
            // The oracle counts what lies below as well.
            let below = EnforcedPath::new(&format!("{ENDPOINT}/*")).unwrap();
            prop_assert!(
                is_refused || !reader.reads_endpoint(raw) || enforced.may_match(raw) || below.may_match(raw),
                "{}", path
            );
        }

        #[test]
        fn any_path_is_compared_without_a_panic(pattern in "/[a-z/]{0,8}[*]?", path: Vec<u8>) {
            if let Some(enforced) = EnforcedPath::new(&pattern) {
                let _ = enforced.may_match(&path);
            }
        }
    }
}
