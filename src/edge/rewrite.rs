//! What of a request goes on to the platform. It knows fields and nothing of the engine that sends them.

use http::header::{AUTHORIZATION, COOKIE, FORWARDED, InvalidHeaderValue};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::client;
use super::trace::{TRACEPARENT, TRACESTATE};
use crate::auth::fields::{Field, ManagedFields};
use crate::auth::gate::Pass;
use crate::config::{ForwardedFields, Platform};

/// The rules for what the platform sees.
#[derive(Clone)]
pub struct Rewrite {
    identity_fields: [HeaderName; 3],
    managed: ManagedFields,
    forward_token: bool,
    forward_authorization: bool,
}

/// What of a request its forwarding depends on.
pub struct Forwarded<'r> {
    /// The proof that it may go on.
    pub pass: &'r Pass,
    /// Does it have fields that must be dropped?
    pub has_managed: bool,
    /// The id that the platform, the client and the log all see.
    pub request_id: &'r str,
    /// `X-Forwarded-For`: the client, then trusted proxies.
    pub forwarded_for: HeaderValue,
    /// `Forwarded`, where the proxies use it.
    pub forwarded: Option<HeaderValue>,
    /// In which fields the trusted proxy that it comes from, if it does, says who the client is.
    pub trusts: Option<ForwardedFields>,
    /// `traceparent`.
    pub trace_parent: HeaderValue,
    /// Does `tracestate` go on?
    pub keeps_trace_state: bool,
    /// Did it come over TLS?
    pub is_tls: bool,
}

impl Rewrite {
    /// As the platform is configured.
    pub fn new(platform: &Platform) -> Self {
        // Three names for the life of the process: borrowed for ever, they are never counted per request.
        let forever = |name: String| HeaderName::from_static(name.to_ascii_lowercase().leak());
        Self {
            identity_fields: platform.identity_fields.clone().map(forever),
            managed: ManagedFields::new(
                platform.identity_fields.iter().chain(&platform.drop_fields).map(String::as_str),
            ),
            forward_token: platform.forward_token,
            forward_authorization: platform.forward_authorization,
        }
    }

    /// The names that belong to the gateway.
    pub const fn managed(&self) -> &ManagedFields {
        &self.managed
    }

    /// Takes from a request what must not go on, and adds what the platform is told. It works on the copy
    /// that is about to be sent, after the hop-by-hop fields are gone.
    ///
    /// # Errors
    ///
    /// None in life: what is set is percent-encoded, hexadecimal or an address, and cookies were values before.
    pub fn apply(&self, headers: &mut HeaderMap, forwarded: Forwarded<'_>) -> Result<(), InvalidHeaderValue> {
        let permit = match forwarded.pass {
            Pass::Permit(permit) => Some(permit),
            Pass::Public(_) => None,
        };
        let keep_token = permit.is_some() && self.forward_token;
        if forwarded.has_managed || !keep_token {
            let keep_authorization = permit.is_some() && self.forward_authorization;
            let keeps = |name: &HeaderName| {
                (keep_authorization && *name == AUTHORIZATION)
                    || forwarded.trusts.is_some_and(|style| client::passes(name, style, headers))
                    || (forwarded.keeps_trace_state && name == TRACESTATE)
            };
            let names = managed_names(headers, &self.managed, keep_token, keeps);
            for name in &names {
                headers.remove(name);
            }
        }
        headers.reserve(FIELDS);
        if let Some(permit) = permit {
            for (name, value) in self.identity_fields.iter().zip(permit.fields()) {
                headers.insert(name, value.clone());
            }
        } else {
            headers.remove(OTHER_CREDENTIAL);
        }
        join_cookies(headers)?;
        headers.insert(&REQUEST_ID, HeaderValue::from_str(forwarded.request_id)?);
        headers.insert(&FORWARDED_FOR, forwarded.forwarded_for);
        headers.insert(&TRACEPARENT, forwarded.trace_parent);
        if let Some(elements) = forwarded.forwarded {
            headers.insert(FORWARDED, elements);
        }
        let scheme = if forwarded.is_tls { "https" } else { "http" };
        headers.insert(&FORWARDED_PROTO, HeaderValue::from_static(scheme));
        Ok(())
    }
}

/// The names of the client's fields that must not go on; `user-token` stays only if `keep_token`.
fn managed_names(
    headers: &HeaderMap,
    managed: &ManagedFields,
    keep_token: bool,
    keeps: impl Fn(&HeaderName) -> bool,
) -> Vec<HeaderName> {
    let dropped = |name: &&HeaderName| match managed.classify(name.as_str().as_bytes()) {
        Field::Free => false,
        Field::Token => !keep_token,
        // The last two were refused.
        Field::TokenAlias | Field::FramingAlias | Field::MethodOverride => true,
        Field::Managed => !keeps(name),
    };
    headers.keys().filter(dropped).cloned().collect()
}

/// A field that is a credential of another kind, which a public request goes on without.
const OTHER_CREDENTIAL: HeaderName = COOKIE;

/// HTTP/2 may send cookies in several fields, HTTP/1 in one (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) -> Result<(), InvalidHeaderValue> {
    let mut cookies = headers.get_all(COOKIE).iter();
    if let (Some(first), Some(second)) = (cookies.next(), cookies.next()) {
        let rest = cookies.map(HeaderValue::as_bytes);
        let all: Vec<&[u8]> = [first.as_bytes(), second.as_bytes()].into_iter().chain(rest).collect();
        headers.insert(COOKIE, HeaderValue::from_bytes(&all.join(b"; ".as_slice()))?);
    }
    Ok(())
}

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// How many fields are added to most requests.
const FIELDS: usize = 7;
