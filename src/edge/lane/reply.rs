//! Answers of the gateway's own, as bytes.

use std::io::Write as _;

use pingora::protocols::http::date::get_cached_date;

use super::client::Client;
use super::request::{Taken, Wire, sharing};
use super::response::share;
use crate::auth::cors::Sharing;
use crate::auth::reply::Reply;
use crate::edge::request_id::REQUEST_ID;

/// Sends an answer of our own; whether it was taken.
pub(super) async fn send_reply(client: &mut Client, taken: &Taken, reply: &Reply, out: &mut Vec<u8>) -> bool {
    let sharing = sharing(client, &taken.state);
    write_reply(out, reply, sharing, taken.state.request_id.as_str(), taken.is_head, taken.closes);
    client.send(out).await.is_ok()
}

/// Writes all of an answer; only its head where that is what was asked for.
fn write_reply(
    out: &mut Vec<u8>,
    reply: &Reply,
    sharing: Sharing<'_>,
    request_id: &str,
    is_head: bool,
    closes: bool,
) {
    let status = http::StatusCode::from_u16(reply.status);
    let reason = status.ok().and_then(|status| status.canonical_reason()).unwrap_or_default();
    out.clear();
    out.extend_from_slice(b"HTTP/1.1 ");
    // A vector takes everything.
    let _ = write!(out, "{} {reason}\r\n", reply.status);
    let mut wire = Wire(out);
    for (name, value) in reply.fields(fastrand::u32(..)) {
        wire.field(name.as_bytes(), value.as_bytes());
    }
    share(&mut wire, sharing, false);
    wire.field(REQUEST_ID.as_bytes(), request_id.as_bytes());
    wire.field(b"Date", get_cached_date().as_bytes());
    let _ = write!(wire.0, "Content-Length: {}\r\n", reply.body.len());
    if closes {
        wire.field(b"Connection", b"close");
    }
    out.extend_from_slice(b"\r\n");
    if !is_head {
        out.extend_from_slice(reply.body.as_bytes());
    }
}
