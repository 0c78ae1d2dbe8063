//! Which fields of a request go on to the platform, and which are added. It knows nothing of the engine that sends them.

use http::header::{AUTHORIZATION, COOKIE, FORWARDED, HOST, InvalidHeaderValue};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::client::Told;
use super::request_head::RequestHead;
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
    pub forwarded_for: &'r HeaderValue,
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
            Pass::Public(_) | Pass::Observed(_) => None,
        }
    }
}

/// Where the fields are put that the platform is told.
pub trait FieldSink {
    /// Sets a field; another one of that name was dropped before, or is replaced.
    ///
    /// # Errors
    ///
    /// A text that no field can have.
    fn set(&mut self, name: &HeaderName, value: FieldValue<'_>) -> Result<(), InvalidHeaderValue>;
}

/// As well, where the client's own fields are put too.
pub trait FieldWriter: FieldSink {
    /// Adds a field as the client sent it.
    fn write(&mut self, name: &[u8], value: &[u8]);
    /// Adds to the value of the field that was added last.
    fn extend(&mut self, value: &[u8]);
}

/// The value of a field that the platform is told.
#[derive(Clone, Copy, Debug)]
pub enum FieldValue<'v> {
    /// Of many requests: to keep it is no copy.
    Shared(&'v HeaderValue),
    /// Of this request.
    Text(&'v [u8]),
}

impl FieldValue<'_> {
    /// The bytes of it.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Shared(value) => value.as_bytes(),
            Self::Text(text) => text,
        }
    }
}

impl FieldSink for HeaderMap {
    fn set(&mut self, name: &HeaderName, value: FieldValue<'_>) -> Result<(), InvalidHeaderValue> {
        let value = match value {
            FieldValue::Shared(value) => value.clone(),
            FieldValue::Text(text) => HeaderValue::from_bytes(text)?,
        };
        self.insert(name, value);
        Ok(())
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
        // The client's token, and its `Authorization`. What is observed goes on to the platform's own check with all that it came with.
        let (is_public, keeps_token, keeps_authorization) = match context.pass {
            Pass::Permit(_) => (false, self.forward_token, self.forward_authorization),
            Pass::Public(_) => (true, false, false),
            Pass::Observed(_) => (false, true, true),
        };
        let is = |other: &HeaderName| name.eq_ignore_ascii_case(other.as_str().as_bytes());
        match self.managed.classify(name) {
            // A credential of another kind, which a public request goes on without.
            Field::Free => !is_public || !is(&COOKIE),
            Field::Token => keeps_token,
            // No identity, whoever sends one: only a permit sets that.
            Field::Managed => {
                (keeps_authorization && is(&AUTHORIZATION))
                    || context.told.is_some_and(|told| told.passes(name))
                    || (context.trace.keeps_state && is(&TRACESTATE))
            }
            // Meant for the gateway alone; the last two were refused.
            Field::TokenAlias | Field::AtLeast | Field::FramingAlias | Field::MethodOverride => false,
        }
    }

    /// Tells the platform who asks, for whom and by what way.
    ///
    /// # Errors
    ///
    /// Infallible in practice: a request id is hexadecimal, or was a value before.
    pub fn additions(
        &self,
        context: &ForwardContext<'_>,
        sink: &mut impl FieldSink,
    ) -> Result<(), InvalidHeaderValue> {
        use FieldValue::{Shared, Text};
        if let Some(permit) = context.permit() {
            for (name, value) in self.identity_fields.iter().zip(permit.fields()) {
                sink.set(name, Shared(value))?;
            }
        }
        sink.set(&REQUEST_ID, Text(context.request_id.as_bytes()))?;
        sink.set(&FORWARDED_FOR, Shared(context.forwarded_for))?;
        sink.set(&TRACEPARENT, Text(&context.trace.parent))?;
        if let Some(elements) = context.told.and_then(|told| told.forwarded.as_ref()) {
            sink.set(&FORWARDED, Shared(elements))?;
        }
        sink.set(&FORWARDED_PROTO, Shared(if context.is_tls { &HTTPS } else { &HTTP }))
    }

    /// Writes the fields of a request that has no hop-by-hop field but `Connection` and what it offers, which end here, and one `Host`.
    ///
    /// # Errors
    ///
    /// As [`Self::additions`].
    pub fn write<H: RequestHead>(
        &self,
        head: &H,
        context: &ForwardContext<'_>,
        sink: &mut impl FieldWriter,
    ) -> Result<(), InvalidHeaderValue> {
        let looks = self.looks_through(context);
        let mut has_cookie = false;
        for (name, value) in head.fields() {
            match name.len() {
                // HTTP/2 may send cookies in several fields, HTTP/1 in one (RFC 9113 §8.2.3).
                6 if name.eq_ignore_ascii_case(b"cookie") => {
                    if !std::mem::replace(&mut has_cookie, true) && (!looks || self.keeps(name, context)) {
                        sink.write(name, value);
                        for more in head.values("cookie").skip(1) {
                            sink.extend(b"; ");
                            sink.extend(more);
                        }
                    }
                }
                7 if name.eq_ignore_ascii_case(b"upgrade") => {}
                10 if name.eq_ignore_ascii_case(b"connection") => {}
                14 if name.eq_ignore_ascii_case(b"http2-settings") => {}
                4 if context.host.is_some() && name.eq_ignore_ascii_case(b"host") => {
                    self.write_host(value, context, sink)?;
                }
                _ if looks && !self.keeps(name, context) => {}
                _ => sink.write(name, value),
            }
        }
        self.additions(context, sink)
    }

    /// As [`replace_host`].
    fn write_host(
        &self,
        before: &[u8],
        context: &ForwardContext<'_>,
        sink: &mut impl FieldWriter,
    ) -> Result<(), InvalidHeaderValue> {
        if let Some(host) = context.host {
            sink.set(&HOST, FieldValue::Shared(host))?;
        }
        let is_told = context.told.is_some_and(|told| told.passes(FORWARDED_HOST.as_str().as_bytes()));
        if is_told { Ok(()) } else { sink.set(&FORWARDED_HOST, FieldValue::Text(before)) }
    }

    /// May there be something to drop? Most requests are not looked through again.
    const fn looks_through(&self, context: &ForwardContext<'_>) -> bool {
        context.has_managed || !self.forward_token || context.permit().is_none()
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
        if self.looks_through(&context) {
            let is_dropped = |name: &&HeaderName| !self.keeps(name.as_str().as_bytes(), &context);
            let dropped: Vec<HeaderName> = headers.keys().filter(is_dropped).cloned().collect();
            for name in &dropped {
                headers.remove(name);
            }
        }
        headers.reserve(ADDED);
        replace_host(headers, context.host);
        join_cookies(headers)?;
        self.additions(&context, headers)
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

static HTTP: HeaderValue = HeaderValue::from_static("http");
static HTTPS: HeaderValue = HeaderValue::from_static("https");

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// How many fields are added to most requests.
const ADDED: usize = 7;

#[cfg(test)]
mod tests;
