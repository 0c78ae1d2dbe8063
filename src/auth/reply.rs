//! Answers that the gateway gives itself. Status codes are known here and nowhere else.
//!
//! Every error is JSON, `{"error": "<sentence>"}`: clients of the platform look for that key.

mod malformed;

use std::borrow::Cow;

use serde::Serialize;

use super::cors::{Cors, Preflight};
use super::denial::Denial;
use super::endpoint::Refusal;
use super::fields::SEQUENCE;
use super::gate::Permit;

pub use self::malformed::Malformed;

/// A whole answer: status, fields and body.
#[derive(Debug, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status code.
    pub status: u16,
    /// Fields beyond those that every answer of the gateway has ([`Reply::COMMON`]).
    fields: Fields,
    /// When the client may try again, in seconds: chosen between these for each answer, so that a crowd does not come back at once.
    retry_after: Option<(u32, u32)>,
    /// JSON.
    pub body: Cow<'static, str>,
}

/// Fields of an answer. Most have one at most, and a refused token is the answer that strangers can ask for most often: it
/// allocates nothing.
#[derive(Debug, Default, PartialEq, Eq)]
struct Fields {
    first: Option<(&'static str, Cow<'static, str>)>,
    more: Vec<(&'static str, Cow<'static, str>)>,
}

/// What went wrong on the platform's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlatformFault {
    /// It could not be reached, or its answer was none.
    Unreachable,
    /// It did not answer in time.
    TimedOut,
}

impl PlatformFault {
    /// Every fault.
    pub const ALL: [Self; 2] = [Self::Unreachable, Self::TimedOut];

    /// The fault as a word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::TimedOut => "timed_out",
        }
    }
}

/// What the gateway has too much of to serve a request now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overload {
    /// `limits.requests` are in flight.
    Requests,
    /// `limits.platform_connections` are in use.
    PlatformConnections,
    /// `limits.memory` is taken.
    Memory,
}

impl Overload {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Requests, Self::PlatformConnections, Self::Memory];

    /// The limit as log and metrics name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::PlatformConnections => "platform_connections",
            Self::Memory => "memory",
        }
    }
}

impl Reply {
    /// What every answer of the gateway carries: it concerns a token, and it is JSON.
    const COMMON: [(&'static str, &'static str); 3] = [
        ("Content-Type", "application/json"),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
    ];

    /// All of its fields but its length; `random` is any number.
    pub fn fields(&self, random: u32) -> impl Iterator<Item = (&'static str, Cow<'static, str>)> {
        let retry_after = self.retry_after.map(|(least, most)| {
            let seconds = least + random % (most.saturating_sub(least) + 1);
            ("Retry-After", Cow::Owned(seconds.to_string()))
        });
        let common = Self::COMMON.map(|(name, value)| (name, Cow::Borrowed(value)));
        let Fields { first, more } = &self.fields;
        common.into_iter().chain(first.clone()).chain(more.iter().cloned()).chain(retry_after)
    }

    /// `201 {"user-token": …}`; `sequence` is that of the mint.
    pub fn minted(token: &str, sequence: u64) -> Self {
        Self::json(201, &serde_json::json!({ "user-token": token })).with(SEQUENCE, sequence.to_string())
    }

    /// `200` with what the token says.
    pub fn inspected(permit: &Permit) -> Self {
        let identity = permit.identity();
        Self::json(
            200,
            &Inspection {
                email: &identity.email,
                expire_time: permit.expires_at().to_string(),
                organization_name: identity.organization.as_str(),
                user: identity.user.as_str(),
            },
        )
    }

    /// `204`: the token is revoked, by the transaction of that sequence.
    pub fn revoked(sequence: u64) -> Self {
        Self { status: 204, fields: Fields::default(), retry_after: None, body: "".into() }
            .with(SEQUENCE, sequence.to_string())
    }

    /// One 401 for every reason that a token is refused for, so that it tells a guesser nothing; 503 where we cannot know. The
    /// challenge tells apart what the client knows by itself: that it sent no token, or several.
    pub fn denied(denial: Denial) -> Self {
        let challenge = match denial {
            Denial::StateStale => return Self::store_unavailable(),
            Denial::TokenMissing => CHALLENGE,
            Denial::TokenRepeated | Denial::TokenAlias => INVALID_REQUEST,
            _ => INVALID_TOKEN,
        };
        let body = r#"{"error": "a valid user-token is required"}"#;
        Self { status: 401, fields: Fields::default(), retry_after: None, body: body.into() }
            .with(WWW_AUTHENTICATE, challenge)
    }

    /// A method that the endpoint does not have; on the older form of its path there is one fewer.
    pub fn method_not_allowed(has_organization: bool) -> Self {
        let text = "use POST to obtain a token, GET with ?token= to inspect one, DELETE to revoke it";
        let allowed = if has_organization { "GET, POST" } else { "DELETE, GET, POST" };
        Self::error(405, text).with("Allow", allowed)
    }

    /// An answer of the token endpoint to a request that it cannot serve.
    pub fn refused(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Method => Self::method_not_allowed(true),
            Refusal::Credentials => Self::error(401, "wrong or missing credentials")
                .with(WWW_AUTHENTICATE, r#"Basic realm="ds-api", charset="UTF-8""#),
            Refusal::TokenParameter => {
                Self::error(400, "exactly one token parameter is required: ?token=<user-token>")
            }
        }
    }

