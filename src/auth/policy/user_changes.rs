//! Which requests change users of the platform, and whose tokens they end. In doubt a request is one that does: that costs a login.

use std::collections::BTreeSet;

use percent_encoding::percent_decode;

use crate::auth::name::fold_email;

/// Requests that change users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserChange {
    methods: Vec<String>,
    segments: Vec<Segment>,
    /// Also every path below.
    is_folder: bool,
    ends: Ends,
}

/// A part of a path between slashes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    /// This text, folded.
    Text(String),
    /// Any text; the one that the rule is about, if it is captured.
    Any {
        /// Is it the user or the address?
        is_captured: bool,
    },
}

/// Whose tokens a change ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// Those with the e-mail address in the path.
    Email,
    /// Those of the user in the path.
    User,
    /// Those of whoever sends the request.
    Own,
    /// Those of the organization of whoever sends it.
    Organization,
    /// All.
    Everybody,
}

/// What a request says of whose tokens it ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Affected {
    /// Those with this folded e-mail address.
    Email(Box<str>),
    /// Those of the user of that name.
    User(Box<str>),
    /// Those of whoever sends the request.
    Own,
    /// Those of the organization of whoever sends it.
    Organization,
    /// All.
    Everybody,
}

impl UserChange {
    /// Requests of these methods (none: any) for a path like `/ds-api/users/{email}`. `*` stands for any text between slashes, and as the last
    /// part for all that is below.
    ///
    /// # Errors
    ///
    /// Says what is wrong with the path.
    pub fn new(methods: Vec<String>, path: &str, ends: Ends) -> Result<Self, &'static str> {
        let rest = path.strip_prefix('/').ok_or("must begin with a slash")?;
        let (rest, is_folder) = match rest.strip_suffix("/*") {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        let mut captures = 0;
        let mut segments = Vec::new();
        for part in rest.split('/') {
            segments.push(match part {
                "" | "." | ".." => return Err("must have no empty part, `.` or `..`"),
                "*" => Segment::Any { is_captured: false },
                "{email}" | "{user}" => {
                    captures += 1;
                    let is_captured = (part == "{email}") == (ends == Ends::Email) && ends.is_in_path();
                    Segment::Any { is_captured }
                }
                text if text.contains(['{', '}', '*', '%', '?', '#']) => {
                    return Err("a part is a plain text, `*`, `{email}` or `{user}`");
                }
                text => Segment::Text(fold_email(text)),
            });
        }
        let has_captured = segments.contains(&Segment::Any { is_captured: true });
        if ends.is_in_path() && !(captures == 1 && has_captured) {
            return Err("must have the part that `ends` names, once");
        }
        Ok(Self { methods, segments, is_folder, ends })
    }

    fn is_about(&self, method: &[u8]) -> bool {
        self.methods.is_empty() || self.methods.iter().any(|own| own.as_bytes().eq_ignore_ascii_case(method))
    }

    /// Whose tokens a request ends whose path has these parts.
    fn affected<'p>(&self, path: impl Iterator<Item = &'p str>) -> Option<Affected> {
        let captured = self.captured(path)?;
        Some(match self.ends {
            Ends::Email => Affected::Email(fold_email(captured).into()),
            Ends::User => Affected::User(captured.into()),
            Ends::Own => Affected::Own,
            Ends::Organization => Affected::Organization,
            Ends::Everybody => Affected::Everybody,
        })
    }

    /// The captured part of a path that matches.
    fn captured<'p>(&self, mut path: impl Iterator<Item = &'p str>) -> Option<&'p str> {
        let mut captured = "";
        for segment in &self.segments {
            let part = path.next()?;
            match segment {
                Segment::Text(text) if is_folded(without_parameters(part), text) => {}
                Segment::Text(_) => return None,
                Segment::Any { is_captured: true } => captured = part,
                Segment::Any { is_captured: false } => {}
            }
        }
        // A folder is itself and all that is below it.
        (self.is_folder || path.next().is_none()).then_some(captured)
    }
}

impl Ends {
    /// Is it said in the path?
    const fn is_in_path(self) -> bool {
        matches!(self, Self::Email | Self::User)
    }
}

