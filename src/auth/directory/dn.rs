//! Distinguished names as text (RFC 4514): which text is one, and how a name is put into one.

use std::fmt::Write as _;

use thiserror::Error;

use super::filter::{USER, is_attribute};

/// The distinguished name of every user, with a place for the user's name: `uid={user},ou=people,dc=example,dc=com`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnTemplate(String);

/// Why a text is not such a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DnError {
    /// Not a distinguished name, or the place is not in a value.
    #[error("is not a distinguished name such as \"uid={{user}},ou=people,dc=example,dc=com\"")]
    Syntax,
    /// All users would be one.
    #[error("has no {{user}}, so that it would be the same for everybody")]
    NoUser,
}

impl DnTemplate {
    /// Parses the text of a configuration.
    pub fn parse(text: &str) -> Result<Self, DnError> {
        if !text.contains(USER) {
            return Err(DnError::NoUser);
        }
        // Neither a type, nor hexadecimal digits, nor what may stand behind a backslash: the place must be inside a value.
        let filled = text.replace(USER, "x y");
        if is_dn(&filled) && !filled.contains(['{', '}']) {
            Ok(Self(text.to_owned()))
        } else {
            Err(DnError::Syntax)
        }
    }

    /// The distinguished name of the user.
    pub fn of(&self, user: &str) -> String {
        self.0.replace(USER, &escape_value(user))
    }
}

/// A text as (part of) a value in a distinguished name. Every ASCII character that is not known to be harmless everywhere in a value
/// becomes two hexadecimal digits behind a backslash (RFC 4514 §2.4).
pub fn escape_value(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for symbol in text.chars() {
        if !symbol.is_ascii() || symbol.is_ascii_alphanumeric() || "-_.@".contains(symbol) {
            escaped.push(symbol);
        } else {
            // A String takes all that is written to it.
            let _ = write!(escaped, "\\{:02x}", u32::from(symbol));
        }
    }
    escaped
}

/// Is this a distinguished name, and not an empty one (RFC 4514 §3)?
pub fn is_dn(text: &str) -> bool {
    split(text, b',').is_some_and(|names| {
        names.iter().all(|name| split(name, b'+').is_some_and(|pairs| pairs.iter().all(|pair| is_pair(pair))))
    })
}

/// An attribute with its value.
fn is_pair(pair: &str) -> bool {
    pair.split_once('=').is_some_and(|(attribute, value)| {
        is_attribute(attribute.trim_matches(' '))
            && !attribute.contains(';')
            && is_value(value.trim_start_matches(' '))
    })
}

fn is_value(value: &str) -> bool {
    if let Some(digits) = value.strip_prefix('#') {
        let is_hexadecimal = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        return !digits.is_empty() && digits.len().is_multiple_of(2) && is_hexadecimal;
    }
    // What separates names was split at before.
    !value.is_empty() && unescaped(value).all(|byte| !b"\";<>\0".contains(&byte))
}

/// The bytes of a value that stand for themselves.
fn unescaped(value: &str) -> impl Iterator<Item = u8> {
    let mut bytes = value.bytes();
    std::iter::from_fn(move || {
        loop {
            match bytes.next()? {
                b'\\' => drop(bytes.next()),
                byte => return Some(byte),
            }
        }
    })
}

/// The parts between separators that are not escaped; `None` where a backslash escapes nothing.
fn split(text: &str, separator: u8) -> Option<Vec<&str>> {
    let mut parts = Vec::new();
    let (mut begin, mut at) = (0, 0);
    while let Some(byte) = text.as_bytes().get(at) {
        if *byte == separator {
            parts.push(text.get(begin..at)?);
            begin = at + 1;
        }
        at += match byte {
            b'\\' => escape_length(text.as_bytes().get(at + 1..)?)?,
            _ => 1,
        };
    }
    parts.push(text.get(begin..)?);
    Some(parts)
}

