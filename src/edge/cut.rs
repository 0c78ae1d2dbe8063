//! Requests that are ended from outside.
//!
//! The engine gives each read of an HTTP/1 body its time, and a stream of HTTP/2 none: without this, a client could hold a
//! stream, and a connection to the platform, for ever. A stream whose body has begun and moved no byte for
//! `limits.body_timeout` is dropped; so is a request over either protocol that takes longer than its route allows, or whose token no longer
//! holds. The client sees its stream reset or its connection closed, the platform its connection closed, and nothing goes back to a pool.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::H2Options;
use pingora::server::ShutdownWatch;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::connection_context;
use super::ongoing::Watched;
use crate::auth::denial::Denial;
use crate::auth::reply::Reply;
use crate::config::Limits;
use crate::metrics::Metrics;

/// Why a request was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// Its body moved no byte for `limits.body_timeout`.
    BodyStalled,
    /// It took longer than `limits.request_duration`, or its route's.
    Overdue,
    /// Its token no longer holds.
    Denied(Denial),
}

impl Cut {
    /// The reason as the log has it.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::BodyStalled => "request body timed out",
            Self::Overdue => "request duration exceeded",
            Self::Denied(denial) => denial.as_str(),
        }
    }

    /// The status that it is counted and logged with.
    pub(super) fn status(self) -> u16 {
        match self {
            Self::BodyStalled => 408,
            Self::Overdue => 504,
            // What the next request is told.
            Self::Denied(denial) => Reply::denied(denial).status,
        }
    }

    /// Counts it.
    pub(super) fn count(self, metrics: &Metrics) {
        if let Self::Denied(denial) = self {
            metrics.ended_in_flight(denial);
        }
    }
}

/// Where a request was when it was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Whereabouts {
    /// The number of the platform's server that it was sent to last.
    pub(super) server: Option<usize>,
    /// How often it was sent.
    pub(super) tries: usize,
    /// Its answer is a stream of events.
    pub(super) is_event_stream: bool,
}

/// Told by the proxy: `on_cut` is called if the request is ended, which nobody else logs.
pub(super) fn watch(on_cut: impl FnOnce(Cut, Whereabouts) + Send + 'static) {
    let _ = STREAM.try_with(|stream| *stream.on_cut.lock() = Some(Box::new(on_cut)));
}

/// Told by the proxy: the body of this request is being forwarded.
pub(super) fn body_begins() {
    let _ = STREAM.try_with(|stream| stream.moves.store(1, Ordering::Relaxed));
}

/// Told by the proxy: the request goes to this server, with this try.
pub(super) fn sent_to(server: Option<usize>, tries: usize) {
    let _ = STREAM.try_with(|stream| {
        stream.server.store(server.unwrap_or(usize::MAX), Ordering::Relaxed);
        stream.tries.store(tries, Ordering::Relaxed);
    });
}

/// Told by the proxy: the request has so long from now on.
pub(super) fn end_after(limit: Duration) {
    let _ = STREAM.try_with(|stream| {
        *stream.deadline.lock() = Some(Instant::now() + limit);
        stream.has_deadline.notify_one();
    });
}

/// Told by the proxy: the request is ended once its token no longer holds.
pub(super) fn ends_with(watched: Watched) {
    let _ = STREAM.try_with(|stream| *stream.watched.lock() = Some(watched));
}

/// Told by the proxy: the answer is a stream of events.
pub(super) fn streams_events() {
    let _ = STREAM.try_with(|stream| stream.is_event_stream.store(true, Ordering::Relaxed));
}

/// Told by the proxy: bytes of the body came, or its end.
pub(super) fn note(is_end: bool) {
    let _ = STREAM.try_with(|stream| {
        if is_end {
            stream.moves.store(DONE, Ordering::Relaxed);
        } else {
            stream.moves.fetch_add(1, Ordering::Relaxed);
        }
    });
}

tokio::task_local! {
    static STREAM: Arc<Stream>;
}

/// One request.
#[derive(Default)]
struct Stream {
    /// How often its body moved; 0 before it is watched, [`DONE`] once it is over.
    moves: AtomicU64,
    /// Of no meaning while there is no try.
    server: AtomicUsize,
    tries: AtomicUsize,
    on_cut: Mutex<Option<OnCut>>,
    deadline: Mutex<Option<Instant>>,
    has_deadline: Notify,
    watched: Mutex<Option<Watched>>,
    is_event_stream: AtomicBool,
}

