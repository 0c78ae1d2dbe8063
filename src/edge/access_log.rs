//! The line that the log has of each request.

use std::time::Duration;

use http::Version;

use super::request_state::RequestState;
use crate::auth::gate::Permit;
use crate::logging::{AccessLine, Sink, redact_text};

/// What the log shows of a request that its state does not hold.
pub(super) struct Exchange<'r> {
    pub(super) method: &'r str,
    pub(super) target: &'r [u8],
    pub(super) version: Version,
    pub(super) host: Option<&'r [u8]>,
    pub(super) user_agent: Option<&'r [u8]>,
    pub(super) bytes_received: usize,
    pub(super) bytes_sent: usize,
}

/// The line; everything in it is a copy.
pub(super) fn access_line(
    sink: &Sink,
    state: &RequestState,
    exchange: &Exchange<'_>,
    status: u16,
    elapsed: Duration,
) -> AccessLine {
    let permit = state.permit();
    let user = permit.map(|permit| permit.identity().user.as_str()).or(state.user.as_deref());
    let method = exchange.method;
    AccessLine {
        client: state.client.map(|client| client.to_string()),
        method: redact_text(method.get(..METHOD_BYTES).unwrap_or(method)),
        path: sink.redact_target(exchange.target),
        protocol: protocol(exchange.version),
        status,
        host: exchange.host.map(shown),
        user_agent: exchange.user_agent.map(shown),
        route: state.facts.route.as_str(),
        decision: state.facts.word,
        would_refuse: state.would_refuse(),
        user: user.map(str::to_owned),
        token_id: permit.map(Permit::id).or(state.token).map(|id| id.to_string()),
        duration_ms: millis(elapsed),
        platform_ms: state.platform_time.map(millis),
        bytes_received: exchange.bytes_received,
        bytes_sent: exchange.bytes_sent,
        server: state.tries.server().map(|server| state.upstream().name(server).to_owned()),
        tries: state.tries.count(),
        request_id: state.request_id.as_str().to_owned(),
        trace_id: state.trace.as_ref().and_then(|trace| trace.id.as_deref()).map(str::to_owned),
        fault: state.facts.fault,
    }
}

/// As a request line has it; HTTP/2 has none.
const fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}

/// The value of a field, cut where it is long.
fn shown(value: &[u8]) -> String {
    redact_text(&String::from_utf8_lossy(value.get(..VALUE_BYTES).unwrap_or(value)))
}

/// With three digits behind the point.
pub(super) fn millis(elapsed: Duration) -> f64 {
    elapsed.as_micros() as f64 / 1e3
}

/// Bytes of a method that the log shows; the longest one registered has 16.
const METHOD_BYTES: usize = 32;

/// Bytes of a field's value that the log shows: more than a browser sends.
const VALUE_BYTES: usize = 256;

/// What logs and metrics say where the client went away before it was answered.
pub(super) const CLIENT_CLOSED: u16 = 499;
