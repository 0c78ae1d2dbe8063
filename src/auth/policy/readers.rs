//! What servers make of a path, written from what they do and not from our rule: the oracle of a property.

use unicode_normalization::UnicodeNormalization;

use super::target::ENDPOINT;

/// How one server reads a path.
#[derive(Clone, Debug)]
pub(super) struct Reader {
    /// Layers of percent-encoding that it takes off.
    pub(super) decodings: usize,
    /// Whether it resolves dot segments before each of them, too.
    pub(super) resolves_early: bool,
    pub(super) decodes_unicode_escapes: bool,
    pub(super) believes_overlong: bool,
    /// Whether `//host/path` is a host and a path to it.
    pub(super) reads_authority: bool,
    pub(super) normalises: bool,
    pub(super) best_fits: bool,
    pub(super) drops_invisible: bool,
    pub(super) drops_controls: bool,
    pub(super) ends_at_nul: bool,
    pub(super) ends_at_query: bool,
    pub(super) turns_backslashes: bool,
    pub(super) folds_case: bool,
    pub(super) cuts_parameters: bool,
    pub(super) trims_segments: bool,
    pub(super) merges_slashes: bool,
    pub(super) merges_before_resolving: bool,
}

impl Reader {
    /// Does it take this path for the endpoint, or for something below it?
    pub(super) fn reads_endpoint(&self, path: &[u8]) -> bool {
        let reading = self.read(path);
        let word =
            |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-' || *byte == b'_' || *byte >= 0x80;
        reading.strip_prefix(ENDPOINT).is_some_and(|rest| !rest.as_bytes().first().is_some_and(word))
    }

    fn read(&self, path: &[u8]) -> String {
        let mut bytes = path.to_vec();
        if self.reads_authority && bytes.starts_with(b"//") {
            let host = bytes.iter().skip(2).position(|&byte| byte == b'/');
            bytes = host.and_then(|length| bytes.get(2 + length..)).unwrap_or(b"/").to_vec();
        }
        for _ in 0..self.decodings {
            if self.resolves_early
                && let Ok(text) = std::str::from_utf8(&bytes)
            {
                bytes = resolve(text).into_bytes();
            }
            if self.decodes_unicode_escapes {
                bytes = decode_unicode_escapes(&bytes);
            }
            bytes = percent_encoding::percent_decode(&bytes).collect();
        }
        if self.believes_overlong {
            bytes = without_overlong(&bytes);
        }
        let mut text = String::from_utf8_lossy(&bytes).into_owned();
        if self.normalises {
            text = text.nfkc().collect();
        }
        if self.best_fits {
            text = text.chars().map(best_fit).collect();
        }
        if self.drops_invisible {
            text.retain(|c| {
                !matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' | '\u{fe0f}')
            });
        }
        if self.drops_controls {
            text.retain(|c| !matches!(c, '\t' | '\n' | '\r'));
        }
        if self.turns_backslashes {
            text = text.replace('\\', "/");
        }
        if self.folds_case {
            text = text.to_uppercase().to_lowercase();
        }
        if self.ends_at_nul {
            text = text.split('\0').next().unwrap_or_default().to_owned();
        }
        if self.ends_at_query {
            text = text.split(['?', '#']).next().unwrap_or_default().to_owned();
        }
        if self.cuts_parameters {
            text = map_segments(&text, |segment| segment.split(';').next().unwrap_or_default());
        }
        if self.trims_segments {
            text = map_segments(&text, |segment| match segment {
                "." | ".." => segment,
                _ => segment.trim_end_matches(['.', ' ']),
            });
        }
        match (self.merges_slashes, self.merges_before_resolving) {
            (true, true) => resolve(&merge(&text)),
            (true, false) => merge(&resolve(&text)),
            (false, _) => resolve(&text),
        }
    }
}

const fn best_fit(character: char) -> char {
    match character {
        '\u{2044}' | '\u{2215}' | '\u{ff0f}' => '/',
        '\u{2216}' | '\u{ff3c}' | '\u{a5}' | '\u{20a9}' => '\\',
        '\u{2024}' | '\u{ff0e}' => '.',
        '\u{2010}' | '\u{2011}' | '\u{2013}' | '\u{2212}' | '\u{ad}' => '-',
        '\u{ff01}'..='\u{ff5e}' => match char::from_u32(character as u32 - 0xfee0) {
            Some(ascii) => ascii,
            None => character,
        },
        other => other,
    }
}

fn map_segments<'t>(path: &'t str, map: impl Fn(&'t str) -> &'t str) -> String {
    path.split('/').map(map).collect::<Vec<_>>().join("/")
}

fn merge(path: &str) -> String {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    format!("/{}", segments.join("/"))
}

/// Removes dot segments (RFC 3986 §5.2.4); `..` above the root stays at the root.
fn resolve(path: &str) -> String {
    let mut kept = Vec::new();
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            _ => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

/// `%uXXXX`; only letters of ASCII matter here.
fn decode_unicode_escapes(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, after)) = rest.split_first() {
        let code = after.strip_prefix(b"u").or_else(|| after.strip_prefix(b"U")).and_then(|digits| {
            let text = std::str::from_utf8(digits.get(..4)?).ok()?;
            u8::from_str_radix(text.strip_prefix("00")?, 16).ok()
        });
        match code {
            Some(code) if byte == b'%' && code.is_ascii() => {
                out.push(code);
                rest = after.get(5..).unwrap_or_default();
            }
            _ => {
                out.push(byte);
                rest = after;
            }
        }
    }
    out
}

/// Two bytes for what one could say, which a careless decoder accepts.
fn without_overlong(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    loop {
        rest = match rest {
            [] => return out,
            [first @ 0xc0..=0xc1, second @ 0x80..=0xbf, after @ ..] => {
                out.push((first & 0x1f) << 6 | second & 0x3f);
                after
            }
            [byte, after @ ..] => {
                out.push(*byte);
                after
            }
        };
    }
}