type OnCut = Box<dyn FnOnce(Cut, Whereabouts) + Send>;

const DONE: u64 = u64::MAX;

/// The application of one connection, whose requests are watched. They run in tasks of the engine's making, and their state is
/// made inside: a task-local is the only thing that both sides can see.
pub(super) struct ConnectionApp<A> {
    inner: Arc<A>,
    options: Option<HttpServerOptions>,
    /// Those that the connection began with.
    limits: Limits,
}

impl<A: HttpServerApp> ConnectionApp<A> {
    /// Of a connection with these limits.
    pub(super) fn new(inner: Arc<A>, limits: Limits) -> Arc<Self> {
        let options = inner.server_options().map(|options| {
            let mut options = options.clone();
            options.h2_idle_timeout = Some(limits.keepalive_timeout);
            options
        });
        Arc::new(Self { inner, options, limits })
    }
}

#[async_trait]
impl<A: HttpServerApp + Send + Sync + 'static> HttpServerApp for ConnectionApp<A> {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let stream = Arc::<Stream>::default();
        // Over HTTP/2 the others go on; over HTTP/1 an answer that ends with its connection must not look as if it were all of it.
        let connection =
            (!session.is_http2()).then(|| connection_context::of(session.digest()).cloned()).flatten();
        let (is_http2, body_timeout) = (session.is_http2(), self.limits.body_timeout);
        // Here to the end: a connection is told how it ends before it does.
        let mut request =
            pin!(STREAM.scope(Arc::clone(&stream), self.inner.process_new_http(session, shutdown)));
        let reason = tokio::select! {
            biased;
            reused = &mut request => return reused,
            () = stands_still(&stream.moves, body_timeout), if is_http2 => Cut::BodyStalled,
            () = overdue(&stream) => Cut::Overdue,
            denial = denied(&stream) => Cut::Denied(denial),
        };
        connection.into_iter().for_each(|connection| connection.abort());
        cut(&stream, reason);
        None
    }

    fn h2_options(&self) -> Option<H2Options> {
        let mut options = self.inner.h2_options()?;
        options.max_concurrent_streams(self.limits.requests_per_connection);
        // Fields are counted with 32 bytes more each (RFC 9113 §6.5.2), and what is judged later is told so.
        let header_bytes = u32::try_from(self.limits.header_bytes.saturating_mul(2)).unwrap_or(u32::MAX);
        options.max_header_list_size(header_bytes);
        Some(options)
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        self.options.as_ref()
    }

    async fn http_cleanup(&self) {
        self.inner.http_cleanup().await;
    }
}

fn cut(stream: &Stream, reason: Cut) {
    let on_cut = stream.on_cut.lock().take();
    let tries = stream.tries.load(Ordering::Relaxed);
    let server = (tries > 0).then(|| stream.server.load(Ordering::Relaxed));
    let is_event_stream = stream.is_event_stream.load(Ordering::Relaxed);
    let whereabouts = Whereabouts { server, tries, is_event_stream };
    on_cut.into_iter().for_each(|on_cut| on_cut(reason, whereabouts));
}

/// Resolves when the request has a token and it no longer holds.
async fn denied(stream: &Stream) -> Denial {
    // Asked again whenever the request was polled, which comes first: so it is known as soon as the request has a token.
    poll_fn(|cx| match &mut *stream.watched.lock() {
        Some(watched) => watched.poll_denied(cx),
        None => Poll::Pending,
    })
    .await
}

/// Resolves when the request has a deadline and it has passed.
async fn overdue(stream: &Stream) {
    stream.has_deadline.notified().await;
    let deadline = *stream.deadline.lock();
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Resolves when a body that is watched has not moved for so long.
async fn stands_still(moves: &AtomicU64, limit: Duration) {
    let mut seen = moves.load(Ordering::Relaxed);
    loop {
        sleep_until(Instant::now() + limit).await;
        let now = moves.load(Ordering::Relaxed);
        if now == DONE {
            return std::future::pending().await;
        }
        if now != 0 && now == seen {
            return;
        }
        seen = now;
    }
}
