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
        let mut shown = String::with_capacity(target.len());
        let path = match split_userinfo(path) {
            Some((before, after)) => {
                shown.push_str(&String::from_utf8_lossy(before));
                shown.push_str(REDACTED);
                after
            }
            None => path,
        };
        let (path, parameters) = split_at(path, path.iter().position(|&byte| byte == b';'));
        shown.push_str(&redact_escaped(path));
        shown.push_str(&self.pairs(parameters, b";/"));
        if let Some(query) = query {
            shown.push('?');
            shown.push_str(&self.pairs(query, b"&;"));
        }
        shown
    }

    /// Names and values, with what stands between them.
    fn pairs(&self, text: &[u8], between: &[u8]) -> String {
        let mut shown = String::with_capacity(text.len());
        let mut rest = text;
        loop {
            let (pair, after) = split_at(rest, rest.iter().position(|byte| between.contains(byte)));
            shown.push_str(&self.pair(pair));
            let Some((&separator, next)) = after.split_first() else { return shown };
            shown.push(char::from(separator));
            rest = next;
        }
    }

    fn pair(&self, pair: &[u8]) -> String {
        let text = String::from_utf8_lossy(pair);
        let (name, value) = text.split_once('=').map_or((None, &*text), |(name, value)| (Some(name), value));
        // A query in a value, as redirections have one, or a whole pair in escapes.
        let hides_secret = || {
            layers(value.as_bytes()).iter().skip(1).any(|layer| {
                let layer = String::from_utf8_lossy(layer);
                let mut pairs = layer.split(['?', '&', ';', '#', '/']);
                pairs.any(|pair| pair.split_once('=').is_some_and(|(name, _)| self.is_secret(name)))
            })
        };
        if !name.is_some_and(|name| self.is_secret(name)) && !hides_secret() {
            return redact_escaped(pair);
        }
        name.map_or(REDACTED.into(), |name| format!("{}={REDACTED}", redact_escaped(name.as_bytes())))
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

/// What is around a user and a password before a host (RFC 3986 §3.2.1): the scheme, and the `@` with all that follows. They may be in
/// an absolute-form, an authority-form or what looks like one of them.
fn split_userinfo(target: &[u8]) -> Option<(&[u8], &[u8])> {
    let is_scheme = |at: &usize| *at == 0 || target.get(at.wrapping_sub(1)) == Some(&b':');
    let start = match target.windows(2).position(|pair| pair == b"//").filter(is_scheme) {
        Some(at) => at + 2,
        None if target.starts_with(b"/") => return None,
        None => 0,
    };
    let (before, authority) = target.split_at_checked(start)?;
    let end = authority.iter().position(|&byte| byte == b'/').unwrap_or(authority.len());
    let at = authority.get(..end)?.iter().rposition(|&byte| byte == b'@')?;
    Some((before, authority.get(at..)?))
}

/// What comes before that place, and what begins there.
fn split_at(bytes: &[u8], place: Option<usize>) -> (&[u8], &[u8]) {
    bytes.split_at(place.unwrap_or(bytes.len()))
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

/// A path as logged where no configuration is at hand: as `Sink::redact_target` shows it, but for the names that `log.redact` adds.
pub fn redact_path(path: &str) -> String {
    Redaction::new(&[]).target(path.as_bytes())
}

/// Replaces what looks like a JWT (`eyJ…`, the beginning of every JSON object in base64), and what follows the name of a scheme of
/// credentials.
pub fn redact_text(text: &str) -> String {
    let mut is_credential = false;
    let words = text.split(' ').map(|word| {
        let shown = if is_credential && !word.is_empty() { REDACTED.into() } else { redact_tokens(word) };
        let is_scheme = ["basic", "bearer"].iter().any(|scheme| word.eq_ignore_ascii_case(scheme));
        is_credential = is_scheme || (is_credential && word.is_empty());
        shown
    });
    words.collect::<Vec<_>>().join(" ")
}

fn redact_tokens(text: &str) -> String {
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
const BEGINNINGS: [&str; 4] = ["session", "jsession", "phpsess", "sig"];

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
            ("/x?a=1;token=b", "/x?a=1;token=REDACTED"),
            ("/x;jsessionid=a/y;b=c?d", "/x;jsessionid=REDACTED/y;b=c?d"),
            ("/x?token%3Da", "/x?REDACTED"),
            ("/x?a=1%26token=b", "/x?a=REDACTED"),
            ("/x?next=%2Fy%3Ftoken%3Db&c=d", "/x?next=REDACTED&c=d"),
            ("/x?next=%2Fy%3Fz%3Db", "/x?next=%2Fy%3Fz%3Db"),
            ("/plain?a=b", "/plain?a=b"),
            ("http://anna:pw@a.test/x?y", "http://REDACTED@a.test/x?y"),
            ("HTTPS://anna:p@w@a.test", "HTTPS://REDACTED@a.test"),
            ("//anna:pw@a.test/x", "//REDACTED@a.test/x"),
            ("anna:pw@a.test:443", "REDACTED@a.test:443"),
            ("http://a.test/x@y", "http://a.test/x@y"),
            ("/x/anna@example.com", "/x/anna@example.com"),
            ("/a//b@c", "/a//b@c"),
            ("*", "*"),
        ] {
            assert_eq!(redaction.target(target.as_bytes()), shown, "{target}");
        }
    }

    #[test]
    fn credentials_in_a_text_are_never_shown() {
        for (text, shown) in [
            ("curl/8.0", "curl/8.0"),
            ("Basic YW5uYTpwdw==", "Basic REDACTED"),
            ("x basic  YW5uYTpwdw== y", "x basic  REDACTED y"),
            ("Bearer abc", "Bearer REDACTED"),
            ("a eyJh.eyJi.c b", "a REDACTED b"),
            ("basic", "basic"),
        ] {
            assert_eq!(redact_text(text), shown, "{text}");
        }
    }
}
