//! A request on its way through the lane: what is decided about it, and its head as the platform sees it.

use std::time::Duration;

use http::HeaderName;
use http::header::InvalidHeaderValue;

use super::client::Client;
use super::head::{Head, Read, no_fields};
use crate::auth::cors::Sharing;
use crate::auth::gate::ClockReading;
use crate::auth::reply::Reply;
use crate::edge::decide::Decision;
use crate::edge::forward::{FieldSink, FieldValue, FieldWriter, ForwardContext, Rewrite};
use crate::edge::gateway::{Gateway, judge};
use crate::edge::request_head::RequestHead as _;
use crate::edge::request_state::RequestState;
use crate::edge::trace::Trace;
use crate::metrics::{DecisionLabel, Declined};

/// What follows from what was read of a request.
pub(super) enum Plan {
    /// More of its head must come.
    More,
    /// It is the engine's; where the length of the whole request is known, the connection comes back after it.
    Detour(Declined, Option<u64>),
    /// It is answered here, without asking the platform.
    Answer(Reply, Taken),
    /// It goes on to the platform once its body is there.
    Forward(Taken),
}

/// A request that the lane serves.
pub(super) struct Taken {
    pub(super) state: RequestState,
    pub(super) head_length: usize,
    /// Bytes of head and body.
    pub(super) length: usize,
    /// Is it for a head alone?
    pub(super) is_head: bool,
    /// Does twice the same as once (RFC 9110 §9.2.2)?
    pub(super) is_idempotent: bool,
    /// After the answer the connection ends.
    pub(super) closes: bool,
    /// The longest that it may take.
    pub(super) limit: Option<Duration>,
}

/// Decides on the request that the input begins with. It waits for nothing.
pub(super) fn plan(gateway: &Gateway, client: &Client, clock: ClockReading, longest_head: usize) -> Plan {
    let mut fields = no_fields();
    let head = match Head::read(&client.input, &mut fields) {
        Read::Whole(head) => head,
        Read::Part if client.input.len() >= longest_head => {
            return Plan::Detour(Declined::HeaderBytes, None);
        }
        Read::Part => return Plan::More,
        Read::Unreadable => return Plan::Detour(Declined::Syntax, None),
    };
    let shape = head.shape();
    let whole = shape.length.map(|length| head.len() as u64 + length);
    let detour = |reason| Plan::Detour(reason, whole);
    if let Some(reason) = shape.declined {
        return detour(reason);
    }
    let body = shape.length.unwrap_or(u64::MAX);
    if body > LONGEST_BODY {
        return detour(Declined::Body);
    }
    let length = head.len() + body as usize;
    if client.input.len() > length {
        return detour(Declined::Pipelined);
    }
    let mut state = gateway.begin();
    let Ok(decision) = judge(&head, &client.connection, None, clock, &mut state) else {
        return detour(Declined::Overload);
    };
    let taken = |state: RequestState| Taken {
        limit: state.runtime.request_duration(head.target()),
        state,
        head_length: head.len(),
        length,
        is_head: head.method == "HEAD",
        is_idempotent: !matches!(head.method, "POST" | "PATCH"),
        closes: shape.closes,
    };
    match decision {
        Decision::Forward(pass, facts) => {
            if facts.has_managed && has_unusual_managed(&head, &state.runtime.rewrite) {
                return detour(Declined::Field);
            }
            state.active = Some(client.connection.active_request());
            match gateway.forwards(pass, facts, head.target(), &mut state) {
                Ok(()) => Plan::Forward(taken(state)),
                Err(_) => detour(Declined::Overload),
            }
        }
        // The engine reads a body that nobody wants.
        Decision::Answer(reply, facts)
            if body == 0 && matches!(facts.label, Some(DecisionLabel::Denied(_))) =>
        {
            gateway.answers(facts, &mut state);
            Plan::Answer(reply, taken(state))
        }
        Decision::Answer(..) | Decision::Endpoint(..) => detour(Declined::Local),
    }
}

/// Is there a field of the gateway's in a spelling that is nobody's?
fn has_unusual_managed(head: &Head<'_, '_>, rewrite: &Rewrite) -> bool {
    let is_usual = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
    head.fields().any(|(name, _)| !name.iter().all(is_usual) && rewrite.managed().is_managed(name))
}

/// Writes the head of a request as the server of its last try is to see it.
pub(super) fn write_head(out: &mut Vec<u8>, client: &Client, state: &RequestState) -> Option<()> {
    let mut fields = no_fields();
    let Read::Whole(head) = Head::read(&client.input, &mut fields) else {
        return None;
    };
    let origin = state.origin.as_deref();
    let told = origin.and_then(|origin| origin.told.as_ref());
    let host = state.upstream().host(&state.tries).filter(|host| !host.keeps);
    let context = ForwardContext {
        pass: state.pass.as_ref()?,
        has_managed: state.facts.has_managed,
        request_id: state.request_id.as_str(),
        forwarded_for: origin.map_or(client.connection.forwarded_for(), |origin| &origin.forwarded_for),
        told,
        trace: state.trace.clone().unwrap_or_else(|| Trace::new(&state.request_id)),
        is_tls: told.and_then(|told| told.is_tls).unwrap_or(client.is_tls),
        host: host.map(|host| host.value),
    };
    out.clear();
    for part in [head.method.as_bytes(), b" ", head.target(), b" HTTP/1.1\r\n"] {
        out.extend_from_slice(part);
    }
    state.runtime.rewrite.write(&head, &context, &mut Wire(out)).ok()?;
    out.extend_from_slice(b"\r\n");
    Some(())
}

/// What the answer to this request says to browsers.
pub(super) fn sharing<'s>(client: &Client, state: &'s RequestState) -> Sharing<'s> {
    let cors = &state.runtime.cors;
    if cors.is_off() {
        return Sharing::Off;
    }
    let mut fields = no_fields();
    match Head::read(&client.input, &mut fields) {
        Read::Whole(head) => cors.sharing(head.values("origin")),
        Read::Part | Read::Unreadable => Sharing::Refused,
    }
}

/// Fields as they are sent.
pub(super) struct Wire<'o>(pub(super) &'o mut Vec<u8>);

impl Wire<'_> {
    pub(super) fn field(&mut self, name: &[u8], value: &[u8]) {
        let Self(out) = self;
        for part in [name, b": ", value, b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
}

impl FieldWriter for Wire<'_> {
    fn write(&mut self, name: &[u8], value: &[u8]) {
        self.field(name, value);
    }
}

impl FieldSink for Wire<'_> {
    fn set(&mut self, name: &HeaderName, value: FieldValue<'_>) -> Result<(), InvalidHeaderValue> {
        self.field(name.as_str().as_bytes(), value.as_bytes());
        Ok(())
    }
}

/// Bodies up to this size are read whole before the platform is asked.
const LONGEST_BODY: u64 = 64 * 1024;
