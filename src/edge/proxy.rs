//! The phases of a request, in the order in which pingora calls them:
//!
//! 1. [`early_request_filter`](ProxyHttp::early_request_filter): settings that each header resets
//! 2. [`request_filter`](ProxyHttp::request_filter): decide; answer here, or note the [`Pass`]
//! 3. [`upstream_peer`](ProxyHttp::upstream_peer): a server, for a pass only
//! 4. [`upstream_request_filter`](ProxyHttp::upstream_request_filter): what the platform sees
//! 5. [`request_body_filter`](ProxyHttp::request_body_filter): the size of the body
//! 6. [`upstream_response_filter`](ProxyHttp::upstream_response_filter),
//!    [`response_filter`](ProxyHttp::response_filter): what the client sees
//! 7. [`fail_to_proxy`](ProxyHttp::fail_to_proxy): the platform's failures as answers
//! 8. [`logging`](ProxyHttp::logging): counters and one line

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderMap;
use http::request::Parts;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, OrErr, Result};

use super::admission::ActiveRequest;
use super::answer;
use super::client::{Origin, origin};
use super::connection;
use super::cut::{self, Cut};
use super::quota::Reserved;
use super::request::{Body, Wire, read_framing, screen};
use super::request_id::{REQUEST_ID, RequestId};
use super::rewrite::{Forwarded, Rewrite};
use super::trace::Trace;
use super::upstream::Upstream;
use crate::auth::client_address::ClientAddress;
use crate::auth::gate::{Gate, Moment, Pass, Permit};
use crate::auth::policy::{PathPattern, Policy, Route, split_target};
use crate::auth::reply::{Malformed, Overload, PlatformFault, Reply};
use crate::auth::token::TokenId;
use crate::clock::Clock;
use crate::config::{ForwardedFields, Limits, Networks};
use crate::logging::{AccessLine, Sink, redact_text};
use crate::metrics::{Decision, InFlight, Metrics, RouteLabel, Span};
use crate::service::token_endpoint::{Call, TokenEndpoint};
use crate::store::read_gap::ReadGap;

/// The gateway as pingora sees it. Each worker has one of its own.
#[derive(Clone)]
pub struct Gateway {
    /// Keys, rules and standing.
    pub gate: Arc<Gate>,
    /// Public routes.
    pub policy: Policy,
    /// The token endpoint.
    pub tokens: TokenEndpoint,
    /// The platform's servers.
    pub upstream: Arc<Upstream>,
    /// What they see of a request.
    pub rewrite: Rewrite,
    /// Proxies in front whose word counts.
    pub proxies: Arc<Networks>,
    /// In which fields they say who the client is.
    pub forwarded_fields: ForwardedFields,
    /// How long requests of some routes may take.
    pub request_durations: Vec<(PathPattern, Option<Duration>)>,
    /// Reads the clock.
    pub clock: Clock,
    /// After a pause the first requests wait for what was revoked meanwhile.
    pub gap: Arc<ReadGap>,
    /// Sizes and times.
    pub limits: Limits,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Log lines.
    pub sink: Sink,
    /// Set once the process is asked to stop: each answer is then the last of its connection.
    pub stopping: Arc<AtomicBool>,
}

/// What is known of one request; pingora hands it from phase to phase.
pub struct Ctx {
    started: Instant,
    request_id: RequestId,
    route: RouteLabel,
    decision: &'static str,
    pass: Option<Pass>,
    user: Option<Box<str>>,
    token: Option<TokenId>,
    has_unannounced_body: bool,
    body: Body,
    body_read: u64,
    expects_continue: bool,
    has_managed: bool,
    first_server: usize,
    tries: usize,
    forwarded: Option<Instant>,
    platform_time: Option<Duration>,
    fault: Option<&'static str>,
    client: Option<ClientAddress>,
    /// Where a trusted proxy says that it comes from.
    origin: Option<Box<Origin>>,
    /// The trace that a trusted proxy names.
    trace: Option<Trace>,
    /// What it takes of the limits of all requests together.
    reserved: Option<Reserved>,
    active: Option<ActiveRequest>,
    is_overload: bool,
    _in_flight: InFlight,
}

impl Ctx {
    /// From now on the connection is kept for this request.
    fn begin(&mut self) {
        self.active = connection::current().map(|connection| connection.active_request());
    }
}

