//! Names of users and organizations: one spelling each, and nothing that could break out of a header.

use std::fmt;

use serde::Serialize;
use unicode_normalization::char::is_combining_mark as is_mark;
use unicode_normalization::{UnicodeNormalization, is_nfc};

/// A user's or an organization's name: NFC, 1–128 characters, no control character, no blank at either
/// end. Compared by bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Name(Box<str>);

/// Why a text cannot be a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// Nothing in it.
    Empty,
    /// More characters than allowed.
    TooLong,
    /// A control character (general category Cc).
    Control,
    /// A blank at its beginning or end.
    Blank,
    /// Not in Unicode normalization form C, so that two names could look the same.
    NotNormalized,
    /// A colon, which RFC 7617 §2 forbids in a user's name.
    Colon,
}

impl NameError {
    /// The reason as the second half of a sentence.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Empty => "must not be empty",
            Self::TooLong => "is too long (names: 128 characters, e-mail addresses: 254)",
            Self::Control => "must not contain control characters",
            Self::Blank => "must not begin or end with a blank",
            Self::NotNormalized => "must be in Unicode normalization form C",
            Self::Colon => "must not contain a colon",
        }
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for NameError {}

impl Name {
    /// The longest name, in characters.
    pub const MAX_CHARS: usize = 128;

    /// An organization's name, or any name that is only compared.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        check_text(text, Self::MAX_CHARS)?;
        if !is_nfc(text) {
            return Err(NameError::NotNormalized);
        }
        Ok(Self(text.into()))
    }

    /// A user's name, which Basic authentication sends in front of a colon.
    pub fn parse_user(text: &str) -> Result<Self, NameError> {
        if text.contains(':') {
            return Err(NameError::Colon);
        }
        Self::parse(text)
    }

    /// The name as it is compared.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What two names share when a person would take one for the other: case is folded, compatibility
    /// forms are unified.
    pub fn folded(&self) -> String {
        fold(&self.0)
    }

    /// What the name looks like, whatever the script of its letters (Unicode TR39 §4, skeleton): once as it is folded, and once as
    /// it is written, since letters of two scripts may look alike in upper case only (`В` and `B`). Two names that share one of the
    /// two could be taken for each other.
    pub fn skeletons(&self) -> [String; 2] {
        let skeleton = |text: &str| fold(&unicode_security::skeleton(text).collect::<String>());
        [skeleton(&self.folded()), skeleton(&self.0)]
    }
}

