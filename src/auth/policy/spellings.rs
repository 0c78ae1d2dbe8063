//! Spellings of the endpoint's path, and of paths near it: what the tests of the rule and those with real servers send.

use proptest::prelude::*;

/// What may stand before a segment: one `/`, or what some server reads as one.
pub(super) const BETWEEN: [&str; 37] = [
    "/",
    "//",
    "\\",
    "%2f",
    "%5c",
    "%252F",
    "%255c",
    "/./",
    "/x/../",
    "/%2e/",
    "/x/%2E%2e/",
    "/x/..%2f",
    "/;/",
    ";x/",
    "/x/..;/",
    "/.;/",
    "./",
    "%20/",
    "/%c0%ae/",
    "%c0%af",
    "/x%c0%af../",
    "\u{2215}",
    "%EF%BC%8F",
    "\u{ff3c}",
    "/\u{200b}/",
    "/%09/",
    "%00/",
    "/x/%E2%80%A5/",
    "//x/",
    "%3f/",
    "/x\\../",
    "/x%5c..%2f",
    "%u002f",
    "%25u005c",
    "/.%20/",
    "/x/.%0d./",
    "/x/%252e%252e/",
];

/// What may stand behind the path.
pub(super) const TAILS: [&str; 25] = [
    "",
    "/",
    "/x",
    ".",
    "%20",
    ";x",
    "%23",
    "%3fx",
    "?x",
    "%00",
    "%2500",
    "\\",
    "%2f..",
    "/..",
    "/.",
    "x",
    ".json",
    "%",
    "%25",
    "\u{200b}",
    "%c0%af",
    "%252f",
    "%e2%81%84",
    ":x",
    "%09",
];

/// A spelling, most of them with some letters as they are published.
pub(super) fn spelling() -> impl Strategy<Value = String> {
    let between = prop_oneof![2 => Just("/"), 37 => prop::sample::select(BETWEEN.to_vec())];
    let letters = |word: &'static str| {
        let each = word.chars().map(|letter| {
            let upper = letter.to_ascii_uppercase();
            let wide = char::from_u32(u32::from(letter) + 0xfee0).unwrap_or(letter);
            let code = u32::from(letter);
            prop_oneof![
                30 => Just(letter.to_string()),
                1 => Just(upper.to_string()),
                1 => Just(format!("%{code:02x}")),
                1 => Just(format!("%25{code:02X}")),
                1 => Just(format!("%u{code:04x}")),
                1 => Just(wide.to_string()),
                1 => Just(format!("{letter}\u{200b}")),
                1 => Just(format!("{letter}%C2%AD")),
                1 => Just(format!("{letter}%0a")),
                1 => Just(format!("%c1%{:02x}", 0x80 + code % 0x40)),
                1 => Just("\u{2011}".to_owned()),
            ]
        });
        each.collect::<Vec<_>>().prop_map(|letters| letters.concat())
    };
    let tail = prop::sample::select(TAILS.to_vec());
    (between.clone(), letters("ds-api"), between, letters("user-token"), tail).prop_map(
        |(start, parent, middle, name, tail)| {
            let path = format!("{start}{parent}{middle}{name}{tail}");
            if path.starts_with('/') { path } else { format!("/{path}") }
        },
    )
}