    /// A token that does not hold, at the endpoint: the same 401 for expired, forged and revoked.
    pub fn token_refused() -> Self {
        Self::error(401, "the token is not valid").with(WWW_AUTHENTICATE, INVALID_TOKEN)
    }

    /// Under the gateway's reserved path, and nothing there.
    pub fn not_found() -> Self {
        Self::error(404, "no such resource")
    }

    /// What a browser is told that asks before it sends: what pages of the origin may send, or 403.
    pub fn preflight(preflight: Preflight, cors: &Cors) -> Self {
        match preflight {
            Preflight::Allowed => cors.preflight_fields().into_iter().fold(
                Self { status: 204, fields: Fields::default(), retry_after: None, body: "".into() },
                |reply, (name, value)| reply.with(name, value),
            ),
            Preflight::Refused => {
                Self::error(403, "pages of this origin may not send requests: it is not in cors.origins")
            }
        }
    }

    /// A request whose form is refused.
    pub fn malformed(fault: Malformed) -> Self {
        Self::error(fault.status(), fault.as_str())
    }

    /// This user has had too many tokens minted (RFC 6585 §4).
    pub fn too_many_tokens() -> Self {
        Self::error(429, "too many tokens for this user, try again").retry_after(1, 3)
    }

    /// Too many of this user's tokens were revoked, and revocations are forgotten an hour at a time (RFC 6585 §4).
    pub fn too_many_revocations() -> Self {
        Self::error(429, "too many tokens of this user are revoked, try again later").retry_after(3600, 4500)
    }

    /// More logins wait than can be checked in time.
    pub fn busy() -> Self {
        Self::error(503, "too many logins at once, try again").retry_after(1, 4)
    }

    /// Too many wrong passwords came before, so that this one was not looked at; `seconds` until one will be (RFC 6585 §4).
    pub fn throttled(seconds: u32, most: u32) -> Self {
        let spread = (seconds / 2).max(10);
        Self::error(429, "too many failed logins, try again later")
            .retry_after(seconds, seconds.saturating_add(spread).min(most.max(seconds)))
    }

    /// `limits.connections` are open.
    pub fn too_many_connections() -> Self {
        Self::error(503, "too many connections, try again").retry_after(1, 4)
    }

    /// One of the limits of all requests together is reached.
    pub fn overloaded(overload: Overload) -> Self {
        let text = match overload {
            Overload::Requests => "too many requests at once, try again",
            Overload::PlatformConnections => "too many requests are waiting for the platform, try again",
            Overload::Memory => "the gateway has too little memory for this request, try again",
        };
        Self::error(503, text).retry_after(1, 4)
    }

    /// This gateway has not applied the sequence that the request names.
    pub fn not_applied() -> Self {
        Self::error(503, "this gateway has not applied the sequence of X-DS-At-Least, try again")
            .retry_after(1, 2)
    }

    /// The store cannot be asked, or has not been heard of for too long.
    pub fn store_unavailable() -> Self {
        Self::error(503, "the gateway cannot reach its store, try again").retry_after(5, 10)
    }

    /// Who knows the user's password cannot be asked.
    pub fn source_unavailable() -> Self {
        Self::error(503, "the password cannot be checked at the moment, try again").retry_after(5, 10)
    }

    /// Every signing key is revoked: an operator must name or make another.
    pub fn no_signing_key() -> Self {
        Self::error(503, "no signing key; contact the administrator").retry_after(60, 90)
    }

    /// Our own fault, which waiting will not mend.
    pub fn internal() -> Self {
        Self::error(500, "the gateway failed")
    }

    /// 502 or 504.
    pub fn platform(fault: PlatformFault) -> Self {
        match fault {
            PlatformFault::Unreachable => Self::error(502, "the platform cannot be reached"),
            PlatformFault::TimedOut => Self::error(504, "the platform did not answer in time"),
        }
    }

    fn error(status: u16, sentence: &'static str) -> Self {
        // The sentences are ours and contain nothing that JSON would escape; a test holds them to it.
        Self {
            status,
            fields: Fields::default(),
            retry_after: None,
            body: format!("{{\"error\": \"{sentence}\"}}").into(),
        }
    }

    fn json(status: u16, body: &impl Serialize) -> Self {
        match serde_json::to_string(body) {
            Ok(body) => Self { status, fields: Fields::default(), retry_after: None, body: body.into() },
            Err(_) => Self::internal(),
        }
    }

    const fn retry_after(mut self, least: u32, most: u32) -> Self {
        self.retry_after = Some((least, most));
        self
    }

    fn with(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        let field = (name, value.into());
        match &mut self.fields {
            Fields { first: first @ None, .. } => *first = Some(field),
            Fields { more, .. } => more.push(field),
        }
        self
    }
}

const WWW_AUTHENTICATE: &str = "WWW-Authenticate";

/// What every 401 must say (RFC 9110 §15.5.2). Not `Basic`: a browser would ask its user for a password.
const CHALLENGE: &str = r#"User-Token realm="ds-api""#;

/// With the errors of RFC 6750 §3.1, which has no error for a request without a token.
const INVALID_TOKEN: &str = r#"User-Token realm="ds-api", error="invalid_token""#;
const INVALID_REQUEST: &str = r#"User-Token realm="ds-api", error="invalid_request""#;

#[derive(Serialize)]
struct Inspection<'p> {
    email: &'p str,
    expire_time: String,
    organization_name: &'p str,
    user: &'p str,
}

#[cfg(test)]
mod tests;