/// Whose tokens a request ends, by its path without the query; nobody's, if it is none that changes users.
pub fn affected(rules: &[UserChange], method: &[u8], path: &[u8]) -> BTreeSet<Affected> {
    let mut affected = BTreeSet::new();
    let mut rules = rules.iter().filter(|rule| rule.is_about(method)).peekable();
    // Nearly every request: nothing is allocated for one that is not about users.
    if rules.peek().is_none() {
        return affected;
    }
    if let Some(path) = plain(path) {
        let parts = || path.split('/').filter(|part| !part.is_empty());
        affected.extend(rules.filter_map(|rule| rule.affected(parts())));
        return affected;
    }
    let readings = readings(path);
    for rule in rules {
        let parts = readings.iter().map(|reading| reading.iter().map(String::as_str));
        affected.extend(parts.filter_map(|parts| rule.affected(parts)));
    }
    affected
}

/// A path that every server reads in one way, but for its slashes and its case.
fn plain(path: &[u8]) -> Option<&str> {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/-_.~@+:".contains(byte);
    let path = path.iter().all(is_plain).then(|| std::str::from_utf8(path).ok())??;
    path.split('/').all(|part| part != "." && part != "..").then_some(path)
}

/// Is `folded` what the text is folded to?
fn is_folded(text: &str, folded: &str) -> bool {
    if text.is_ascii() { text.eq_ignore_ascii_case(folded) } else { fold_email(text) == folded }
}

/// The parts of a path as servers may read it: decoded before or after it is divided, once or more often, with and without its dots, the
/// backslash taken for a slash or not. Bytes that are not UTF-8 stand for the character that says so.
fn readings(path: &[u8]) -> Vec<Vec<String>> {
    let mut readings = BTreeSet::new();
    let divided: Vec<String> = path.split(|byte| *byte == b'/').map(decode).collect();
    readings.insert(divided);
    let mut text = String::from_utf8_lossy(path).into_owned();
    for _ in 0..MOST_DECODED {
        text = decode(text.as_bytes());
        readings.insert(text.split('/').map(str::to_owned).collect());
        readings.insert(text.split(['/', '\\']).map(str::to_owned).collect());
    }
    let with_dots: Vec<Vec<String>> = readings.iter().map(|parts| without_empty(parts)).collect();
    let without_dots = readings.iter().map(|parts| without_empty(&resolved(parts)));
    let all: BTreeSet<Vec<String>> = without_dots.chain(with_dots.clone()).collect();
    all.into_iter().collect()
}

fn decode(part: &[u8]) -> String {
    percent_decode(part).decode_utf8_lossy().into_owned()
}

/// Slashes that follow one another are one, and one at the end is none.
fn without_empty(parts: &[String]) -> Vec<String> {
    parts.iter().filter(|part| !part.is_empty()).cloned().collect()
}

/// Without the parts `.` and `..` (RFC 3986 §5.2.4).
fn resolved(parts: &[String]) -> Vec<String> {
    let mut resolved = Vec::new();
    for part in parts.iter().filter(|part| !part.is_empty()) {
        match without_parameters(part) {
            "." => {}
            ".." => drop(resolved.pop()),
            _ => resolved.push(part.clone()),
        }
    }
    resolved
}

/// A part without its parameters (RFC 3986 §3.3), which some servers take off.
fn without_parameters(part: &str) -> &str {
    part.split_once(';').map_or(part, |(before, _)| before)
}

