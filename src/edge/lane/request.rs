//! A request on its way through the lane: what is decided about it, and its head as the platform sees it.

use http::HeaderValue;

use super::client::Client;
use super::handshake::Handshake;
use super::head::{Head, Read, no_fields};
use super::outgoing;
use super::resources::{HEAD_BYTES, LONGEST_BODY};
use super::taken::{Extent, Taken};
use crate::auth::cors::{Cors, Sharing};
use crate::auth::gate::{ClockReading, Pass};
use crate::auth::reply::Reply;
use crate::edge::decide::Decision;
use crate::edge::forward::{ForwardContext, Rewrite};
use crate::edge::gateway::{Gateway, judge};
use crate::edge::request_head::RequestHead;
use crate::edge::request_id::RequestId;
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

/// Decides on the request that the input begins with. It waits for nothing. Where it does not take what is plain, there are only those
/// left that change the protocol of their connection.
pub(super) fn plan(gateway: &Gateway, client: &Client, clock: ClockReading, takes_plain: bool) -> Plan {
    let mut fields = no_fields();
    let head = match Head::read(&client.input, &mut fields) {
        Read::Whole(head) => head,
        Read::Part if client.input.len() >= HEAD_BYTES => {
            return Plan::Detour(Declined::HeaderBytes, None);
        }
        Read::Part => return Plan::More,
        Read::Unreadable => return Plan::Detour(Declined::Syntax, None),
    };
    let shape = head.shape();
    let whole = shape.length.map(|length| head.len() as u64 + length);
    let detour = |reason| Plan::Detour(reason, whole);
    if let Some(reason) = shape.declined {
        let upgrade = shape.asks.and_then(|protocol| plan_upgrade(gateway, client, &head, protocol, clock));
        return upgrade.unwrap_or_else(|| detour(reason));
    }
    if !takes_plain {
        return detour(Declined::Local);
    }
    let body = shape.length.unwrap_or(u64::MAX);
    if body > LONGEST_BODY as u64 {
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
        closes: shape.closes,
        ..Taken::new(state, head.method, head.target(), Extent { head: head.len(), whole: length })
    };
    match decision {
        Decision::Forward(pass, facts) => {
            if facts.has_managed && has_unusual_managed(&head, &state.runtime.rewrite) {
                return detour(Declined::Field);
            }
            state.active = Some(client.connection.active_request());
            match gateway.forwards(pass, facts, &head, &mut state) {
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
        Decision::Answer(..) | Decision::Endpoint(..) | Decision::Change(..) | Decision::Wait(..) => {
            detour(Declined::Local)
        }
    }
}

/// Decides on a request that asks to change its connection to `protocol`; `None` leaves it to the engine, which changes nothing.
fn plan_upgrade(
    gateway: &Gateway,
    client: &Client,
    head: &Head<'_, '_>,
    protocol: &[u8],
    clock: ClockReading,
) -> Option<Plan> {
    let mut state = gateway.begin();
    if !state.runtime.policy.allows_upgrade(head.target(), protocol) {
        return None;
    }
    let handshake = Some(Box::new(Handshake::read(head, protocol)?));
    let head = head.upgrading();
    let decision = judge(&head, &client.connection, None, clock, &mut state).ok()?;
    let extent = Extent { head: head.len(), whole: head.len() };
    // Unless the protocol changes, the connection ends: what may be behind the handshake is not to be taken for a request.
    let taken =
        |state| Taken { closes: true, handshake, ..Taken::new(state, head.method, head.target(), extent) };
    match decision {
        Decision::Forward(pass, facts) => {
            if facts.has_managed && has_unusual_managed(&head, &state.runtime.rewrite) {
                return None;
            }
            state.active = Some(client.connection.active_request());
            let Err(overload) = gateway.forwards(pass, facts, &head, &mut state) else {
                return Some(Plan::Forward(taken(state)));
            };
            gateway.shared.metrics.overloaded(overload);
            state.facts.word = overload.as_str();
            Some(Plan::Answer(Reply::overloaded(overload), taken(state)))
        }
        Decision::Answer(reply, facts) => {
            gateway.answers(facts, &mut state);
            Some(Plan::Answer(reply, taken(state)))
        }
        Decision::Wait(_, facts) => {
            gateway.answers(facts, &mut state);
            Some(Plan::Answer(Reply::not_applied(), taken(state)))
        }
        Decision::Endpoint(..) | Decision::Change(..) => None,
    }
}

/// Is there a field of the gateway's in a spelling that is nobody's?
fn has_unusual_managed(head: &Head<'_, '_>, rewrite: &Rewrite) -> bool {
    let is_usual = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
    head.fields().any(|(name, _)| !name.iter().all(is_usual) && rewrite.managed().is_managed(name))
}

/// What the platform sees of the head that these bytes begin with, if the lane takes it and `pass` lets it through, and how many bytes
/// the head and the body behind it have. Without a connection: for who tests it from outside.
#[doc(hidden)]
pub fn forwarded(bytes: &[u8], rewrite: &Rewrite, pass: &Pass, out: &mut Vec<u8>) -> Option<(usize, u64)> {
    let mut fields = no_fields();
    let Read::Whole(head) = Head::read(bytes, &mut fields) else {
        return None;
    };
    let shape = head.shape();
    if shape.declined.is_some() || has_unusual_managed(&head, rewrite) {
        return None;
    }
    let id = RequestId::new();
    let context = ForwardContext {
        pass,
        has_managed: true,
        request_id: id.as_str(),
        forwarded_for: &HeaderValue::from_static("192.0.2.1"),
        told: None,
        trace: Trace::new(&id),
        is_tls: false,
        host: None,
    };
    outgoing::write(out, &head, rewrite, &context)?;
    Some((head.len(), shape.length?))
}

/// What the answer to this request says to browsers.
pub(super) fn sharing<'c>(client: &Client, cors: &'c Cors) -> Sharing<'c> {
    if cors.is_off() {
        return Sharing::Off;
    }
    let mut fields = no_fields();
    match Head::read(&client.input, &mut fields) {
        Read::Whole(head) => cors.sharing(head.values("origin")),
        Read::Part | Read::Unreadable => Sharing::Refused,
    }
}
