//! Answers of the gateway's own, as bytes.

use std::io::Write as _;

use pingora::protocols::http::date::get_cached_date;

use super::client::Client;
use super::request::sharing;
use super::response::{AnswerHead as _, share};
use super::taken::Taken;
use crate::auth::cors::Sharing;
use crate::auth::reply::Reply;
use crate::edge::request_id::REQUEST_ID;

/// Sends an answer of our own; whether it was taken.
pub(super) async fn send_reply(client: &mut Client, taken: &Taken, reply: &Reply, out: &mut Vec<u8>) -> bool {
    let sharing = sharing(client, &taken.state.runtime.cors);
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
    out.begin(reply.status, reason);
    for (name, value) in reply.fields(fastrand::u32(..)) {
        out.field(name.as_bytes(), value.as_bytes());
    }
    share(out, sharing, false);
    out.field(REQUEST_ID.as_bytes(), request_id.as_bytes());
    out.field(b"Date", get_cached_date().as_bytes());
    // A vector takes everything.
    let _ = write!(out, "Content-Length: {}\r\n", reply.body.len());
    if closes {
        out.field(b"Connection", b"close");
    }
    out.extend_from_slice(b"\r\n");
    if !is_head {
        out.extend_from_slice(reply.body.as_bytes());
    }
}
