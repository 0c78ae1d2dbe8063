//! The phases of a request, in the order in which pingora calls them:
//!
//! 1. [`early_request_filter`](ProxyHttp::early_request_filter): settings that each header resets
//! 2. [`request_filter`](ProxyHttp::request_filter): ask [`decide`](super::decide::decide), and answer here or go on
//! 3. [`upstream_peer`](ProxyHttp::upstream_peer),
//!    [`connected_to_upstream`](ProxyHttp::connected_to_upstream): a server, for a pass only; again for each try
//! 4. [`upstream_request_filter`](ProxyHttp::upstream_request_filter): what the platform sees
//! 5. [`request_body_filter`](ProxyHttp::request_body_filter): the size of the body
//! 6. [`upstream_response_filter`](ProxyHttp::upstream_response_filter),
//!    [`response_filter`](ProxyHttp::response_filter): what the client sees
//! 7. [`fail_to_connect`](ProxyHttp::fail_to_connect), [`error_while_proxy`](ProxyHttp::error_while_proxy): another try, or none;
//!    [`fail_to_proxy`](ProxyHttp::fail_to_proxy): the platform's failures as answers
//! 8. [`logging`](ProxyHttp::logging): counters and one line

use std::os::fd::RawFd;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{EXPECT, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::protocols::Digest;
use pingora::proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, OrErr, Result};

