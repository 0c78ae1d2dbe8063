//! A stream as the platform's side asks for it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::HOST;
use http::{HeaderValue, Version};
use pingora::protocols::http::v2::server::HttpSession;

use crate::edge::connection_context::Connection;
use crate::edge::deadline::Deadline;
use crate::edge::lane::outgoing::write_head;
use crate::edge::lane::platform::Asker;
use crate::edge::request_head::{EngineHead, RequestHead};
use crate::edge::request_state::RequestState;

pub(super) fn head(session: &HttpSession) -> EngineHead<'_> {
    let request = session.req_header();
    EngineHead {
        method: request.method.as_str(),
        target: request.raw_path(),
        version: request.version,
        headers: &request.headers,
        raw: None,
        has_unannounced_body: !session.is_body_empty(),
    }
}

/// The host that a stream is for: `:authority`, or the one `Host` (RFC 9113 §8.3.1).
pub(super) fn host(session: &HttpSession) -> Option<&[u8]> {
    let request = session.req_header();
    let mut hosts = request.headers.get_all(HOST).iter().map(HeaderValue::as_bytes);
    match request.uri.authority() {
        Some(authority) => Some(authority.as_str().as_bytes()),
        None => hosts.next().filter(|_| hosts.next().is_none()),
    }
}

/// A stream that the lane serves.
pub(super) struct Stream {
    pub(super) session: HttpSession,
    pub(super) connection: Arc<Connection>,
    /// Of the request.
    pub(super) body: Vec<u8>,
    pub(super) deadline: Deadline,
    pub(super) has_tls: bool,
}

impl Asker for Stream {
    fn write_request(&self, out: &mut Vec<u8>, state: &RequestState) -> Option<()> {
        let head = OneHost { head: head(&self.session), host: host(&self.session)? };
        write_head(out, &head, (&self.connection, self.has_tls), state, None)
    }

    fn body(&self) -> &[u8] {
        &self.body
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.session.idle()).poll(cx).map(drop)
    }

    fn deadline(&mut self) -> &mut Deadline {
        &mut self.deadline
    }
}

/// A head as HTTP/1.1 has it: with one `Host`, and without what is for one connection.
struct OneHost<'h> {
    head: EngineHead<'h>,
    host: &'h [u8],
}

impl RequestHead for OneHost<'_> {
    fn method(&self) -> &[u8] {
        RequestHead::method(&self.head)
    }

    fn target(&self) -> &[u8] {
        RequestHead::target(&self.head)
    }

    fn version(&self) -> Version {
        Version::HTTP_11
    }

    fn header_bytes(&self) -> usize {
        self.head.header_bytes()
    }

    fn field_count(&self) -> usize {
        self.fields().count()
    }

    fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let others = self.head.fields().filter(|(name, _)| !DROPPED.contains(name));
        std::iter::once((&b"host"[..], self.host)).chain(others)
    }
}

/// Fields that the platform is not told.
const DROPPED: [&[u8]; 4] = [b"host", b"te", b"trailer", b"expect"];
