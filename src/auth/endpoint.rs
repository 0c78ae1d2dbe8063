//! The token endpoint as pure rules: what a request asks for, and with which credentials.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use unicode_normalization::{UnicodeNormalization as _, is_nfc};

use super::name::Name;
use super::password::Phc;
use super::secret::Secret;

/// Who may inspect a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InspectAuth {
    /// Any user with valid Basic credentials.
    Basic,
    /// Whoever holds the token; credentials that are present are checked all the same.
    Token,
}

/// User and password of a Basic `Authorization` field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// In normalization form C; whether such a user exists is the store's to say.
    pub user: Name,
    /// As sent, never empty.
    pub password: Secret,
    /// What else the client may have meant: the same characters in another normalization form.
    pub variants: Vec<Secret>,
}

impl Credentials {
    /// How many passwords are tried.
    pub fn passwords(&self) -> u32 {
        1 + u32::try_from(self.variants.len()).unwrap_or(u32::MAX - 1)
    }

    /// The passwords that are tried, in their order.
    pub fn all_passwords(&self) -> impl Iterator<Item = &Secret> {
        std::iter::once(&self.password).chain(&self.variants)
    }
}

/// What a well-formed request asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum TokenRequest<'r> {
    /// `POST`: a new token.
    Mint {
        /// Whose.
        credentials: Credentials,
    },
    /// `GET`: what a token says.
    Inspect {
        /// Who asks; may be absent where the configuration says so.
        credentials: Option<Credentials>,
        /// The token asked about.
        token: Cow<'r, str>,
    },
}

/// Why a request to the endpoint gets no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// None of the methods of this path.
    Method,
    /// Basic is missing, malformed or wrong.
    Credentials,
    /// `token` is there not once.
    TokenParameter,
}

impl Refusal {
    /// The reason as log and metrics name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Method => "method_not_allowed",
            Self::Credentials => "bad_credentials",
            Self::TokenParameter => "bad_request",
        }
    }
}

/// Reads a request to the token endpoint. `authorization` holds every field of that name.
pub fn read<'r>(
    method: &str,
    query: Option<&'r [u8]>,
    authorization: &[&[u8]],
    inspect_auth: InspectAuth,
) -> Result<TokenRequest<'r>, Refusal> {
    match method {
        "POST" => Ok(TokenRequest::Mint { credentials: basic(authorization)? }),
        "GET" => {
            let token = token_parameter(query.unwrap_or_default())?;
            let credentials = match inspect_auth {
                InspectAuth::Token if authorization.is_empty() => None,
                _ => Some(basic(authorization)?),
            };
            Ok(TokenRequest::Inspect { credentials, token })
        }
        _ => Err(Refusal::Method),
    }
}

/// The one value of `token` or `user-token` in a query.
fn token_parameter(query: &[u8]) -> Result<Cow<'_, str>, Refusal> {
    let mut values =
        form_urlencoded::parse(query).filter(|(name, _)| is_token_parameter(name)).map(|(_, value)| value);
    match (values.next(), values.next()) {
        (Some(token), None) if !token.is_empty() => Ok(token),
        _ => Err(Refusal::TokenParameter),
    }
}

/// A query parameter whose value is a token, and so nobody's to see.
pub fn is_token_parameter(name: &str) -> bool {
    matches!(name, "token" | "user-token")
}

/// RFC 7617: exactly one field, scheme in any case, strict base64, no control character, the first colon splits, neither half
/// empty. UTF-8, or else Latin-1, which RFC 7617 leaves to clients and some still send.
fn basic(authorization: &[&[u8]]) -> Result<Credentials, Refusal> {
    parse_basic(authorization).ok_or(Refusal::Credentials)
}

