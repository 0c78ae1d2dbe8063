//! A request over HTTP/2: the session is the engine's, and the way to the platform and back is the lane's.

mod forward;
mod stream;

use std::pin::pin;
use std::sync::Arc;

use async_trait::async_trait;
use http::HeaderValue;
use http::header::{CONTENT_LENGTH, USER_AGENT};
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{H2Options, HttpSession};
use pingora::server::ShutdownWatch;

use self::forward::forward;
use self::stream::{Stream, head, host};
use super::exchange::{Ended, within};
use super::head::{digits, is_plain, takes_method};
use super::record::record;
use super::resources::{LONGEST_BODY, Resources};
use super::taken::{Extent, Taken};
use crate::edge::access_log::Exchange;
use crate::edge::connection_context::{self, Connection};
use crate::edge::cut::ConnectionApp;
use crate::edge::deadline::Deadline;
use crate::edge::decide::Decision;
use crate::edge::gateway::judge;
use crate::edge::normalize::normalize;
use crate::edge::request_head::RequestHead as _;
use crate::metrics::Declined;

/// The application of one connection over HTTP/2. Streams that the lane does not take are the engine's.
pub(in crate::edge) struct Streams<A> {
    resources: Arc<Resources>,
    engine: Arc<ConnectionApp<A>>,
}

impl<A> Streams<A> {
    pub(super) fn new(resources: Arc<Resources>, engine: Arc<ConnectionApp<A>>) -> Arc<Self> {
        Arc::new(Self { resources, engine })
    }
}

#[async_trait]
impl<A: HttpServerApp + Send + Sync + 'static> HttpServerApp for Streams<A> {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let session = match session {
            ServerSession::H2(session) => ServerSession::H2(serve(&self.resources, session).await?),
            other => other,
        };
        self.engine.process_new_http(session, shutdown).await
    }

    fn h2_options(&self) -> Option<H2Options> {
        self.engine.h2_options()
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        self.engine.server_options()
    }

    async fn http_cleanup(&self) {
        self.engine.http_cleanup().await;
    }
}

/// Serves a stream, or gives it back untouched for the engine.
async fn serve(resources: &Resources, mut session: HttpSession) -> Option<HttpSession> {
    let connection = Arc::clone(connection_context::of(session.digest())?);
    normalize(session.req_header_mut());
    let taken = match declined(&session) {
        Some(reason) => Err(reason),
        None => take(resources, &session, &connection).await,
    };
    let mut taken = match taken {
        Ok(taken) => taken,
        Err(reason) => {
            resources.gateway.shared.metrics.lane(Some(reason));
            return Some(session);
        }
    };
    let limits = &taken.state.runtime.limits;
    session.set_write_timeout(Some(limits.write_timeout));
    let has_tls = session.digest().is_some_and(|digest| digest.ssl_digest.is_some());
    let deadline = Deadline::after(limits.body_timeout);
    let mut stream = Stream { session, connection, body: Vec::new(), deadline, has_tls };
    let mut work = resources.work();
    let (limit, mut watched) = (taken.limit, taken.state.watched.take());
    let mut ended = Ended::default();
    let cut = {
        let exchange = pin!(forward(resources, &mut stream, &mut taken, &mut work, &mut ended));
        within(limit, &mut watched, exchange).await
    };
    ended.cut(cut, resources);
    work.give_back(resources);
    let request = stream.session.req_header();
    record(resources, &taken, &ended, || {
        Some(Exchange {
            method: request.method.as_str(),
            target: request.raw_path(),
            version: request.version,
            host: host(&stream.session),
            user_agent: request.headers.get(USER_AGENT).map(HeaderValue::as_bytes),
            bytes_received: 0,
            bytes_sent: 0,
        })
    });
    None
}

/// Why the lane does not take a stream, as far as its head says so.
fn declined(session: &HttpSession) -> Option<Declined> {
    let request = session.req_header();
    let target = request.raw_path();
    if !takes_method(request.method.as_str()) {
        return Some(Declined::Method);
    }
    if target.first() != Some(&b'/') || !target.iter().all(|byte| is_plain(*byte)) {
        return Some(Declined::Target);
    }
    let has = |name: &str| request.headers.contains_key(name);
    if NEVER.into_iter().any(has) || host(session).is_none() {
        return Some(Declined::Field);
    }
    let is_short = || {
        let mut lengths = request.headers.get_all(CONTENT_LENGTH).iter();
        let length = lengths.next().and_then(|length| digits(length.as_bytes()));
        lengths.next().is_none() && length.is_some_and(|length| length <= LONGEST_BODY as u64)
    };
    (!session.is_body_empty() && !is_short()).then_some(Declined::Body)
}

/// Decides on a stream; an error leaves it to the engine.
async fn take(
    resources: &Resources,
    session: &HttpSession,
    connection: &Arc<Connection>,
) -> Result<Taken, Declined> {
    let gateway = &resources.gateway;
    let clock = gateway.read_clock().await;
    let head = head(session);
    let mut state = gateway.begin();
    let field_bytes = head.fields().map(|(name, value)| name.len() + value.len()).sum();
    let decision = judge(&head, connection, Some(field_bytes), clock, &mut state);
    match decision.map_err(|_| Declined::Overload)? {
        Decision::Forward(_, facts) if facts.expects_continue => Err(Declined::Field),
        Decision::Forward(pass, facts) => {
            state.active = Some(connection.active_request());
            gateway.forwards(pass, facts, &head, &mut state).map_err(|_| Declined::Overload)?;
            Ok(Taken::new(state, head.method, head.target, Extent::default()))
        }
        Decision::Answer(..) | Decision::Endpoint(..) | Decision::Change(..) | Decision::Wait(..) => {
            Err(Declined::Local)
        }
    }
}

/// Fields that belong to a connection over HTTP/1, and that the session refuses or the engine would have to look at.
const NEVER: [&str; 8] = [
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
];