/// How often a path may be decoded on its way to who acts on it.
const MOST_DECODED: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule(path: &str, ends: Ends) -> UserChange {
        UserChange::new(vec!["PUT".into(), "DELETE".into()], path, ends).unwrap()
    }

    fn of(rules: &[UserChange], method: &str, target: &str) -> Vec<Affected> {
        let path = target.split('?').next().unwrap_or_default();
        affected(rules, method.as_bytes(), path.as_bytes()).into_iter().collect()
    }

    fn email(address: &str) -> Affected {
        Affected::Email(address.into())
    }

    #[test]
    fn rule_is_about_its_methods_and_its_path_in_every_spelling() {
        let rules = [rule("/ds-api/users/{email}", Ends::Email)];
        for target in [
            "/ds-api/users/anna@example.com",
            "/ds-api/users/Anna@Example.com",
            "/DS-API/Users/anna@example.com/",
            "//ds-api///users//anna@example.com",
            "/ds-api/users/anna%40example.com?x=1",
            "/ds-api/users/anna%2540example.com",
            "/ds-api/%75sers/anna@example.com",
            "/ds-api%2Fusers%2Fanna@example.com",
            "/ds-api/./users/x/../anna@example.com",
            "/ds-api/users;v=1/anna@example.com",
            "/ds-api\\users\\anna@example.com",
        ] {
            for method in ["PUT", "DELETE", "put"] {
                assert!(of(&rules, method, target).contains(&email("anna@example.com")), "{method} {target}");
            }
            assert_eq!(of(&rules, "GET", target), [], "{target}");
        }
        for target in
            ["/ds-api/users", "/ds-api/users/", "/ds-api/users/a/b", "/ds-api/user/a", "/x/ds-api/users/a"]
        {
            assert_eq!(of(&rules, "PUT", target), [], "{target}");
        }
    }

    #[test]
    fn what_a_rule_ends_is_what_it_says() {
        for (path, ends, target, expected) in [
            ("/u/{user}", Ends::User, "/u/Anna%20B", Affected::User("Anna B".into())),
            ("/u/{user}/roles/*", Ends::User, "/u/anna/roles/7/x", Affected::User("anna".into())),
            ("/me/password", Ends::Own, "/me/password", Affected::Own),
            ("/orgs/*/users", Ends::Organization, "/orgs/7/users", Affected::Organization),
            ("/import/*", Ends::Everybody, "/import/users", Affected::Everybody),
        ] {
            assert_eq!(of(&[rule(path, ends)], "PUT", target), [expected], "{path} {target}");
        }
        // Several rules may be about one request.
        let rules = [rule("/u/{email}", Ends::Email), rule("/u/*", Ends::Own)];
        assert_eq!(of(&rules, "PUT", "/u/a@b"), [email("a@b"), Affected::Own]);
    }

    #[test]
    fn path_that_cannot_be_one_is_refused() {
        for (path, ends) in [
            ("", Ends::Own),
            ("users", Ends::Own),
            ("/", Ends::Own),
            ("/a//b", Ends::Own),
            ("/a/../b", Ends::Own),
            ("/a/{name}", Ends::Own),
            ("/a%20", Ends::Own),
            ("/a?b", Ends::Own),
            ("/a*", Ends::Own),
            ("/users", Ends::Email),
            ("/users/{user}", Ends::Email),
            ("/users/{email}", Ends::User),
            ("/{email}/{email}", Ends::Email),
        ] {
            assert!(UserChange::new(Vec::new(), path, ends).is_err(), "{path} {ends:?}");
        }
    }

    proptest! {
        /// The short way for paths that need no other reading finds the same.
        #[test]
        fn plain_path_is_read_as_every_other(path in "(/|a|B|u|@|users|\\.|b){1,12}") {
            let rules = [rule("/users/{email}", Ends::Email), rule("/a/*", Ends::Own), rule("/*/b/{user}", Ends::User)];
            let readings = readings(path.as_bytes());
            let parts = || readings.iter().map(|reading| reading.iter().map(String::as_str));
            let expected: Vec<_> = rules.iter().flat_map(|rule| parts().filter_map(|path| rule.affected(path))).collect();
            prop_assert_eq!(of(&rules, "PUT", &path), BTreeSet::from_iter(expected).into_iter().collect::<Vec<_>>());
        }

        /// However an address is encoded, it is the one that is affected.
        #[test]
        fn address_is_found_however_it_is_encoded(address in "[a-zA-Z0-9.+@%/ ;é-]{1,20}", encoded: u64) {
            prop_assume!(!address.split('/').any(|part| part.starts_with('.')));
            let mut target = String::from("/ds-api/users/");
            for (at, byte) in address.bytes().enumerate() {
                let must = !byte.is_ascii_alphanumeric();
                if must || encoded >> (at % 64) & 1 == 1 {
                    target.push_str(&format!("%{byte:02X}"));
                } else {
                    target.push(char::from(byte));
                }
            }
            let affected = of(&[rule("/ds-api/users/{email}", Ends::Email)], "PUT", &target);
            prop_assert!(affected.contains(&email(&fold_email(&address))), "{target}: {affected:?}");
        }
    }
}
