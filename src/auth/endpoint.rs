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
    /// Anyone who holds the token; credentials that are present are checked all the same.
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
    /// Every reason.
    pub const ALL: [Self; 3] = [Self::Method, Self::Credentials, Self::TokenParameter];

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
mod tests;