use super::access_log::CLIENT_CLOSED;
use super::answer;
use super::connection_context as connection;
use super::cors::share;
use super::cut;
use super::decide::MALFORMED;
use super::errors::{ENDLESS_INTERIM, OVERLOADED, TOO_LARGE, TOO_SLOW, platform_fault, reply_to};
use super::expect_continue::waits_for_ever;
use super::forward::ForwardContext;
use super::gateway::{Gateway, Next};
use super::normalize::normalize;
use super::request_id::REQUEST_ID;
use super::request_state::RequestState;
use super::response::{self, MAX_INTERIM, is_event_stream};
use super::trace::Trace;
use super::upstream::is_verified;
use crate::auth::reply::{Malformed, Reply};
use crate::logging::{AccessLine, redact_text};
use crate::service::user_changes::Ended;

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = RequestState;

    fn new_ctx(&self) -> RequestState {
        self.begin()
    }

    /// The compression module that pingora adds by default has nothing to do here.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn early_request_filter(&self, session: &mut Session, state: &mut RequestState) -> Result<()> {
        if let Some(connection) = connection::of(session.digest()) {
            connection.header_read();
        }
        normalize(session.req_header_mut());
        if session.req_header().version == Version::HTTP_10 {
            session.set_ignore_info_resp(true);
        }
        state.has_unannounced_body = session.is_http2() && !session.is_body_empty();
        if self.shared.ending.has_begun() {
            session.set_keepalive(None);
        }
        // What comes behind a request waits until that one is answered (RFC 9112 §9.3.2). Without this the engine would give up
        // a request that the platform works on, for a line end behind it.
        session.set_pipelining_enabled(true);
        // An answer of our own is finished whatever its client does: a token is minted, or revoked.
        session.set_abort_on_close(false);
        session.set_read_timeout(Some(state.runtime.limits.body_timeout));
        // On HTTP/1 the socket has one, which counts what the client takes and not what the engine writes.
        if session.is_http2() {
            session.set_write_timeout(Some(state.runtime.limits.write_timeout));
        }
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, state: &mut RequestState) -> Result<bool> {
        let mut next = self.decision(session, state).await;
        if matches!(next, Ok(Next::Forward)) && waits_for_ever(session, state).await? {
            if let Some(change) = state.change.take() {
                change.not_sent().await;
            }
            let fault = Malformed::ExpectHttp2;
            (state.facts.word, state.facts.fault) = (MALFORMED, Some(fault.as_str()));
            next = Ok(Next::Answer(Reply::malformed(fault)));
        }
        match next {
            Ok(Next::Forward) => {
                // A client that has gone away ends its request at the platform, unless it may close its half and still want its answer.
                // A change of users goes on: it has an end that must be known.
                session.set_abort_on_close(!state.runtime.half_close && state.change.is_none());
                self.watch(session, state);
                Ok(false)
            }
            Ok(Next::Answer(reply)) => {
                // Nothing is done for it any more, however long its client takes.
                state.active = None;
                answer::bound(session);
                let (cors, id, facts) = (&state.runtime.cors, state.request_id.as_str(), state.facts);
                answer::send(session, &reply, cors, id, facts.body, facts.expects_continue).await?;
                Ok(true)
            }
            Err(overload) => {
                state.facts.word = overload.as_str();
                state.active = None;
                self.shared.metrics.overloaded(overload);
                answer::bound(session);
                let (cors, id) = (&state.runtime.cors, state.request_id.as_str());
                answer::send_overload(session, &Reply::overloaded(overload), cors, id).await?;
                Ok(true)
            }
        }
    }

    async fn upstream_peer(&self, _session: &mut Session, state: &mut RequestState) -> Result<Box<HttpPeer>> {
        // Nothing has waited since the request came; a try that follows another has.
        state.forwarded = Some(if state.tries.count() == 0 { state.started } else { Instant::now() });
        let RequestState { pass, tries, runtime, platform, .. } = state;
        let peer = pass.as_ref().and_then(|pass| runtime.platforms.get(*platform).peer(pass, tries));
        cut::sent_to(tries.server(), tries.count());
        peer.ok_or_else(|| Error::explain(ErrorType::InternalError, "no pass, or no server"))
    }

    async fn connected_to_upstream(
        &self,
        _session: &mut Session,
        _reused: bool,
        peer: &HttpPeer,
        _socket: RawFd,
        digest: Option<&Digest>,
        _state: &mut RequestState,
    ) -> Result<()> {
        if is_verified(peer, digest.and_then(|digest| digest.ssl_digest.as_deref())) {
            return Ok(());
        }
        Err(Error::explain(ErrorType::InvalidCert, "the certificate does not name the address").into_up())
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        state: &mut RequestState,
    ) -> Result<()> {
        let Some(pass) = &state.pass else {
            return Error::e_explain(ErrorType::InternalError, "no pass");
        };
        let Some(connection) = connection::of(session.digest()) else {
            return Error::e_explain(ErrorType::InternalError, "no connection");
        };
        let host = state.upstream().host(&state.tries);
        let origin = state.origin.as_deref();
        let told = origin.and_then(|origin| origin.told.as_ref());
        let has_tls = || session.digest().is_some_and(|digest| digest.ssl_digest.is_some());
        let context = ForwardContext {
            pass,
            has_managed: state.facts.has_managed,
            request_id: state.request_id.as_str(),
            forwarded_for: origin.map_or(connection.forwarded_for(), |origin| &origin.forwarded_for),
            told,
            trace: state.trace.clone().unwrap_or_else(|| Trace::new(&state.request_id)),
            is_tls: told.and_then(|told| told.is_tls).unwrap_or_else(has_tls),
            // HTTP/1.0 may have sent none, for which the engine puts an empty one.
            host: host
                .filter(|host| !host.keeps || request.headers.get(HOST).is_none_or(HeaderValue::is_empty))
                .map(|host| host.value),
        };
        let is_http2 = session.is_http2();
        if context.host.is_some() {
            forget_authority(request)?;
        }
        change_fields(request, |headers| {
            if is_http2 {
                // Its body has come, or there is none.
                headers.remove(EXPECT);
            }
            let rewritten = state.runtime.rewrite.apply(headers, context);
            rewritten.or_err(ErrorType::InternalError, "a field that is no value")
        })
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        state: &mut RequestState,
    ) -> Result<()> {
        cut::note(end_of_stream);
        // An HTTP/2 stream may end with an empty frame. The engine would write it as a last chunk and then write
        // the last chunk, and the platform would take the second for the beginning of another request.
        if end_of_stream && body.as_ref().is_some_and(Bytes::is_empty) {
            *body = None;
        }
        let Some(chunk) = body else {
            return Ok(());
        };
        state.body_read += chunk.len() as u64;
        if state.runtime.limits.body_bytes.is_some_and(|limit| state.body_read > limit) {
            return Error::e_explain(TOO_LARGE, "body larger than the limit");
        }
        if state.is_too_slow() {
            return Error::e_explain(TOO_SLOW, "body slower than the limit");
        }
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        _session: &mut Session,
        response: &mut ResponseHeader,
        state: &mut RequestState,
    ) -> Result<()> {
        let mut ended = Ended::Unchanged;
        state.answer_begun = true;
        state.platform_time = state.forwarded.map(|reading| reading.elapsed());
        if response.status.is_informational() {
            state.interim_answers += 1;
            if state.interim_answers > MAX_INTERIM {
                return Err(Error::explain(ENDLESS_INTERIM, "too many interim answers").into_up());
            }
        } else {
            let (status, elapsed) = (response.status.as_u16(), state.platform_time);
            let upstream = state.runtime.platforms.get(state.platform);
            upstream.answered(&mut state.tries, status, elapsed);
            if let Some(change) = state.change.take() {
                ended = change.answered(status).await;
            }
        }
        response::clean(response)?;
        response::tell(response, ended)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        state: &mut RequestState,
    ) -> Result<()> {
        // It may have begun before the process was asked to stop.
        if self.shared.ending.has_begun() {
            session.set_keepalive(None);
        }
        if is_event_stream(response) {
            cut::streams_events();
        }
        let status = response.status;
        let is_bare = session.req_header().method == http::Method::HEAD
            || status.is_informational()
            || matches!(status.as_u16(), 204 | 304);
        let length = if is_bare { Some(0) } else { response::length(response) };
        if session.req_header().version == Version::HTTP_10 {
            // Its client knows no chunks: a body of unknown length ends with the connection (RFC 9112 §6.1, §6.3).
            response.remove_header(&TRANSFER_ENCODING);
            if length.is_none() {
                session.set_keepalive(None);
            }
        }
        if let Err(overload) = state.take_for_response(length) {
            self.shared.metrics.overloaded(overload);
            return Error::e_explain(OVERLOADED, "no memory for the response");
        }
        if !status.is_informational() {
            share(response, session.req_header(), &state.runtime.cors)?;
        }
        response.insert_header(REQUEST_ID, state.request_id.as_str())
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        state: &mut RequestState,
        mut error: Box<Error>,
    ) -> Box<Error> {
        self.connection_failed(&mut error, state);
        error
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        state: &mut RequestState,
        reused: bool,
    ) -> Box<Error> {
        self.exchange_failed(&mut error, session, state, reused);
        error
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        state: &mut RequestState,
    ) -> FailToProxy {
        if let Some(change) = state.change.take() {
            change.failed().await;
        }
        let fault = state.fault.filter(|_| *error.esource() == ErrorSource::Upstream);
        state.fault = Some(fault.unwrap_or(error.etype().as_str()));
        if let Some(fault) = platform_fault(error) {
            self.shared.metrics.platform_failed(fault);
        }
        let reply = reply_to(error);
        let error_code = reply.as_ref().map_or(0, |reply| reply.status);
        let begun = session.response_written().is_some_and(|header| !header.status.is_informational());
        if let (Some(reply), false) = (reply, begun) {
            // A client that went away meanwhile does not want to know.
            let (cors, id) = (&state.runtime.cors, state.request_id.as_str());
            let _ = answer::send_last(session, &reply, cors, id).await;
        }
        FailToProxy { error_code, can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, state: &mut RequestState) {
        if let Some(connection) = connection::of(session.digest()) {
            connection.request_done();
        }
        let elapsed = state.started.elapsed();
        let status = match session.response_written() {
            Some(header) => header.status.as_u16(),
            None => CLIENT_CLOSED,
        };
        if session.response_written().is_some_and(is_event_stream) {
            self.shared.metrics.event_stream(state.facts.route, status, elapsed);
        } else {
            self.shared.metrics.request(state.facts.route, status, elapsed);
        }
        self.shared.metrics.bytes(session.body_bytes_read(), session.body_bytes_sent());
        if self.shared.sink.writes_access() {
            let line = self.access_line(session, state, status, elapsed);
            let fault = state.fault.or(error.map(|error| error.etype().as_str())).or(line.fault);
            self.shared.sink.access(&AccessLine { fault, ..line });
        }
    }

    /// Ours is the access line, which shows no secret.
    fn suppress_error_log(&self, _session: &Session, _state: &RequestState, _error: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _state: &RequestState,
        _error: &Error,
        _context: ProxyWarnLogContext,
    ) -> bool {
        true
    }

    /// pingora's own would show the query.
    fn request_summary(&self, session: &Session, state: &RequestState) -> String {
        let request = session.req_header();
        let (method, target) =
            (redact_text(request.method.as_str()), self.shared.sink.redact_target(request.raw_path()));
        format!("{method} {target} {}", state.request_id.as_str())
    }
}

/// Takes the authority out of a target: the `Host` field has another one now.
fn forget_authority(request: &mut RequestHeader) -> Result<()> {
    if request.uri.authority().is_none() {
        return Ok(());
    }
    let target = request.raw_path().to_vec();
    request.set_raw_path(&target)
}

/// Has the fields of a request changed as one table. pingora's own way keeps a second table of how each name was spelt,
/// which costs as much again; names are lower case on HTTP/2 too, so a platform must read them so.
fn change_fields(
    request: &mut RequestHeader,
    change: impl FnOnce(&mut HeaderMap) -> Result<()>,
) -> Result<()> {
    let not_text = (!request.raw_path_is_utf8()).then(|| request.raw_path().to_vec());
    let empty = RequestHeader::from(http::Request::new(()).into_parts().0);
    let mut parts = Parts::from(std::mem::replace(request, empty));
    change(&mut parts.headers)?;
    *request = parts.into();
    not_text.map_or(Ok(()), |target| request.set_raw_path(&target))
}