fn parse_basic(authorization: &[&[u8]]) -> Option<Credentials> {
    let [field] = authorization else {
        return None;
    };
    let (scheme, encoded) = std::str::from_utf8(field).ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("Basic") {
        return None;
    }
    let decoded = Secret::new(STANDARD.decode(encoded.trim_start_matches(' ')).ok()?);
    let latin1;
    let text = match std::str::from_utf8(decoded.expose_secret()) {
        Ok(text) => text,
        Err(_) => {
            let text: String = decoded.expose_secret().iter().map(|byte| char::from(*byte)).collect();
            latin1 = Secret::new(text.into_bytes());
            std::str::from_utf8(latin1.expose_secret()).ok()?
        }
    };
    let (user, password) = text.split_once(':')?;
    if password.is_empty() || password.len() > Phc::MAX_PASSWORD || text.chars().any(char::is_control) {
        return None;
    }
    let user =
        if is_nfc(user) { Name::parse_user(user) } else { Name::parse_user(&user.nfc().collect::<String>()) };
    Some(Credentials {
        user: user.ok()?,
        password: Secret::new(password.as_bytes().to_vec()),
        variants: variants(password),
    })
}

/// The same password in the other normalization forms: systems differ in which of them their users type.
fn variants(password: &str) -> Vec<Secret> {
    if password.is_ascii() {
        return Vec::new();
    }
    let mut variants = Vec::new();
    // Of the longest size at once, so that no copy stays behind where a shorter one was.
    let mut add = |characters: &mut dyn Iterator<Item = char>| {
        let mut text = String::with_capacity(4 * password.len());
        text.extend(characters);
        let is_good = text != password && text.len() <= Phc::MAX_PASSWORD;
        let variant = Secret::new(text.into_bytes());
        if is_good && !variants.contains(&variant) {
            variants.push(variant);
        }
    };
    add(&mut password.nfc());
    add(&mut password.nfd());
    variants
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(text: &[u8]) -> String {
        format!("Basic {}", STANDARD.encode(text))
    }

    fn read_basic(field: &str) -> Option<(String, String)> {
        let credentials = parse_basic(&[field.as_bytes()])?;
        let password = String::from_utf8(credentials.password.expose_secret().to_vec()).unwrap();
        Some((credentials.user.to_string(), password))
    }

    #[test]
    fn basic_follows_rfc_7617() {
        let good = Some(("anna".to_owned(), "pass:word".to_owned()));
        for (field, expected) in [
            (encoded(b"anna:pass:word"), good.clone()),
            (encoded(b"anna:pass:word").replace("Basic ", "bAsIc   "), good),
            (encoded("zoë:pässwörd".as_bytes()), Some(("zoë".into(), "pässwörd".into()))),
            (encoded(b"anna:"), None),
            (encoded(b":password"), None),
            (encoded(b"anna"), None),
            (encoded(b"anna:a\nb"), None),
            (encoded(b"anna:a\x85b"), None),
            (encoded(b"zo\xeb:p\xe4ss"), Some(("zoë".into(), "päss".into()))),
            (encoded("zoe\u{308}:x".as_bytes()), Some(("zoë".into(), "x".into()))),
            (
                encoded(format!("anna:{}", "x".repeat(1024)).as_bytes()),
                Some(("anna".into(), "x".repeat(1024))),
            ),
            (encoded(format!("anna:{}", "x".repeat(1025)).as_bytes()), None),
            (encoded(b"anna:password").replace("Basic ", "Bearer "), None),
            (encoded(b"anna:password").replace(' ', ""), None),
            (encoded(b"anna:pass:wor").trim_end_matches('=').to_owned(), None),
            (encoded(b"anna:pass:word") + "!", None),
            (String::new(), None),
        ] {
            assert_eq!(read_basic(&field), expected, "{field}");
        }
        let field = encoded(b"anna:password");
        assert_eq!(parse_basic(&[]), None);
        assert_eq!(parse_basic(&[field.as_bytes(), field.as_bytes()]), None);
    }

    #[test]
    fn a_password_is_tried_in_every_form_that_the_client_may_have_meant() {
        for (sent, expected) in [
            (b"anna:plain".to_vec(), &["plain"][..]),
            ("anna:pässwörd".into(), &["pässwörd", "pa\u{308}sswo\u{308}rd"]),
            ("anna:pa\u{308}sswo\u{308}rd".into(), &["pa\u{308}sswo\u{308}rd", "pässwörd"]),
            ("anna:ä\u{61}\u{308}".into(), &["äa\u{308}", "ää", "a\u{308}a\u{308}"]),
            (b"anna:p\xe4ss".to_vec(), &["päss", "pa\u{308}ss"]),
            // Marks in another order: both normal forms are the same.
            ("anna:q\u{307}\u{323}".into(), &["q\u{307}\u{323}", "q\u{323}\u{307}"]),
            ("anna:日本".into(), &["日本"]),
        ] {
            let credentials = parse_basic(&[encoded(&sent).as_bytes()]).unwrap();
            let passwords = credentials.all_passwords().map(Secret::expose_secret);
            let passwords: Vec<&str> = passwords.map(|bytes| std::str::from_utf8(bytes).unwrap()).collect();
            assert_eq!(passwords, expected, "{sent:?}");
            assert_eq!(credentials.passwords() as usize, expected.len());
        }
    }

    #[test]
    fn only_get_and_post_are_served() {
        let field = encoded(b"anna:password");
        let fields: &[&[u8]] = &[field.as_bytes()];
        for method in ["HEAD", "OPTIONS", "PUT", "PATCH", "TRACE", "post", "get", ""] {
            let request = read(method, Some(b"token=x"), fields, InspectAuth::Token);
            assert_eq!(request, Err(Refusal::Method), "{method}");
        }
        assert!(matches!(
            read("POST", Some(b"token=x"), fields, InspectAuth::Basic),
            Ok(TokenRequest::Mint { .. })
        ));
    }

    #[test]
    fn inspection_wants_one_token_under_either_name() {
        let field = encoded(b"anna:password");
        for (query, expected) in [
            (Some("token=a.b.c"), Ok("a.b.c")),
            (Some("user-token=a.b.c"), Ok("a.b.c")),
            (Some("x=1&%74oken=a%2Eb.c&y"), Ok("a.b.c")),
            (Some("token=a&token=a"), Err(Refusal::TokenParameter)),
            (Some("token=a&user-token=b"), Err(Refusal::TokenParameter)),
            (Some("token="), Err(Refusal::TokenParameter)),
            (Some("token"), Err(Refusal::TokenParameter)),
            (Some("Token=a"), Err(Refusal::TokenParameter)),
            (Some(""), Err(Refusal::TokenParameter)),
            (None, Err(Refusal::TokenParameter)),
        ] {
            let query = query.map(str::as_bytes);
            let token = match read("GET", query, &[field.as_bytes()], InspectAuth::Basic) {
                Ok(TokenRequest::Inspect { token, .. }) => Ok(token),
                Ok(other) => panic!("{other:?}"),
                Err(refusal) => Err(refusal),
            };
            assert_eq!(token.as_deref().map_err(|&refusal| refusal), expected, "{query:?}");
        }
    }

    #[test]
    fn inspection_without_basic_only_where_the_token_is_enough() {
        let inspect = |fields: &[&[u8]], auth| read("GET", Some(b"token=x"), fields, auth).map(drop);
        assert_eq!(inspect(&[], InspectAuth::Basic), Err(Refusal::Credentials));
        assert_eq!(inspect(&[], InspectAuth::Token), Ok(()));
        assert_eq!(inspect(&[b"Basic ??"], InspectAuth::Token), Err(Refusal::Credentials));
    }

    proptest! {
        #[test]
        fn any_field_is_read_without_a_panic(field: Vec<u8>) {
            let _ = parse_basic(&[&field]);
        }

        #[test]
        fn what_curl_sends_is_read_back(user in "[a-zA-Z0-9._@-]{1,20}", password in "[!-~]{1,40}") {
            let field = encoded(format!("{user}:{password}").as_bytes());
            prop_assert_eq!(read_basic(&field), Some((user, password)));
        }
    }
}
