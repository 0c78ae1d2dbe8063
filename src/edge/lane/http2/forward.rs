//! A stream that goes on to the platform, and its answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use pingora::http::ResponseHeader;
use tokio::time::timeout;

use super::stream::{Stream, head};
use crate::auth::reply::Reply;
use crate::edge::lane::buffers::consume;
use crate::edge::lane::chunks::Chunks;
use crate::edge::lane::exchange::{Answer, Came, Ended, begin, keep, read_head, reply_to};
use crate::edge::lane::platform::{Failed, Platform};
use crate::edge::lane::resources::{LONGEST_BODY, Resources, Work};
use crate::edge::lane::response::{AnswerHead, Body, share};
use crate::edge::lane::taken::Taken;
use crate::edge::request_head::RequestHead as _;
use crate::edge::request_id::REQUEST_ID;
use crate::metrics::TryFault;

/// Serves a stream that goes on to the platform.
pub(super) async fn forward(
    resources: &Resources,
    stream: &mut Stream,
    taken: &mut Taken,
    work: &mut Work,
    ended: &mut Ended,
) {
    let Err(failed) = exchange(resources, stream, taken, work, ended).await else {
        return;
    };
    let reply = reply_to(resources, taken, &failed);
    if ended.status != 0 {
        // What has begun can only end.
        stream.session.shutdown();
    } else if let Some(reply) = reply {
        answer(stream, taken, &reply, ended).await;
    }
}

async fn exchange(
    resources: &Resources,
    stream: &mut Stream,
    taken: &mut Taken,
    work: &mut Work,
    ended: &mut Ended,
) -> Result<(), Failed> {
    read_body(stream, taken, taken.state.runtime.limits.body_timeout).await?;
    let mut platform = begin(resources, stream, taken, work).await?;
    let runtime = Arc::clone(&taken.state.runtime);
    let mut fields = Fields(None);
    let sharing = runtime.cors.sharing(head(&stream.session).values("origin"));
    let Answer { body, is_event_stream, status } = loop {
        // Interim answers end here: the engine's session has none.
        let came = read_head(stream, taken, &mut platform, &mut work.came, sharing, &mut fields).await?;
        if let Came::Head(answer) = came {
            break answer;
        }
    };
    let held = match body {
        Body::Empty => Some(0),
        Body::Sized(length) => Some(length),
        Body::Chunked | Body::UntilClose => None,
    };
    if let Err(overload) = taken.state.take_for_response(held) {
        resources.gateway.shared.metrics.overloaded(overload);
        answer(stream, taken, &Reply::overloaded(overload), ended).await;
        return Ok(());
    }
    let header = fields.0.ok_or(Failed::Nowhere)?;
    let is_empty = body == Body::Empty;
    stream.session.write_response_header(header, is_empty).map_err(|_| Failed::Client)?;
    (ended.status, ended.is_event_stream) = (status, is_event_stream);
    if !is_empty {
        relay(resources, stream, taken, &mut platform, work, body, &mut ended.sent).await?;
    }
    keep(resources, platform, &work.came);
    Ok(())
}

/// Sends the content of an answer as it comes, without what frames it over HTTP/1.
async fn relay(
    resources: &Resources,
    stream: &mut Stream,
    taken: &mut Taken,
    platform: &mut Platform,
    work: &mut Work,
    body: Body,
    sent: &mut u64,
) -> Result<(), Failed> {
    let mut left = if let Body::Sized(length) = body { length } else { u64::MAX };
    let mut chunks = Chunks::bare();
    if left > work.came.capacity() as u64 {
        resources.enlarge(&mut work.came);
    }
    loop {
        let (consumed, kept, is_done) = if body == Body::Chunked {
            let Ok(seen) = chunks.read(&mut work.came) else {
                return Err(Failed::Try(TryFault::Malformed).noted(taken));
            };
            (seen.consumed, seen.kept, seen.is_done)
        } else {
            let count = work.came.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            left -= count as u64;
            (count, count, left == 0)
        };
        if kept > 0 || is_done {
            let content = Bytes::copy_from_slice(work.came.get(..kept).unwrap_or_default());
            stream.session.write_body(content, is_done).await.map_err(|_| Failed::Client)?;
            *sent += kept as u64;
        }
        consume(&mut work.came, consumed);
        if is_done {
            return Ok(());
        }
        let more = platform.more(stream, &mut work.came).await.map_err(|failed| failed.noted(taken))?;
        if more == 0 {
            if body != Body::UntilClose {
                return Err(Failed::Try(TryFault::Closed).noted(taken));
            }
            return stream.session.finish().map_err(|_| Failed::Client);
        }
    }
}

/// Reads the body of the request, all of it.
async fn read_body(stream: &mut Stream, taken: &mut Taken, limit: Duration) -> Result<(), Failed> {
    if stream.session.is_body_empty() {
        return Ok(());
    }
    loop {
        match timeout(limit, stream.session.read_body_bytes()).await {
            Ok(Ok(Some(piece))) => stream.body.extend_from_slice(&piece),
            Ok(Ok(None)) => return Ok(()),
            Ok(Err(_)) => return Err(Failed::Client),
            Err(_) => return Err(Failed::Body),
        }
        taken.state.body_read = stream.body.len() as u64;
        // The session holds it to its length.
        if stream.body.len() > LONGEST_BODY {
            return Err(Failed::Client);
        }
        if !stream.session.is_body_done() && taken.state.is_too_slow() {
            return Err(Failed::Body);
        }
    }
}

/// Sends an answer of our own.
async fn answer(stream: &mut Stream, taken: &Taken, reply: &Reply, ended: &mut Ended) {
    let cors = &taken.state.runtime.cors;
    let sharing = cors.sharing(head(&stream.session).values("origin"));
    let mut fields = Fields(None);
    fields.begin(reply.status, "");
    for (name, value) in reply.fields(fastrand::u32(..)) {
        fields.field(name.as_bytes(), value.as_bytes());
    }
    share(&mut fields, sharing, false);
    fields.field(REQUEST_ID.as_bytes(), taken.state.request_id.as_str().as_bytes());
    fields.field(b"content-length", reply.body.len().to_string().as_bytes());
    let Some(header) = fields.0 else { return };
    ended.status = reply.status;
    if stream.session.write_response_header(header, taken.is_head).is_err() || taken.is_head {
        return;
    }
    // A client that has no window for an answer of ours, a hundred bytes, does not want it.
    stream.session.set_write_timeout(Some(OWN_ANSWER_TIMEOUT));
    let body = Bytes::copy_from_slice(reply.body.as_bytes());
    if stream.session.write_body(body, true).await.is_ok() {
        ended.sent = reply.body.len() as u64;
    }
}

/// The head of an answer as the session takes it.
struct Fields(Option<Box<ResponseHeader>>);

impl AnswerHead for Fields {
    fn begin(&mut self, status: u16, _reason: &str) {
        self.0 = ResponseHeader::build_no_case(status, Some(16)).ok().map(Box::new);
    }

    fn field(&mut self, name: &[u8], value: &[u8]) {
        let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) else {
            return;
        };
        if let Some(header) = &mut self.0 {
            // As many as the parser takes fit.
            let _ = header.append_header(name, value);
        }
    }

    fn end(&mut self) {}
}

/// The longest that an answer of ours waits for a window.
const OWN_ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
