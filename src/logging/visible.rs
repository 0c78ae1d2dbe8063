//! Text from outside on its way to a terminal or a log.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The text with every character escaped that a reader would not see, or that would change how the rest is seen: controls
/// other than line feed and tab, line and paragraph separators, bidirectional overrides, characters of no width. The escapes
/// are those of JSON, so that JSON stays what it was.
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_hidden(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                // A String can always be written to.
                let _ = write!(shown, "\\u{unit:04x}");
            }
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

fn is_hidden(character: char) -> bool {
    match character {
        '\n' | '\t' | ' '..='~' => false,
        _ => {
            character.is_control()
                || matches!(character,
                    '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
                    | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_escaped_as_json_does() {
        for (text, expected) in [
            ("plain \"text\" é 中\n\t", "plain \"text\" é 中\n\t"),
            ("\u{1b}[2J", "\\u001b[2J"),
            ("\u{7f}", "\\u007f"),
            ("\u{85}\u{9b}2J", "\\u0085\\u009b2J"),
            ("\u{2028}\u{2029}", "\\u2028\\u2029"),
            ("a\u{202e}b\u{2066}", "a\\u202eb\\u2066"),
            ("\u{feff}\u{200b}", "\\ufeff\\u200b"),
            ("\u{e0041}", "\\udb40\\udc41"),
        ] {
            assert_eq!(visible(text), expected, "{text:?}");
        }
    }

    #[test]
    fn json_stays_what_it_was() {
        let value = serde_json::json!({ "a": "x\u{202e}\u{85}\u{e0041}\u{1b}y" });
        for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
            let shown = visible(&text);
            assert!(!shown.contains(is_hidden), "{shown}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
        }
    }
}
