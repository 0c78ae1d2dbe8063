//! Pages of other origins: which may read answers, and what a browser is told that asks before it sends (the CORS protocol of the
//! Fetch standard, <https://fetch.spec.whatwg.org/#http-cors-protocol>).
//!
//! It lets nobody in. A browser keeps an answer from a page unless its fields say that the page's origin may read it; whether a
//! request passes is asked of the gate alone, and an `Origin` changes no verdict. Cookies are never included: tokens travel in a
//! field that the page sets itself.

mod origin;

use core::time::Duration;

pub use self::origin::{Origin, OriginError};

/// The configured rule. By default it is off, and what the platform says about origins stands.
#[derive(Clone, Debug, Default)]
pub struct Cors {
    origins: Origins,
    methods: Box<str>,
    fields: Box<str>,
    max_age: Duration,
}

/// Whose pages may read answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origins {
    /// The rule is off.
    #[default]
    Nobody,
    /// Pages of these.
    Listed(Vec<Origin>),
    /// All pages.
    Everybody,
}

/// What an answer tells browsers about other origins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing<'c> {
    /// Nothing: the rule is off.
    Off,
    /// No page of another origin may read it.
    Refused,
    /// Pages of this origin may; `*` is any.
    Allowed(&'c str),
}

/// How a browser is answered that asks before it sends (a CORS-preflight request).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preflight {
    /// With what pages of its origin may send.
    Allowed,
    /// Pages of its origin may send nothing.
    Refused,
}

impl Preflight {
    /// The answer as the log names it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "preflight",
            Self::Refused => "origin_refused",
        }
    }
}

impl Cors {
    /// Pages of `origins` may use these methods and send these fields beside [`ALWAYS_SENT`]; a browser may remember that for `max_age`.
    pub fn new(origins: Origins, methods: &[String], fields: &[String], max_age: Duration) -> Self {
        let mut names: Vec<String> = fields.iter().map(|name| name.to_ascii_lowercase()).collect();
        names.extend(ALWAYS_SENT.map(str::to_owned));
        names.sort();
        names.dedup();
        Self { origins, methods: methods.join(", ").into(), fields: names.join(", ").into(), max_age }
    }

    /// Does what the platform says about origins stand?
    pub fn is_off(&self) -> bool {
        self.origins == Origins::Nobody
    }

    /// May all pages read answers?
    pub fn is_for_everybody(&self) -> bool {
        self.origins == Origins::Everybody
    }

    /// What the answer to a request with these `Origin` fields tells browsers. No browser sends several.
    pub fn sharing<'r>(&self, mut origins: impl Iterator<Item = &'r [u8]>) -> Sharing<'_> {
        let listed = match &self.origins {
            Origins::Nobody => return Sharing::Off,
            Origins::Everybody => return Sharing::Allowed("*"),
            Origins::Listed(listed) => listed,
        };
        let (Some(origin), None) = (origins.next(), origins.next()) else {
            return Sharing::Refused;
        };
        let found = listed.iter().map(Origin::as_str).find(|listed| listed.as_bytes() == origin);
        found.map_or(Sharing::Refused, Sharing::Allowed)
    }

    /// Does a browser ask before it sends, and how is it answered? `origins` and `methods` are the values of the fields `Origin` and
    /// `Access-Control-Request-Method`; without one of each it is a request like any other.
    pub fn preflight<'r>(
        &self,
        method: &[u8],
        mut origins: impl Iterator<Item = &'r [u8]>,
        mut methods: impl Iterator<Item = &'r [u8]>,
    ) -> Option<Preflight> {
        if method != b"OPTIONS" {
            return None;
        }
        let (Some(origin), None, Some(_), None) =
            (origins.next(), origins.next(), methods.next(), methods.next())
        else {
            return None;
        };
        match self.sharing(std::iter::once(origin)) {
            Sharing::Off => None,
            Sharing::Refused => Some(Preflight::Refused),
            Sharing::Allowed(_) => Some(Preflight::Allowed),
        }
    }

    /// The fields of the answer to an allowed preflight, beside those that every answer has.
    pub fn preflight_fields(&self) -> [(&'static str, String); 3] {
        [
            ("Access-Control-Allow-Methods", self.methods.to_string()),
            ("Access-Control-Allow-Headers", self.fields.to_string()),
            ("Access-Control-Max-Age", self.max_age.as_secs().to_string()),
        ]
    }
}

/// Is it a token (RFC 9110 §5.6.2), as methods and names of fields are?
pub fn is_token(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_part)
}

/// Methods that pages may use unless the configuration lists others.
pub const METHODS: [&str; 6] = ["DELETE", "GET", "HEAD", "PATCH", "POST", "PUT"];

/// Fields that pages of allowed origins can always send: without them there is no token, and no JSON.
pub const ALWAYS_SENT: [&str; 4] = ["authorization", "content-type", "user-token", "x-ds-at-least"];

/// Fields of answers that pages may read: all, which is what `*` says without cookies, and by name those of the gateway, for browsers
/// that take `*` for a name.
pub const EXPOSED: &str = "*, Retry-After, WWW-Authenticate, X-DS-Sequence, X-Request-Id";

/// Fields that belong to this rule while it is on: the platform's are dropped.
pub const MANAGED: [&str; 7] = [
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
    "access-control-allow-private-network",
    "access-control-expose-headers",
    "access-control-max-age",
];

#[cfg(test)]
mod tests;
