//! A request's head as the platform sees it.

use http::HeaderName;
use http::header::InvalidHeaderValue;

use super::response::AnswerHead as _;
use crate::edge::connection_context::Connection;
use crate::edge::forward::{FieldSink, FieldValue, FieldWriter, ForwardContext, Rewrite};
use crate::edge::request_head::RequestHead;
use crate::edge::request_state::RequestState;
use crate::edge::trace::Trace;

/// Writes the head of a request as the server of its last try is to see it; with `upgrade`, it asks for that protocol.
pub(super) fn write_head<H: RequestHead>(
    out: &mut Vec<u8>,
    head: &H,
    (connection, has_tls): (&Connection, bool),
    state: &RequestState,
    upgrade: Option<&[u8]>,
) -> Option<()> {
    let origin = state.origin.as_deref();
    let told = origin.and_then(|origin| origin.told.as_ref());
    let host = state.upstream().host(&state.tries).filter(|host| !host.keeps);
    let context = ForwardContext {
        pass: state.pass.as_ref()?,
        has_managed: state.facts.has_managed,
        request_id: state.request_id.as_str(),
        forwarded_for: origin.map_or(connection.forwarded_for(), |origin| &origin.forwarded_for),
        told,
        trace: state.trace.clone().unwrap_or_else(|| Trace::new(&state.request_id)),
        is_tls: told.and_then(|told| told.is_tls).unwrap_or(has_tls),
        host: host.map(|host| host.value),
    };
    write(out, head, &state.runtime.rewrite, &context)?;
    if let Some(protocol) = upgrade {
        out.truncate(out.len() - b"\r\n".len());
        out.field(b"Connection", b"Upgrade");
        out.field(b"Upgrade", protocol);
        out.end();
    }
    Some(())
}

/// Writes it as `rewrite` has it.
pub(super) fn write<H: RequestHead>(
    out: &mut Vec<u8>,
    head: &H,
    rewrite: &Rewrite,
    context: &ForwardContext<'_>,
) -> Option<()> {
    out.clear();
    for part in [head.method(), b" ", head.target(), b" HTTP/1.1\r\n"] {
        out.extend_from_slice(part);
    }
    rewrite.write(head, context, &mut Wire(out)).ok()?;
    out.extend_from_slice(b"\r\n");
    Some(())
}

/// Fields as they are sent to the platform.
struct Wire<'o>(&'o mut Vec<u8>);

impl FieldWriter for Wire<'_> {
    fn write(&mut self, name: &[u8], value: &[u8]) {
        self.0.field(name, value);
    }

    fn extend(&mut self, value: &[u8]) {
        self.0.truncate(self.0.len() - b"\r\n".len());
        self.0.extend_from_slice(value);
        self.0.extend_from_slice(b"\r\n");
    }
}

impl FieldSink for Wire<'_> {
    fn set(&mut self, name: &HeaderName, value: FieldValue<'_>) -> Result<(), InvalidHeaderValue> {
        self.0.field(name.as_str().as_bytes(), value.as_bytes());
        Ok(())
    }
}