/// Folds case, and unifies compatibility forms.
fn fold(text: &str) -> String {
    if text.is_ascii() {
        // What the rest would come to.
        return text.to_ascii_lowercase();
    }
    // Upper, then lower: the two together fold `ß` and `SS`, `ſ` and `s`, `ς` and `σ`.
    let upper: String = text.nfkc().collect::<String>().to_uppercase();
    upper.to_lowercase().nfc().collect()
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What two e-mail addresses share that mail systems take for the same: case is folded, compatibility forms are unified. The local part too,
/// which RFC 5321 §2.4 leaves to its host and nearly every host folds.
pub fn fold_email(text: &str) -> String {
    fold(text)
}

/// The rule for an e-mail address in a token: it is shown and forwarded, never interpreted; 254 characters are the
/// limit of RFC 5321.
pub fn check_email(text: &str) -> Result<(), NameError> {
    check_text(text, 254)
}

/// Could mail be sent there? A dot-string of at most 64 bytes, `@`, and a domain (RFC 5321 §4.1.2, with letters of every script as
/// RFC 6531 has them). Quoted names and address literals are not taken: nobody has one whom the platform knows.
pub fn is_mailbox(text: &str) -> bool {
    let Some((local, domain)) = text.rsplit_once('@') else { return false };
    let is_atom_char = |symbol: char| match symbol.is_ascii() {
        true => symbol.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(symbol),
        false => !symbol.is_whitespace() && !symbol.is_control(),
    };
    let is_atom = |atom: &str| !atom.is_empty() && atom.chars().all(is_atom_char);
    let is_label = |label: &str| {
        let is_inside = |symbol: char| symbol == '-' || symbol.is_alphanumeric() || is_mark(symbol);
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(is_inside)
    };
    local.len() <= 64
        && local.split('.').all(is_atom)
        && domain.len() <= 253
        && domain.split('.').all(is_label)
}

fn check_text(text: &str, max_chars: usize) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    // Four bytes a character at most: a cheap bound before the characters are counted.
    if text.len() > 4 * max_chars || text.chars().count() > max_chars {
        return Err(NameError::TooLong);
    }
    if text.chars().any(char::is_control) {
        return Err(NameError::Control);
    }
    if text.starts_with(char::is_whitespace) || text.ends_with(char::is_whitespace) {
        return Err(NameError::Blank);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_refuses_what_breaks_it() {
        for (text, expected) in [
            ("", Err(NameError::Empty)),
            ("Main Org.", Ok(())),
            ("Zoë 日本語 🦀", Ok(())),
            (" a", Err(NameError::Blank)),
            ("a\u{a0}", Err(NameError::Blank)),
            ("a\r\nb", Err(NameError::Control)),
            ("a\u{0}", Err(NameError::Control)),
            ("a\u{85}b", Err(NameError::Control)),
            ("e\u{301}", Err(NameError::NotNormalized)),
            ("a:b", Ok(())),
        ] {
            assert_eq!(Name::parse(text).map(drop), expected, "{text:?}");
        }
        assert_eq!(Name::parse_user("a:b"), Err(NameError::Colon));
    }

    #[test]
    fn length_is_counted_in_characters() {
        assert!(Name::parse(&"é".repeat(128)).is_ok());
        assert_eq!(Name::parse(&"é".repeat(129)), Err(NameError::TooLong));
    }

    #[test]
    fn confusable_names_share_their_fold() {
        let fold = |text| Name::parse(text).unwrap().folded();
        for (one, other) in [
            ("Anna", "aNNA"),
            ("STRASSE", "straße"),
            ("ΣΊΣΥΦΟΣ", "σίσυφος"),
            ("Kelvin", "\u{ff2b}elvin"),
            ("ſam", "SAM"),
        ] {
            assert_eq!(fold(one), fold(other), "{one} {other}");
        }
        assert_ne!(fold("anna"), fold("anne"));
    }

    #[test]
    fn names_that_look_alike_in_two_scripts_share_a_skeleton() {
        let look_alike = |one: &str, other: &str| {
            let skeletons = |text| Name::parse(text).unwrap().skeletons();
            let (one, other) = (skeletons(one), skeletons(other));
            one.iter().any(|skeleton| other.contains(skeleton))
        };
        for (one, other) in [
            ("anna", "\u{430}nna"),
            ("Anna", "\u{410}nna"),
            ("anna", "\u{410}NNA"),
            ("Ian", "\u{456}an"),
            ("BOB", "\u{412}\u{41e}\u{412}"),
            ("bob", "\u{412}\u{41e}\u{412}"),
            ("paypal", "\u{440}\u{430}y\u{440}\u{430}l"),
            ("nikos", "nik\u{3bf}s"),
            ("admin", "adm\u{131}n"),
            ("root", "r\u{585}\u{585}t"),
            ("scope", "\u{455}\u{441}\u{43e}\u{440}\u{435}"),
        ] {
            assert!(look_alike(one, other), "{one} {other}");
        }
        for (one, other) in
            [("anna", "anne"), ("anna", "анна"), ("Zoë", "Zoe"), ("日本", "日木"), ("jose", "josé")]
        {
            assert!(!look_alike(one, other), "{one} {other}");
        }
    }

    #[test]
    fn mailbox_is_a_dot_string_and_a_domain() {
        for (text, expected) in [
            ("my.user@example.com", true),
            ("o'brien+tag@mail.example.co.uk", true),
            ("root@localhost", true),
            ("zoë@bücher.example", true),
            ("用户@例子.中国", true),
            ("a@b", true),
            ("", false),
            ("anna", false),
            ("@example.com", false),
            ("anna@", false),
            ("anna@@example.com", false),
            ("a@b@example.com", false),
            ("anna@example..com", false),
            ("anna@.example.com", false),
            ("anna@example.com.", false),
            ("anna@-example.com", false),
            ("anna@exa_mple.com", false),
            ("anna@exam ple.com", false),
            ("an na@example.com", false),
            (".anna@example.com", false),
            ("anna.@example.com", false),
            ("an..na@example.com", false),
            ("Anna <anna@example.com>", false),
            ("anna@example.com, bert@example.com", false),
            ("mailto:anna@example.com", false),
            ("\"a b\"@example.com", false),
            ("anna@[127.0.0.1]", false),
            ("anna@example.com\u{a0}", false),
        ] {
            assert_eq!(is_mailbox(text), expected, "{text:?}");
        }
        assert!(is_mailbox(&format!("{}@example.com", "a".repeat(64))));
        assert!(!is_mailbox(&format!("{}@example.com", "a".repeat(65))));
        assert!(!is_mailbox(&format!("a@{}.com", "b".repeat(64))));
    }
}
