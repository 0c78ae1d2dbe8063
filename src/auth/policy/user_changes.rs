//! Which requests change users of the platform, and whose tokens they end. In doubt a request is one that does: that costs a login.

use std::collections::BTreeSet;

use percent_encoding::percent_decode;

use super::fold::{Role, fold, role};
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
    /// This text, as servers may fold it.
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
                text => Segment::Text(loosened(text)),
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

    /// Adds whose tokens a request ends whose path has these parts.
    fn add_affected<'p>(&self, path: impl Iterator<Item = &'p str>, affected: &mut BTreeSet<Affected>) {
        let Some(captured) = self.captured(path) else { return };
        match self.ends {
            Ends::Email => {
                affected.extend(meant(captured).map(|text| Affected::Email(fold_email(text).into())));
            }
            Ends::User => {
                affected.extend(meant(captured).map(|text| Affected::User(text.into())));
                // A blank to those who decode a path as they do a form.
                if captured.contains('+') {
                    affected.insert(Affected::User(captured.replace('+', " ").trim().into()));
                }
            }
            Ends::Own => _ = affected.insert(Affected::Own),
            Ends::Organization => _ = affected.insert(Affected::Organization),
            Ends::Everybody => _ = affected.insert(Affected::Everybody),
        }
    }

    /// The captured part of a path that matches.
    fn captured<'p>(&self, mut path: impl Iterator<Item = &'p str>) -> Option<&'p str> {
        let mut captured = "";
        for segment in &self.segments {
            let part = path.next()?;
            match segment {
                Segment::Text(text) if may_be(part, text) => {}
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
        rules.for_each(|rule| rule.add_affected(parts(), &mut affected));
        return affected;
    }
    let readings = readings(path);
    for rule in rules {
        for reading in &readings {
            rule.add_affected(reading.iter().map(String::as_str), &mut affected);
        }
    }
    affected
}

/// A path that every server reads in one way, but for its slashes and its case.
fn plain(path: &[u8]) -> Option<&str> {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/-_.~@+:".contains(byte);
    let path = path.iter().all(is_plain).then(|| std::str::from_utf8(path).ok())??;
    path.split('/').all(|part| part != "." && part != "..").then_some(path)
}

/// May a server take this part for that text, [loosened](loosened)? Behind it may stand what is no part of a word: parameters, a format
/// (`.json`), dots and blanks.
fn may_be(part: &str, text: &str) -> bool {
    let is_end = |rest: &[u8]| {
        rest.first()
            .is_none_or(|byte| !(byte.is_ascii_alphanumeric() || b"-_".contains(byte) || *byte >= 0x80))
    };
    if let Some((begin, rest)) = part.as_bytes().split_at_checked(text.len())
        && begin.eq_ignore_ascii_case(text.as_bytes())
        && is_end(rest)
    {
        return true;
    }
    let is_plain = part.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_control());
    !is_plain && loosened(part).strip_prefix(text).is_some_and(|rest| is_end(rest.as_bytes()))
}

/// A text as servers may fold it: without case, marks, and what has no width.
fn loosened(text: &str) -> String {
    let mut loosened = String::with_capacity(text.len());
    for character in text.chars().filter(|symbol| !matches!(role(*symbol), Role::Invisible | Role::Control)) {
        fold(character, |folded| {
            loosened.push(folded);
            true
        });
    }
    loosened
}

/// Whom a captured part may mean. No name and no address begins or ends with a blank.
fn meant(part: &str) -> impl Iterator<Item = &str> {
    let bare = without_parameters(part);
    let format = bare.rsplit_once('.').filter(|(_, format)| is_format(format)).map(|(before, _)| before);
    let undotted = bare.trim_end_matches(['.', ' ']);
    let all = [part, bare, undotted, format.unwrap_or_default()];
    all.into_iter().map(str::trim).filter(|text| !text.is_empty())
}

/// Is it one of the formats of an answer that some servers read off the end of a path?
fn is_format(text: &str) -> bool {
    const FORMATS: [&str; 10] = ["json", "xml", "html", "htm", "txt", "csv", "js", "yaml", "yml", "do"];
    FORMATS.iter().any(|format| text.eq_ignore_ascii_case(format))
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
        readings.insert(text.split(is_separator).map(str::to_owned).collect());
    }
    let with_dots: Vec<Vec<String>> = readings.iter().map(|parts| without_empty(parts)).collect();
    let without_dots = readings.iter().map(|parts| without_empty(&resolved(parts)));
    let mut all: BTreeSet<Vec<String>> = without_dots.chain(with_dots.clone()).collect();
    let dropped: Vec<_> = all.iter().map(|parts| without_dropped(parts)).collect();
    all.extend(dropped);
    all.into_iter().collect()
}

/// Is it, or does it become, what divides a path?
fn is_separator(character: char) -> bool {
    let mut is_separator = role(character) == Role::Separator;
    fold(character, |folded| {
        is_separator |= role(folded) == Role::Separator;
        !is_separator
    });
    is_separator
}

fn decode(part: &[u8]) -> String {
    percent_decode(part).decode_utf8_lossy().into_owned()
}

/// Slashes that follow one another are one, and one at the end is none.
fn without_empty(parts: &[String]) -> Vec<String> {
    parts.iter().filter(|part| !part.is_empty()).cloned().collect()
}

/// Without the parts that some servers take for none: parameters or blanks alone, a session in brackets.
fn without_dropped(parts: &[String]) -> Vec<String> {
    let is_kept =
        |part: &&String| !loosened(without_parameters(part)).trim().is_empty() && !part.starts_with('(');
    parts.iter().filter(is_kept).cloned().collect()
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

/// A part without its parameters (RFC 3986 §3.3), which some servers take off, as they do what is behind a question mark that was encoded.
fn without_parameters(part: &str) -> &str {
    part.split_once([';', '?', '#']).map_or(part, |(before, _)| before)
}

/// How often a path may be decoded on its way to who acts on it.
const MOST_DECODED: usize = 3;

#[cfg(test)]
mod tests;
