//! Requests that are ended from outside.
//!
//! The engine gives each read of an HTTP/1 body its time, and a stream of HTTP/2 none: without this, a client could hold a
//! stream, and a connection to the platform, for ever. A stream whose body has begun and moved no byte for
//! `limits.body_timeout` is dropped; so is a request over either protocol that takes longer than its route allows. The
//! client sees its stream reset or its connection closed, the platform its connection closed, and nothing goes back to a pool.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::H2Options;
use pingora::server::ShutdownWatch;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::config::Limits;

/// Why a request was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// Its body moved no byte for `limits.body_timeout`.
    BodyStalled,
    /// It took longer than `limits.request_duration`, or its route's.
    Overdue,
}

impl Cut {
    /// The reason as the log has it.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::BodyStalled => "request body timed out",
            Self::Overdue => "request duration exceeded",
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
    // Written as `async_trait` would, for HTTP/1 is only passed on: a future around the other would be one more
    // allocation, and the session copied twice more.
    fn process_new_http<'a, 's, 'f>(
        self: &'a Arc<Self>,
        session: ServerSession,
        shutdown: &'s ShutdownWatch,
    ) -> Pin<Box<dyn Future<Output = Option<ReusedHttpStream>> + Send + 'f>>
    where
        'a: 'f,
        's: 'f,
        Self: 'f,
    {
        if !session.is_http2() && !self.limits.has_deadlines {
            return self.inner.process_new_http(session, shutdown);
        }
        Box::pin(self.watched(session, shutdown))
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

impl<A: HttpServerApp + Send + Sync + 'static> ConnectionApp<A> {
    async fn watched(&self, session: ServerSession, shutdown: &ShutdownWatch) -> Option<ReusedHttpStream> {
        let stream = Arc::<Stream>::default();
        let request = STREAM.scope(Arc::clone(&stream), self.inner.process_new_http(session, shutdown));
        tokio::select! {
            biased;
            reused = request => reused,
            () = stands_still(&stream.moves, self.limits.body_timeout) => cut(&stream, Cut::BodyStalled),
            () = overdue(&stream) => cut(&stream, Cut::Overdue),
        }
    }
}

fn cut(stream: &Stream, reason: Cut) -> Option<ReusedHttpStream> {
    let on_cut = stream.on_cut.lock().take();
    let tries = stream.tries.load(Ordering::Relaxed);
    let server = (tries > 0).then(|| stream.server.load(Ordering::Relaxed));
    on_cut.into_iter().for_each(|on_cut| on_cut(reason, Whereabouts { server, tries }));
    None
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
