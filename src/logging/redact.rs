//! What of a request may be shown: never a token, a password or another secret.

use std::borrow::Cow;

/// Which parameters of a query hold secrets, beside those that always do.
pub(super) struct Redaction {
    /// In lower case.
    names: Vec<String>,
}

impl Redaction {
    pub(super) fn new(names: &[String]) -> Self {
        Self { names: names.iter().map(|name| name.to_lowercase()).collect() }
    }

    /// Path and query as logged: the values of parameters that name a secret are nobody's to see, and neither is a token
    /// that somebody put elsewhere. What is very long is cut.
    pub(super) fn target(&self, target: &[u8]) -> String {
        let (seen, is_cut) = match target.split_at_checked(SHOWN_BYTES) {
            Some((seen, rest)) => (seen, !rest.is_empty()),
            None => (target, false),
        };
        let mut shown = self.whole(seen);
        if is_cut {
            shown.push('…');
        }
        shown
    }

    fn whole(&self, target: &[u8]) -> String {
        let (path, query) = crate::auth::policy::split_target(target);
        let mut shown = redact_escaped(path);
        let Some(query) = query else {
            return shown;
        };
        for (at, pair) in query.split(|&byte| byte == b'&').enumerate() {
            shown.push(if at == 0 { '?' } else { '&' });
            let text = String::from_utf8_lossy(pair);
            match text.split_once('=') {
                Some((name, _)) if self.is_secret(name) => {
                    shown.push_str(name);
                    shown.push_str("=REDACTED");
                }
                _ => shown.push_str(&redact_escaped(pair)),
            }
        }
        shown
    }

    /// Does a parameter of that name, as it stands in the query, hold a secret?
    fn is_secret(&self, name: &str) -> bool {
        layers(
            &name.as_bytes().iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect::<Vec<_>>(),
        )
        .iter()
        .map(|name| String::from_utf8_lossy(name).to_lowercase())
        .any(|name| {
            let mut words = name.split(|c: char| !c.is_alphanumeric());
            self.names.contains(&name)
                || ANYWHERE.iter().any(|part| name.contains(part))
                || words.any(|word| {
                    WORDS.contains(&word) || BEGINNINGS.iter().any(|beginning| word.starts_with(beginning))
                })
        })
    }
}

/// For bytes that may be percent-encoded, once or several times: where a token may be among escapes, none of it is shown.
fn redact_escaped(bytes: &[u8]) -> String {
    let has_token = |bytes: &Cow<'_, [u8]>| String::from_utf8_lossy(bytes).contains(JWT);
    if layers(bytes).iter().skip(1).any(has_token) {
        return REDACTED.to_owned();
    }
    redact_text(&String::from_utf8_lossy(bytes))
}

/// The bytes, and what is left of them as each layer of percent-encoding is taken off.
fn layers(bytes: &[u8]) -> Vec<Cow<'_, [u8]>> {
    let mut all = vec![Cow::Borrowed(bytes)];
    while let Some(last) = all.last()
        && all.len() <= MOST_LAYERS
        && last.contains(&b'%')
    {
        let decoded: Vec<u8> = percent_encoding::percent_decode(last).collect();
        if decoded == **last {
            break;
        }
        all.push(Cow::Owned(decoded));
    }
    all
}

/// Replaces what looks like a JWT (`eyJ…`, the beginning of every JSON object in base64).
pub fn redact_text(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(JWT) {
        let (before, token) = rest.split_at(at);
        shown.push_str(before);
        shown.push_str(REDACTED);
        let in_token = |c: char| c.is_ascii_alphanumeric() || "-_.=".contains(c);
        rest = token.trim_start_matches(in_token);
    }
    shown.push_str(rest);
    shown
}

/// A parameter whose name has one of these in it holds a secret.
const ANYWHERE: [&str; 9] =
    ["token", "pass", "pwd", "secret", "authorization", "credential", "apikey", "accesskey", "privatekey"];

/// One whose name is or has one of these words: `key`, `api_key`, `x-code`.
const WORDS: [&str; 5] = ["key", "code", "auth", "jwt", "otp"];

/// One whose name has a word that begins so: `session_id`, `Signature`.
const BEGINNINGS: [&str; 2] = ["session", "sig"];

/// Every JSON object in base64 begins so.
const JWT: &str = "eyJ";

const REDACTED: &str = "REDACTED";

/// More layers of percent-encoding than any client writes by mistake.
const MOST_LAYERS: usize = 4;

/// Bytes of a path and its query that are shown.
const SHOWN_BYTES: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_in_a_target_is_never_shown() {
        let redaction = Redaction::new(&["Colour".into()]);
        for (target, shown) in [
            ("/ds-api/user-token?token=eyJh.eyJi.c", "/ds-api/user-token?token=REDACTED"),
            ("/x?a=1&user-token=zzz&b", "/x?a=1&user-token=REDACTED&b"),
            ("/x?%74oken=zzz", "/x?%74oken=REDACTED"),
            ("/x?%2574oken=zzz", "/x?%2574oken=REDACTED"),
            ("/x?q=eyJhbGciOi.x-_y&z=1", "/x?q=REDACTED&z=1"),
            ("/x/eyJhbGciOi.abc/y", "/x/REDACTED/y"),
            ("/x/%65yJhbGciOi.abc", "REDACTED"),
            ("/x/%2565yJhbGciOi.abc", "REDACTED"),
            ("/x?q=%65yJhbGciOi.abc&a=b", "/x?REDACTED&a=b"),
            ("/x?q=%252565yJhbGciOi.abc", "/x?REDACTED"),
            (
                "/x?Pass=a&pwd=b&api_key=c&key=d&code=e&auth=f&sessionid=g&X-Amz-Signature=h&sig=i",
                "/x?Pass=REDACTED&pwd=REDACTED&api_key=REDACTED&key=REDACTED&code=REDACTED&auth=REDACTED\
                 &sessionid=REDACTED&X-Amz-Signature=REDACTED&sig=REDACTED",
            ),
            (
                "/x?access_token=a&client%5Fsecret=b&colour=c",
                "/x?access_token=REDACTED&client%5Fsecret=REDACTED&colour=REDACTED",
            ),
            (
                "/x?keyword=a&monkey=b&decode=c&author=d&colours=e",
                "/x?keyword=a&monkey=b&decode=c&author=d&colours=e",
            ),
            ("/plain?a=b", "/plain?a=b"),
        ] {
            assert_eq!(redaction.target(target.as_bytes()), shown, "{target}");
        }
    }
}