/// How long an escape is, its backslash included; `behind` is what stands behind that.
fn escape_length(behind: &[u8]) -> Option<usize> {
    match behind {
        [first, second, ..] if first.is_ascii_hexdigit() && second.is_ascii_hexdigit() => Some(3),
        [symbol, ..] if b" \"#+,;<=>\\".contains(symbol) => Some(2),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_distinguished_name_is_told_from_other_texts() {
        for (text, expected) in [
            ("uid=anna,ou=people,dc=example,dc=com", true),
            ("CN=Anna Berg, OU=People,DC=corp,DC=example", true),
            ("cn=a+uid=b,dc=x", true),
            ("cn=Berg\\, Anna,dc=x", true),
            ("cn=\\e2\\82\\ac,dc=x", true),
            ("cn=a\\\"b\\<c,dc=x", true),
            ("cn=日本,dc=x", true),
            ("2.5.4.3=#0401aa,dc=x", true),
            ("cn=a=b", true),
            ("", false),
            ("anna", false),
            ("anna@corp.example", false),
            ("=x", false),
            ("cn=", false),
            ("cn=a,", false),
            (",cn=a", false),
            ("cn=a,,dc=x", false),
            ("c n=a", false),
            ("cn=a\\", false),
            ("cn=a\\x", false),
            ("cn=a\"b", false),
            ("cn=a;dc=x", false),
            ("cn=#0", false),
            ("cn=a\0", false),
        ] {
            assert_eq!(is_dn(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_template_has_its_place_inside_a_value() {
        for (text, expected) in [
            ("uid={user},ou=people,dc=x", Ok(())),
            ("cn=x-{user},dc=x", Ok(())),
            ("uid=anna,dc=x", Err(DnError::NoUser)),
            ("{user}", Err(DnError::Syntax)),
            ("{user}@corp.example", Err(DnError::Syntax)),
            ("{user}=x,dc=x", Err(DnError::Syntax)),
            ("uid=#{user},dc=x", Err(DnError::Syntax)),
            ("uid=\\{user},dc=x", Err(DnError::Syntax)),
            ("uid=\\4{user},dc=x", Err(DnError::Syntax)),
            ("uid={user},ou={unit},dc=x", Err(DnError::Syntax)),
        ] {
            assert_eq!(DnTemplate::parse(text).map(drop), expected, "{text}");
        }
    }

    #[test]
    fn a_name_cannot_leave_its_value() {
        let template = DnTemplate::parse("uid={user},ou=people,dc=x").unwrap();
        for (user, expected) in [
            ("anna", "uid=anna,ou=people,dc=x"),
            ("anna@x.example", "uid=anna@x.example,ou=people,dc=x"),
            ("anna,ou=admins", "uid=anna\\2cou\\3dadmins,ou=people,dc=x"),
            ("a+cn=b", "uid=a\\2bcn\\3db,ou=people,dc=x"),
            ("#04", "uid=\\2304,ou=people,dc=x"),
            ("a\\00", "uid=a\\5c00,ou=people,dc=x"),
            ("a\0b", "uid=a\\00b,ou=people,dc=x"),
            (" a ", "uid=\\20a\\20,ou=people,dc=x"),
            ("{user}", "uid=\\7buser\\7d,ou=people,dc=x"),
            ("Zoë", "uid=Zoë,ou=people,dc=x"),
        ] {
            assert_eq!(template.of(user), expected, "{user:?}");
        }
    }

    /// What a server makes of a value, written apart from what escapes it.
    fn unescape(value: &str) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut rest = value.as_bytes();
        while let [first, behind @ ..] = rest {
            rest = behind;
            if *first != b'\\' {
                bytes.push(*first);
                continue;
            }
            let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = rest.get(2..)?;
        }
        Some(bytes)
    }

    proptest! {
        #[test]
        fn a_server_reads_the_literal_name(user in "\\PC{1,40}|[ -~]{1,40}|[\\x00-\\x2f\\\\=;<>\"{}a]{1,20}") {
            let escaped = escape_value(&user);
            prop_assert_eq!(unescape(&escaped), Some(user.as_bytes().to_vec()));
            let has_special = escaped.contains([',', '+', '"', ';', '<', '>', '=', '\0', '#', ' ', '{']);
            prop_assert!(!has_special);
            let dn = DnTemplate::parse("uid={user},dc=x").unwrap().of(&user);
            prop_assert!(is_dn(&dn));
            prop_assert_eq!(split(&dn, b',').map(|parts| parts.len()), Some(2));
        }
    }
}