/// What is to be done with a request.
enum Verdict {
    Forward(Pass),
    Answer(Reply),
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Ctx;

    fn new_ctx(&self) -> Ctx {
        Ctx {
            started: Instant::now(),
            request_id: RequestId::new(),
            route: RouteLabel::Refused,
            decision: "malformed",
            pass: None,
            user: None,
            token: None,
            has_unannounced_body: false,
            body: Body::Absent,
            body_read: 0,
            expects_continue: false,
            has_managed: false,
            first_server: 0,
            tries: 0,
            forwarded: None,
            platform_time: None,
            fault: None,
            client: None,
            origin: None,
            trace: None,
            reserved: None,
            active: None,
            is_overload: false,
            _in_flight: self.metrics.begin(),
        }
    }

    /// The compression module that pingora adds by default has nothing to do here.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn early_request_filter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<()> {
        connection::header_read();
        ctx.has_unannounced_body = session.is_http2() && !session.is_body_empty();
        if self.stopping.load(Ordering::Relaxed) {
            session.set_keepalive(None);
        }
        // What comes behind a request waits until that one is answered (RFC 9112 §9.3.2). Without this the engine would give up
        // a request that the platform works on, for a line end behind it.
        session.set_pipelining_enabled(true);
        // A client may close its half once it has asked, and still wants its answer.
        session.set_abort_on_close(false);
        session.set_read_timeout(Some(self.limits.body_timeout));
        // On HTTP/1 the socket has one, which counts what the client takes and not what the engine writes.
        if session.is_http2() {
            session.set_write_timeout(Some(self.limits.write_timeout));
        }
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
        match self.decide(session, ctx).await {
            Verdict::Forward(pass) => {
                ctx.begin();
                ctx.pass = Some(pass);
                self.watch(session, ctx);
                Ok(false)
            }
            Verdict::Answer(reply) => {
                // Nothing is done for it any more, however long its client takes.
                ctx.active = None;
                if session.is_http2() {
                    session.set_write_timeout(Some(OWN_ANSWER_TIMEOUT));
                }
                let id = ctx.request_id.as_str();
                if ctx.is_overload {
                    return answer::send_overload(session, &reply, id).await.map(|()| true);
                }
                answer::send(session, &reply, id, ctx.body, ctx.expects_continue).await?;
                Ok(true)
            }
        }
    }

    async fn upstream_peer(&self, _session: &mut Session, ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
        let peer = ctx.pass.as_ref().and_then(|pass| {
            if ctx.tries == 0 {
                ctx.first_server = self.upstream.next();
            }
            self.upstream.peer(pass, ctx.first_server, ctx.tries)
        });
        // Nothing has waited since the request came; a try that follows another has.
        ctx.forwarded = Some(if ctx.tries == 0 { ctx.started } else { Instant::now() });
        ctx.tries += 1;
        peer.ok_or_else(|| Error::explain(ErrorType::InternalError, "no pass, or no server"))
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        let Some(pass) = &ctx.pass else {
            return Error::e_explain(ErrorType::InternalError, "no pass");
        };
        let Some(connection) = connection::current() else {
            return Error::e_explain(ErrorType::InternalError, "no connection");
        };
        let origin = ctx.origin.as_deref();
        let told = origin.and_then(|origin| origin.told.as_ref());
        let is_tls = told.and_then(|told| told.is_tls);
        let trace = ctx.trace.clone().unwrap_or_else(|| Trace::new(&ctx.request_id));
        let forwarded = Forwarded {
            pass,
            has_managed: ctx.has_managed,
            request_id: ctx.request_id.as_str(),
            forwarded_for: origin.map_or(connection.forwarded_for(), |origin| &origin.forwarded_for).clone(),
            forwarded: told.and_then(|told| told.forwarded.clone()),
            trusts: connection.is_trusted().then_some(self.forwarded_fields),
            trace_parent: trace.parent,
            keeps_trace_state: trace.keeps_state,
            is_tls: is_tls
                .unwrap_or_else(|| session.digest().is_some_and(|digest| digest.ssl_digest.is_some())),
        };
        change_fields(request, |headers| {
            let rewritten = self.rewrite.apply(headers, forwarded);
            rewritten.or_err(ErrorType::InternalError, "a field that is no value")
        })
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end_of_stream: bool,
        ctx: &mut Ctx,
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
        ctx.body_read += chunk.len() as u64;
        if self.limits.body_bytes.is_some_and(|limit| ctx.body_read > limit) {
            return Error::e_explain(TOO_LARGE, "body larger than the limit");
        }
        if let Some(rate) = self.limits.body_min_rate {
            let elapsed = ctx.started.elapsed();
            if elapsed > BODY_GRACE && ctx.body_read < rate.saturating_mul(elapsed.as_secs()) {
                return Error::e_explain(TOO_SLOW, "body slower than the limit");
            }
        }
        Ok(())
    }

    async fn upstream_response_filter(
        &self,
        _session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        ctx.platform_time = ctx.forwarded.map(|moment| moment.elapsed());
        // Nobody asked for another protocol; the client would wait for an answer for ever.
        if response.status == http::StatusCode::SWITCHING_PROTOCOLS {
            return Err(Error::explain(ErrorType::InvalidHTTPHeader, "unexpected 101").into_up());
        }
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        // It may have begun before the process was asked to stop.
        if self.stopping.load(Ordering::Relaxed) {
            session.set_keepalive(None);
        }
        let status = response.status;
        let is_bare = session.req_header().method == http::Method::HEAD
            || status.is_informational()
            || matches!(status.as_u16(), 204 | 304);
        let held = if is_bare { 0 } else { held_of(content_length(response)) };
        if held > SMALL_BODY
            && let Err(overload) = take(ctx, Overload::Memory, held)
        {
            self.metrics.overloaded(overload);
            return Error::e_explain(OVERLOADED, "no memory for the response");
        }
        response.insert_header(REQUEST_ID, ctx.request_id.as_str())
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut Ctx,
        mut error: Box<Error>,
    ) -> Box<Error> {
        // Nothing was sent, so even a POST may go to the next server.
        error.set_retry(ctx.tries < self.upstream.servers().min(MAX_TRIES));
        error
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, ctx: &mut Ctx) -> FailToProxy {
        ctx.fault = Some(error.etype().as_str());
        if let Some(fault) = platform_fault(error) {
            self.metrics.platform_failed(fault);
        }
        let reply = reply_to(error);
        let error_code = reply.as_ref().map_or(0, |reply| reply.status);
        let begun = session.response_written().is_some_and(|header| !header.status.is_informational());
        if let (Some(reply), false) = (reply, begun) {
            // A client that went away meanwhile does not want to know.
            let _ = answer::send_last(session, &reply, ctx.request_id.as_str()).await;
        }
        FailToProxy { error_code, can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, ctx: &mut Ctx) {
        connection::request_done();
        let elapsed = ctx.started.elapsed();
        let status = match session.response_written() {
            Some(header) => header.status.as_u16(),
            None => CLIENT_CLOSED,
        };
        self.metrics.request(ctx.route, status, elapsed);
        self.metrics.bytes(session.body_bytes_read(), session.body_bytes_sent());
        if let Some(elapsed) = ctx.platform_time {
            self.metrics.span(Span::Platform, elapsed);
        }
        if self.sink.writes_access() {
            let fault = ctx.fault.or(error.map(|error| error.etype().as_str()));
            self.sink.access(&AccessLine { fault, ..self.access_line(session, ctx, status, elapsed) });
        }
    }

    /// Ours is the access line, which shows no secret.
    fn suppress_error_log(&self, _session: &Session, _ctx: &Ctx, _error: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _ctx: &Ctx,
        _error: &Error,
        _context: ProxyWarnLogContext,
    ) -> bool {
        true
    }

    /// pingora's own would show the query.
    fn request_summary(&self, session: &Session, ctx: &Ctx) -> String {
        let request = session.req_header();
        let (method, target) =
            (redact_text(request.method.as_str()), self.sink.redact_target(request.raw_path()));
        format!("{method} {target} {}", ctx.request_id.as_str())
    }
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

impl Gateway {
    /// The whole path of a request, top to bottom: form, route, token.
    async fn decide(&self, session: &Session, ctx: &mut Ctx) -> Verdict {
        let request = session.req_header();
        let raw = session.as_downstream().as_http1().map(|http1| http1.get_headers_raw_bytes());
        let wire = Wire {
            version: request.version,
            raw: raw.as_deref(),
            has_unannounced_body: ctx.has_unannounced_body,
        };
        self.read_origin(&request.headers, ctx);
        let fields = request.headers.iter().map(|(name, value)| name.as_str().len() + value.len());
        // On HTTP/1 the connection has a small header's part, and took a large one's.
        let bytes =
            if wire.raw.is_some() { 0 } else { STREAM_BYTES + HEADER_COPIES * fields.sum::<usize>() as u64 };
        if let Err(overload) =
            take(ctx, Overload::Requests, 1).and_then(|()| take(ctx, Overload::Memory, bytes))
        {
            ctx.body = read_framing(&request.headers, wire).unwrap_or(ENDLESS);
            return self.overloaded(ctx, overload);
        }
        let screened = match screen(&request.headers, wire, self.rewrite.managed(), &self.limits) {
            Ok(screened) => screened,
            Err(fault) => {
                ctx.body = body_after(fault, request, wire);
                return Verdict::Answer(Reply::malformed(fault));
            }
        };
        ctx.body = screened.body;
        ctx.expects_continue = screened.expects_continue;
        ctx.has_managed = screened.has_managed;
        let has_body = screened.body != Body::Absent;
        let route = self.policy.classify(request.method.as_str(), request.raw_path(), has_body);
        match route {
            Err(error) => Verdict::Answer(Reply::malformed(Malformed::Target(error))),
            Ok(Route::Subtree) => {
                ctx.route = RouteLabel::Endpoint;
                ctx.decision = "not_found";
                Verdict::Answer(Reply::not_found())
            }
            Ok(Route::Endpoint { organization }) => {
                ctx.route = RouteLabel::Endpoint;
                ctx.begin();
                self.moment().await;
                let served = self.tokens.serve(Call {
                    method: request.method.as_str(),
                    query: split_target(request.raw_path()).1,
                    authorization: request
                        .headers
                        .get_all(http::header::AUTHORIZATION)
                        .iter()
                        .map(http::HeaderValue::as_bytes)
                        .collect(),
                    token: screened.token,
                    organization,
                    client: ctx.client,
                });
                let served = served.await;
                ctx.decision = served.as_str();
                if let Some((action, outcome)) = served.counted {
                    self.metrics.token_request(action, outcome);
                }
                ctx.user = served.user;
                ctx.token = served.token;
                Verdict::Answer(served.reply)
            }
            Ok(Route::Public(pass)) if screened.token != crate::auth::gate::TokenField::Alias => {
                ctx.route = RouteLabel::Public;
                if let Err(overload) = reserve(ctx) {
                    return self.overloaded(ctx, overload);
                }
                self.decided(ctx, Decision::Public);
                Verdict::Forward(Pass::Public(pass))
            }
            Ok(Route::Public(_) | Route::Protected) => {
                ctx.route = RouteLabel::Protected;
                let moment = self.moment().await;
                match self.gate.admit(screened.token, moment) {
                    Ok(permit) => {
                        if let Err(overload) = reserve(ctx) {
                            return self.overloaded(ctx, overload);
                        }
                        self.decided(ctx, Decision::Admitted);
                        Verdict::Forward(Pass::Permit(permit))
                    }
                    Err(denial) => {
                        self.decided(ctx, Decision::Denied(denial));
                        Verdict::Answer(Reply::denied(denial))
                    }
                }
            }
        }
    }

    /// Where the request comes from: its connection's other end, or whom a trusted proxy names.
    fn read_origin(&self, headers: &HeaderMap, ctx: &mut Ctx) {
        let Some(connection) = connection::current() else {
            return;
        };
        if !connection.is_trusted() {
            ctx.client = Some(connection.peer());
            ctx.reserved = Some(connection.reserved());
            return;
        }
        let mut origin = origin(connection.peer(), headers, &self.proxies, self.forwarded_fields);
        if let Some(id) = origin.told.as_mut().and_then(|told| told.request_id.take()) {
            ctx.request_id.give(id);
        }
        ctx.trace = Some(Trace::continued(headers, &ctx.request_id));
        ctx.client = Some(origin.client);
        ctx.reserved = Some(connection.reserved_for(origin.client.ip));
        ctx.origin = Some(Box::new(origin));
    }

    /// The answer where a limit of all requests together is reached.
    fn overloaded(&self, ctx: &mut Ctx, overload: Overload) -> Verdict {
        ctx.decision = overload.as_str();
        ctx.is_overload = true;
        self.metrics.overloaded(overload);
        Verdict::Answer(Reply::overloaded(overload))
    }

    /// Both clocks, now. After a pause of the process this waits for what was revoked meanwhile.
    async fn moment(&self) -> Moment {
        let moment = self.clock.moment();
        if !self.gap.is_open(moment.uptime) {
            return moment;
        }
        self.gap.wait(moment.uptime).await;
        self.clock.moment()
    }

    /// What the log says of a request; everything in it is a copy.
    fn access_line(&self, session: &Session, ctx: &Ctx, status: u16, elapsed: Duration) -> AccessLine {
        let permit = match &ctx.pass {
            Some(Pass::Permit(permit)) => Some(permit),
            _ => None,
        };
        let user = permit.map(|permit| permit.identity().user.as_str()).or(ctx.user.as_deref());
        let request = session.req_header();
        let method = request.method.as_str();
        AccessLine {
            request_id: ctx.request_id.as_str().to_owned(),
            client: ctx.client.map(|client| client.to_string()),
            trace_id: ctx.trace.as_ref().and_then(|trace| trace.id.as_deref()).map(str::to_owned),
            method: redact_text(method.get(..METHOD_BYTES).unwrap_or(method)),
            path: self.sink.redact_target(request.raw_path()),
            status,
            route: ctx.route.as_str(),
            decision: ctx.decision,
            user: user.map(str::to_owned),
            token_id: permit.map(Permit::id).or(ctx.token).map(|id| id.to_string()),
            duration_ms: millis(elapsed),
            platform_ms: ctx.platform_time.map(millis),
            bytes_received: session.body_bytes_read(),
            bytes_sent: session.body_bytes_sent(),
            fault: None,
        }
    }

    /// Has a request that is forwarded ended, and logged then, if its body stands still over HTTP/2 or if it takes too long.
    fn watch(&self, session: &Session, ctx: &Ctx) {
        let duration = self.limits.has_deadlines.then(|| {
            let (path, _) = split_target(session.req_header().raw_path());
            let own = self.request_durations.iter().find(|(pattern, _)| pattern.matches(path));
            own.map_or(self.limits.request_duration, |(_, limit)| *limit)
        });
        let duration = duration.flatten();
        if duration.is_none() && !ctx.has_unannounced_body {
            return;
        }
        let line = self.access_line(session, ctx, 0, Duration::ZERO);
        let (sink, metrics) = (self.sink.clone(), Arc::clone(&self.metrics));
        let (route, started) = (ctx.route, ctx.started);
        cut::watch(move |reason| {
            let (status, fault) = match reason {
                Cut::BodyStalled => (408, "the body stood still"),
                Cut::Overdue => (504, "the request took too long"),
            };
            let elapsed = started.elapsed();
            metrics.request(route, status, elapsed);
            sink.access(&AccessLine { status, fault: Some(fault), duration_ms: millis(elapsed), ..line });
        });
        if ctx.has_unannounced_body {
            cut::body_begins();
        }
        if let Some(duration) = duration {
            cut::end_after(duration);
        }
    }

    fn decided(&self, ctx: &mut Ctx, decision: Decision) {
        ctx.decision = decision.as_str();
        self.metrics.decision(decision);
    }
}

/// What the platform did wrong, if it did.
fn platform_fault(error: &Error) -> Option<PlatformFault> {
    match (error.esource(), error.etype()) {
        (
            ErrorSource::Upstream,
            ErrorType::ConnectTimedout
            | ErrorType::TLSHandshakeTimedout
            | ErrorType::ReadTimedout
            | ErrorType::WriteTimedout,
        ) => Some(PlatformFault::TimedOut),
        (ErrorSource::Upstream, _) => Some(PlatformFault::Unreachable),
        _ => None,
    }
}

/// What the client is told; nothing if it is the one that failed.
fn reply_to(error: &Error) -> Option<Reply> {
    let downstream_gone = matches!(
        error.etype(),
        ErrorType::WriteError
            | ErrorType::ReadError
            | ErrorType::ConnectionClosed
            | ErrorType::WriteTimedout
            // Bytes behind the body, while the platform works: no answer is better than a false 400.
            | ErrorType::ConnectError
    );
    match (error.esource(), error.etype()) {
        (_, kind) if *kind == TOO_LARGE => Some(Reply::malformed(Malformed::Body)),
        (_, kind) if *kind == TOO_SLOW => Some(Reply::malformed(Malformed::BodyTimeout)),
        (_, kind) if *kind == OVERLOADED => Some(Reply::overloaded(Overload::Memory)),
        (ErrorSource::Upstream, _) => platform_fault(error).map(Reply::platform),
        (ErrorSource::Downstream, _) if downstream_gone => None,
        (ErrorSource::Downstream, ErrorType::ReadTimedout) => Some(Reply::malformed(Malformed::BodyTimeout)),
        (ErrorSource::Downstream, _) => Some(Reply::malformed(Malformed::Unreadable)),
        (ErrorSource::Internal | ErrorSource::Unset, _) => Some(Reply::internal()),
    }
}

/// The body that a refused header announces. Where its length is in doubt, or too much, the connection ends.
fn body_after(fault: Malformed, request: &RequestHeader, wire: Wire<'_>) -> Body {
    match fault {
        Malformed::Framing | Malformed::Body | Malformed::HeaderBytes | Malformed::HeaderFields => ENDLESS,
        // A server that reads these otherwise may know of a length where we see none, or of another one.
        Malformed::LineEnd | Malformed::FieldName => ENDLESS,
        // What follows may be of the protocol that was asked for.
        Malformed::Upgrade => ENDLESS,
        _ => read_framing(&request.headers, wire).unwrap_or(ENDLESS),
    }
}

/// Takes what a request needs that is forwarded.
fn reserve(ctx: &mut Ctx) -> Result<(), Overload> {
    let length = match ctx.body {
        Body::Absent => Some(0),
        Body::Sized(length) => Some(length),
        Body::Unsized => None,
    };
    take(ctx, Overload::PlatformConnections, 1)?;
    take(ctx, Overload::Memory, REQUEST_BYTES + held_of(length))
}

/// Takes more of one of the limits of all requests together.
fn take(ctx: &mut Ctx, resource: Overload, amount: u64) -> Result<(), Overload> {
    // Every request comes by a connection.
    ctx.reserved.as_mut().ok_or(resource)?.take(resource, amount)
}

/// How many bytes of a body of that length, if it is known, the gateway holds at once.
fn held_of(length: Option<u64>) -> u64 {
    length.map_or(BODY_BYTES, |length| length.min(BODY_BYTES))
}

fn content_length(response: &ResponseHeader) -> Option<u64> {
    response.headers.get(http::header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// With three digits behind the point.
fn millis(elapsed: Duration) -> f64 {
    elapsed.as_micros() as f64 / 1e3
}

/// The body filter's own error, told apart from anything that the engine says.
const TOO_LARGE: ErrorType = ErrorType::HTTPStatus(413);

/// As well.
const TOO_SLOW: ErrorType = ErrorType::HTTPStatus(408);

/// A body may be slow for so long: connections begin slowly, and short bodies are none to judge by.
const BODY_GRACE: Duration = Duration::from_secs(20);

/// What a stream of HTTP/2 takes, in bytes, until it is answered.
const STREAM_BYTES: u64 = 24 * 1024;

/// A field is in the table and in the engine's copy of it.
const HEADER_COPIES: u64 = 2;

/// A client that has no window for an answer of ours, a hundred bytes, does not want it.
const OWN_ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// The response filter's own error.
const OVERLOADED: ErrorType = ErrorType::HTTPStatus(503);

/// A body that is not worth reading to its end.
const ENDLESS: Body = Body::Sized(u64::MAX);

/// What the engine takes for a request with small bodies, in bytes: a buffer of 64 KiB to read with, sessions, channels.
pub const REQUEST_BYTES: u64 = 128 * 1024;

/// What it holds of a body at most, in one direction: four pieces of 64 KiB in a channel, and as many on their way.
pub const BODY_BYTES: u64 = 512 * 1024;

/// A body of which nothing is left in a channel; it is in the buffer that was counted.
const SMALL_BODY: u64 = 64 * 1024;

/// Bytes of a method that the log shows; the longest one registered has 16.
const METHOD_BYTES: usize = 32;

/// Servers that one request is tried on at most.
pub const MAX_TRIES: usize = 3;

/// What logs and metrics say where the client went away before it was answered.
const CLIENT_CLOSED: u16 = 499;
