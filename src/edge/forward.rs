//! Which fields of a request go on to the platform, and which are added. It knows nothing of the engine that sends them.

use http::header::{AUTHORIZATION, COOKIE, FORWARDED, HOST, InvalidHeaderValue};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::client::Told;
use super::trace::{TRACEPARENT, TRACESTATE, Trace};
use crate::auth::fields::{Field, ManagedFields};
use crate::auth::gate::{Pass, Permit};
use crate::config::Platform;

/// The rules for what the platform sees.
#[derive(Clone)]
pub struct Rewrite {
    identity_fields: [HeaderName; 3],
    managed: ManagedFields,
    forward_token: bool,
    forward_authorization: bool,
}

/// What of a request its forwarding depends on.
pub struct ForwardContext<'r> {
    /// The proof that it may go on.
    pub pass: &'r Pass,
    /// Does it have fields that must be dropped?
    pub has_managed: bool,
    /// The id that the platform, the client and the log all see.
    pub request_id: &'r str,
    /// `X-Forwarded-For`: the client, then trusted proxies.
    pub forwarded_for: HeaderValue,
    /// What the trusted proxy says that it comes from, if it does.
    pub told: Option<&'r Told>,
    /// The trace that it belongs to.
    pub trace: Trace,
    /// Did the client use TLS?
    pub is_tls: bool,
    /// The `Host` that the platform sees instead of the client's.
    pub host: Option<&'r HeaderValue>,
}

impl ForwardContext<'_> {
    const fn permit(&self) -> Option<&Permit> {
        match self.pass {
            Pass::Permit(permit) => Some(permit),
            Pass::Public(_) => None,
        }
    }
}

/// Where the fields are put that the platform is told.
pub trait FieldSink {
    /// Sets a field; another one of that name was dropped before, or is replaced.
    fn set(&mut self, name: &HeaderName, value: HeaderValue);
}

impl FieldSink for HeaderMap {
    fn set(&mut self, name: &HeaderName, value: HeaderValue) {
        self.insert(name, value);
    }
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

    /// Does a field of the client's go on?
    pub fn keeps(&self, name: &[u8], context: &ForwardContext<'_>) -> bool {
        let has_permit = context.permit().is_some();
        let is = |other: &HeaderName| name.eq_ignore_ascii_case(other.as_str().as_bytes());
        match self.managed.classify(name) {
            // A credential of another kind, which a public request goes on without.
            Field::Free => has_permit || !is(&COOKIE),
            Field::Token => has_permit && self.forward_token,
            Field::Managed => {
                (has_permit && self.forward_authorization && is(&AUTHORIZATION))
                    || context.told.is_some_and(|told| told.passes(name))
                    || (context.trace.keeps_state && is(&TRACESTATE))
            }
            // The last two were refused.
            Field::TokenAlias | Field::FramingAlias | Field::MethodOverride => false,
        }
    }

    /// Tells the platform who asks, for whom and by what way.
    ///
    /// # Errors
    ///
    /// Infallible in practice: a request id is hexadecimal, or was a value before.
    pub fn additions(
        &self,
        context: ForwardContext<'_>,
        sink: &mut impl FieldSink,
    ) -> Result<(), InvalidHeaderValue> {
        if let Some(permit) = context.permit() {
            for (name, value) in self.identity_fields.iter().zip(permit.fields()) {
                sink.set(name, value.clone());
            }
        }
        sink.set(&REQUEST_ID, HeaderValue::from_str(context.request_id)?);
        sink.set(&FORWARDED_FOR, context.forwarded_for);
        sink.set(&TRACEPARENT, context.trace.parent);
        if let Some(elements) = context.told.and_then(|told| told.forwarded.clone()) {
            sink.set(&FORWARDED, elements);
        }
        let scheme = if context.is_tls { "https" } else { "http" };
        sink.set(&FORWARDED_PROTO, HeaderValue::from_static(scheme));
        Ok(())
    }

    /// Both, on the fields that are about to be sent, after the hop-by-hop fields are gone.
    ///
    /// # Errors
    ///
    /// As [`Self::additions`]; cookies were values before.
    pub fn apply(
        &self,
        headers: &mut HeaderMap,
        context: ForwardContext<'_>,
    ) -> Result<(), InvalidHeaderValue> {
        // Else there is nothing to drop: most requests are not looked through again.
        if context.has_managed || !self.forward_token || context.permit().is_none() {
            let is_dropped = |name: &&HeaderName| !self.keeps(name.as_str().as_bytes(), &context);
            let dropped: Vec<HeaderName> = headers.keys().filter(is_dropped).cloned().collect();
            for name in &dropped {
                headers.remove(name);
            }
        }
        headers.reserve(ADDED);
        replace_host(headers, context.host);
        join_cookies(headers)?;
        self.additions(context, headers)
    }
}

/// Puts another `Host` in place of the client's, which the platform can still read, unless a trusted proxy has said it.
fn replace_host(headers: &mut HeaderMap, host: Option<&HeaderValue>) {
    if let Some(host) = host {
        let before = headers.insert(HOST, host.clone());
        let before = before.filter(|before| !before.is_empty());
        if let (Some(before), false) = (before, headers.contains_key(&FORWARDED_HOST)) {
            headers.insert(&FORWARDED_HOST, before);
        }
    }
}

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
static FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// How many fields are added to most requests.
const ADDED: usize = 7;
