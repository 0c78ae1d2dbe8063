//! What a character of a path can become on its way through a server: what it is to the structure of the path, and which
//! letters it folds to.
//!
//! Servers fold by Unicode's compatibility forms (NFKC), and those on Windows by the *best fit* of an old code page, where
//! several slashes, dots and dashes become those of ASCII.

use unicode_normalization::char::{decompose_compatible, is_combining_mark};

/// What a character is to the structure of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Ends a segment: `/` and `\`.
    Separator,
    /// Of nothing but dots and blanks is made a dot segment.
    Dot,
    Blank,
    /// Ends a path for some, a segment for others: `;`, `?`, `#`.
    Cut,
    /// Of no width: some servers drop it.
    Invisible,
    /// C0, DEL and C1.
    Control,
    /// U+00AD, which some drop and some read as `-`.
    SoftHyphen,
    /// A part of a name.
    Name,
}

/// The role of a character, or of what it folds to.
#[inline(always)]
pub(super) const fn role(character: char) -> Role {
    match character {
        '/' | '\\' => Role::Separator,
        '.' => Role::Dot,
        // `+` is a blank to those who decode a path as they do a form.
        ' ' | '+' => Role::Blank,
        ';' | '?' | '#' => Role::Cut,
        '\0'..='\x1f' | '\x7f'..='\u{9f}' => Role::Control,
        '\x21'..='\x7e' => Role::Name,
        _ => role_beyond_ascii(character),
    }
}

const fn role_beyond_ascii(character: char) -> Role {
    match character {
        '\u{ad}' => Role::SoftHyphen,
        // Division and fraction slash, set minus, full-width and small ones; yen and won, which code pages of Japan and
        // Korea have in the place of the backslash.
        '\u{2044}' | '\u{2215}' | '\u{2216}' | '\u{29f5}' | '\u{29f8}' | '\u{29f9}' | '\u{fe68}'
        | '\u{ff0f}' | '\u{ff3c}' | '\u{a5}' | '\u{20a9}' | '\u{ffe5}' | '\u{ffe6}' => Role::Separator,
        // One, two and three dots; the full stops of East Asia.
        '\u{2024}'..='\u{2026}'
        | '\u{3002}'
        | '\u{fe12}'
        | '\u{fe19}'
        | '\u{fe30}'
        | '\u{fe52}'
        | '\u{ff0e}'
        | '\u{ff61}' => Role::Dot,
        '\u{a0}'
        | '\u{207a}'
        | '\u{208a}'
        | '\u{fb29}'
        | '\u{fe62}'
        | '\u{ff0b}'
        | '\u{1680}'
        | '\u{2000}'..='\u{200a}'
        | '\u{2028}'
        | '\u{2029}'
        | '\u{202f}'
        | '\u{205f}'
        | '\u{3000}' => Role::Blank,
        // The Greek question mark is a semicolon.
        '\u{37e}' | '\u{2047}' | '\u{2048}' | '\u{fe14}' | '\u{fe16}' | '\u{fe54}' | '\u{fe56}'
        | '\u{fe5f}' | '\u{ff03}' | '\u{ff1b}' | '\u{ff1f}' => Role::Cut,
        // `Default_Ignorable_Code_Point` of the Unicode Character Database, and what annotates text.
        '\u{34f}'
        | '\u{61c}'
        | '\u{115f}'
        | '\u{1160}'
        | '\u{17b4}'
        | '\u{17b5}'
        | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}'
        | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}'
        | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}' => Role::Invisible,
        _ => Role::Name,
    }
}

/// Shows each character that `character` folds to, until `take` has seen enough: compatibility forms, without case and marks,
/// dashes as `-`, letters of other scripts as code page 1252 has them.
pub(super) fn fold(character: char, mut take: impl FnMut(char) -> bool) {
    if character.is_ascii() {
        take(character.to_ascii_lowercase());
        return;
    }
    let mut goes_on = true;
    decompose_compatible(character, |part| {
        // What is left of a letter for servers that drop marks, as best fit does and, for the dot of `İ`, lower case.
        if is_combining_mark(part) {
            return;
        }
        // Upper, then lower: `ſ` and the dotless `ı` are lower case already.
        let lower = part.to_uppercase().flat_map(char::to_lowercase);
        for folded in lower.filter(|part| !is_combining_mark(*part)).map(best_fit) {
            goes_on = goes_on && take(folded);
        }
    });
}

/// Dashes, and letters that the endpoint's path has.
const fn best_fit(character: char) -> char {
    match character {
        '\u{2d7}' | '\u{2010}'..='\u{2015}' | '\u{2043}' | '\u{2212}' => '-',
        'α' => 'a',
        'δ' | 'đ' | 'ð' | '∂' => 'd',
        'ε' | '℮' => 'e',
        'ĸ' => 'k',
        'ƞ' | 'η' | '∩' => 'n',
        'ø' | 'ω' | 'ο' => 'o',
        'π' | '∏' => 'p',
        'σ' | 'ς' | '∑' => 's',
        'τ' | 'ŧ' | 'θ' => 't',
        'ʉ' => 'u',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(character: char) -> String {
        let mut all = String::new();
        fold(character, |part| (all.push(part), true).1);
        all
    }

    #[test]
    fn letters_are_folded_to_what_servers_make_of_them() {
        for (character, expected) in [
            ('U', "u"),
            ('\u{ff35}', "u"),
            ('\u{24e4}', "u"),
            ('\u{17f}', "s"),
            ('\u{212a}', "k"),
            ('\u{131}', "i"),
            ('\u{2011}', "-"),
            ('\u{ff0d}', "-"),
            ('\u{2026}', "..."),
            ('\u{e9}', "e"),
            ('\u{130}', "i"),
            ('\u{16d}', "u"),
            ('\u{394}', "d"),
        ] {
            assert_eq!(folded(character), expected, "{character:?}");
        }
    }

    /// The table of roles has every character that folds to nothing but structure.
    #[test]
    fn every_character_has_the_role_of_what_it_folds_to() {
        for character in '\0'..=char::MAX {
            let mut has_mark = false;
            decompose_compatible(character, |part| has_mark |= is_combining_mark(part));
            if has_mark {
                // A blank with a mark on it is none.
                continue;
            }
            let parts = folded(character);
            let mut roles = parts.chars().map(role);
            let first = roles.next().unwrap();
            if first == Role::Cut || (first != Role::Name && roles.all(|other| other == first)) {
                assert_eq!(role(character), first, "U+{:04X} {parts:?}", u32::from(character));
            }
        }
    }
}
