//! Sending an answer of our own so that it arrives, and so that the connection survives it where it can.
//!
//! A body that nobody wants is read and thrown away: closing over unread bytes would make the kernel reset
//! the connection, and the client would see a broken pipe instead of its 401.

use std::time::Duration;

use bytes::Bytes;
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use tokio::time::{Instant, timeout_at};

use super::cors::share;
use super::request::Body;
use super::request_id::REQUEST_ID;
use crate::auth::cors::Cors;
use crate::auth::reply::Reply;

/// A client that has no window for an answer of ours, a hundred bytes, does not want it.
pub fn bound(session: &mut Session) {
    if session.is_http2() {
        session.set_write_timeout(Some(OWN_ANSWER_TIMEOUT));
    }
}

/// Sends `reply`. `body` is the body of the request, none of which has been read.
pub async fn send(
    session: &mut Session,
    reply: &Reply,
    cors: &Cors,
    request_id: &str,
    body: Body,
    expects_continue: bool,
) -> Result<()> {
    session.set_close_on_response_before_downstream_finish(false);
    session.set_total_drain_timeout(Some(DRAIN_TIME));
    // A client that waits for `100 Continue` may send its body after the answer or never: the two cannot
    // be told apart, so the connection ends (RFC 9110 §10.1.1).
    let is_small = match body {
        Body::Absent => return write(session, reply, cors, request_id).await,
        Body::Sized(length) => length <= DRAIN_BYTES,
        Body::Unsized => true,
    };
    // Before the answer: once it is there, the client may send its next request behind the body, and the
    // engine would take both for one; or it may stop short, which on HTTP/2 is an error that overtakes our answer.
    let is_drained = is_small && !expects_continue && drain(session, DRAIN_BYTES).await;
    if !is_drained {
        session.set_keepalive(None);
    }
    write(session, reply, cors, request_id).await?;
    // On HTTP/2 an end without the body read would lose the answer, and there is no next request to mistake.
    if !is_drained && (session.is_http2() || !expects_continue) {
        // For a while all the same, so that the answer is read before the end is seen.
        drain(session, u64::MAX).await;
    }
    Ok(())
}

/// Sends `reply` where there is no room to wait for anything: over HTTP/2 without its body, which could wait for a window; over
/// HTTP/1 the connection ends unless the request had no body.
pub async fn send_overload(
    session: &mut Session,
    reply: &Reply,
    cors: &Cors,
    request_id: &str,
) -> Result<()> {
    if !session.is_http2() && !session.is_body_empty() {
        session.set_keepalive(None);
    }
    if !session.is_http2() {
        return write(session, reply, cors, request_id).await;
    }
    let mut header = header(session, reply, cors, request_id)?;
    header.remove_header(&http::header::CONTENT_TYPE);
    header.set_content_length(0)?;
    session.write_response_header(Box::new(header), true).await
}

/// Sends `reply` as the last answer of its connection, in the middle of a body or behind it.
pub async fn send_last(session: &mut Session, reply: &Reply, cors: &Cors, request_id: &str) -> Result<()> {
    session.set_keepalive(None);
    write(session, reply, cors, request_id).await?;
    drain(session, u64::MAX).await;
    Ok(())
}

/// Writes header and body, and nothing else.
async fn write(session: &mut Session, reply: &Reply, cors: &Cors, request_id: &str) -> Result<()> {
    let mut header = header(session, reply, cors, request_id)?;
    header.set_content_length(reply.body.len())?;
    let is_empty = reply.status == 204;
    if is_empty {
        header.remove_header(&http::header::CONTENT_LENGTH);
        header.remove_header(&http::header::CONTENT_TYPE);
    }
    let head_only = is_empty || session.req_header().method == http::Method::HEAD;
    session.write_response_header(Box::new(header), head_only).await?;
    if !head_only {
        let body = Bytes::copy_from_slice(reply.body.as_bytes());
        session.write_response_body(Some(body), true).await?;
    }
    Ok(())
}

fn header(session: &Session, reply: &Reply, cors: &Cors, request_id: &str) -> Result<ResponseHeader> {
    let mut header = ResponseHeader::build(reply.status, Some(8))?;
    share(&mut header, session.req_header(), cors)?;
    for (name, value) in reply.fields(fastrand::u32(..)) {
        header.insert_header(name, &*value)?;
    }
    header.insert_header(REQUEST_ID, request_id)?;
    Ok(header)
}

/// Reads the request's body and throws it away. Was that all of it, within `limit` bytes and in time?
async fn drain(session: &mut Session, limit: u64) -> bool {
    let deadline = Instant::now() + DRAIN_TIME;
    let mut read = 0;
    while read <= limit {
        match timeout_at(deadline, session.read_request_body()).await {
            Ok(Ok(None)) => return true,
            Ok(Ok(Some(chunk))) => read += chunk.len() as u64,
            Ok(Err(_)) | Err(_) => return false,
        }
    }
    false
}

/// A refused body up to this size does not cost the connection.
const DRAIN_BYTES: u64 = 64 * 1024;

/// The longest time that a refused body is read.
const DRAIN_TIME: Duration = Duration::from_secs(2);

/// The longest that an answer of ours waits for a window.
const OWN_ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
