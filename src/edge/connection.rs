//! The limits of a client connection: how long it may be idle and a header may take, how large one may grow, and that even the
//! engine's own refusals are JSON.
//!
//! pingora reads a header of up to 1 MiB, gives each read 60 s, and answers what it cannot parse with an
//! empty page before any filter is asked. It has a time for idle connections, and a new timer for each request with
//! it; here a connection has one. This stands between it and the socket. HTTP/2 has limits of its own and passes through.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::{Buf, Bytes};
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::{SslDigest, TlsRef};
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream,
    TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Sleep, sleep, timeout};

use super::connection_context::{Connection, HEADER, IDLE, REQUEST, digest_of};
use super::deadline::Deadline;
use super::quota::Reserved;
use super::replay::Replay;
use super::request_id::{REQUEST_ID, RequestId};
use super::request_line::RequestLine;
use crate::auth::reply::{Malformed, Overload, Reply};
use crate::config::Limits;
use crate::logging::{redact_path, redact_text};
use crate::metrics::{Metrics, RouteLabel};

/// How far a header has come.
#[derive(Default)]
struct HeaderProgress {
    bytes: usize,
    lines: usize,
    /// Has anything come but line ends, which some clients send behind a body (RFC 9112 §2.2)?
    has_begun: bool,
    line: RequestLine,
    /// What it takes beyond what every connection has.
    memory: Option<Reserved>,
}

/// A client's stream within its limits.
pub(super) struct LimitedStream {
    inner: Stream,
    connection: Arc<Connection>,
    /// The same, where the engine keeps what a request can ask its connection for.
    digest: Option<Arc<ProxyDigest>>,
    limits: Limits,
    metrics: Arc<Metrics>,
    deadline: Deadline,
    /// The phase that the deadline counts for; a clock is read only once there is something to wait for.
    timed: Option<u8>,
    header: HeaderProgress,
    /// What was read last ended a header, so that the next one begins with what is read next. Else the engine may have its
    /// beginning already.
    ends_header: bool,
    refusal: Option<Refusal>,
    replay: Replay,
}

/// An answer of ours on its way out; after it the connection ends.
struct Refusal {
    answer: Bytes,
    linger: Option<Pin<Box<Sleep>>>,
}

impl LimitedStream {
    /// Limits `inner`, which is this connection's.
    pub(super) fn new(
        inner: Stream,
        connection: Arc<Connection>,
        limits: Limits,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            inner,
            digest: digest_of(&connection),
            connection,
            limits,
            metrics,
            deadline: Deadline::after(limits.header_timeout),
            timed: Some(HEADER),
            header: HeaderProgress::default(),
            ends_header: true,
            refusal: None,
            replay: Replay::default(),
        }
    }

    /// Goes on with a connection that somebody else has served. The header of its request began at `began`; `replay` has what came of it.
    pub(super) fn resume(mut self, replay: Replay, began: Instant) -> Self {
        self.connection.phase.store(HEADER, Ordering::Relaxed);
        self.deadline.set(began + self.limits.header_timeout);
        self.replay = replay;
        self
    }

    /// The stream itself, and what was read behind the last request.
    pub(super) fn into_parts(self) -> (Stream, Replay) {
        (self.inner, self.replay)
    }

    fn refuse(&mut self, reply: &Reply, reason: &str) {
        self.metrics.request(RouteLabel::Refused, reply.status, Duration::ZERO);
        let id = RequestId::new();
        let (method, path) = self.header.line.method_and_path();
        let (method, path) = (method.unwrap_or_default(), path.unwrap_or_default());
        log::info!(
            request_id = id.as_str(), client = self.connection.peer().to_string(), method = redact_text(&method),
            path = redact_path(&path), reason, status = reply.status; "request rejected before parsing"
        );
        self.refusal = Some(Refusal { answer: raw(reply, &id), linger: None });
    }

    fn refuse_malformed(&mut self, fault: Malformed) {
        self.refuse(&Reply::malformed(fault), fault.as_str());
    }

    /// Is what the engine writes its own refusal of a header?
    fn is_refused_by_engine(&self, bytes: &[u8]) -> bool {
        match self.connection.phase.load(Ordering::Relaxed) {
            _ if self.connection.is_http2 => false,
            HEADER => true,
            // Of a header that came behind another request: this never saw it. What an answer ends with is no status line.
            IDLE => bytes.starts_with(b"HTTP/"),
            _ => false,
        }
    }

    /// Writes what is left of the refusal.
    fn poll_refusal(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(refusal) = &mut self.refusal else {
            return Poll::Ready(Ok(()));
        };
        while refusal.answer.has_remaining() {
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, &refusal.answer))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            refusal.answer.advance(written);
        }
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    /// Sends the refusal, then reads on for a moment so that the client sees it, then ends the stream.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_refusal(cx))?;
        let Some(refusal) = &mut self.refusal else {
            return Poll::Ready(Ok(()));
        };
        let linger = refusal.linger.get_or_insert_with(|| Box::pin(sleep(LINGER)));
        loop {
            if linger.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut scratch = [0; 4096];
            let mut buffer = ReadBuf::new(&mut scratch);
            ready!(Pin::new(&mut self.inner).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Has the client taken longer than `limit` for this phase?
    fn poll_deadline(&mut self, phase: u8, limit: Duration, cx: &mut Context<'_>) -> Poll<()> {
        let now = Instant::now();
        if self.timed.replace(phase) != Some(phase) {
            self.deadline.set(now + limit);
        }
        self.deadline.poll(now, cx)
    }

    /// Notes bytes of a header; a fault where it grows beyond all use.
    fn note_header(&mut self, new: &[u8], phase: u8) -> Result<(), (Reply, &'static str)> {
        self.check_header(new, phase).map_err(|fault| (Reply::malformed(fault), fault.as_str()))?;
        if self.header.bytes > SMALL_HEADER && !self.take_memory(new.len()) {
            self.metrics.overloaded(Overload::Memory);
            return Err((Reply::overloaded(Overload::Memory), Overload::Memory.as_str()));
        }
        Ok(())
    }

    /// Takes what so many more bytes of a header need; whether there was so much.
    fn take_memory(&mut self, bytes: usize) -> bool {
        let memory = self.header.memory.get_or_insert_with(|| self.connection.reserved());
        memory.take(Overload::Memory, (bytes * HEADER_COPIES) as u64).is_ok()
    }

    fn check_header(&mut self, new: &[u8], phase: u8) -> Result<(), Malformed> {
        if phase == IDLE {
            self.connection.phase.store(HEADER, Ordering::Relaxed);
            self.timed = None;
            let line = RequestLine::begin(!self.ends_header);
            self.header = HeaderProgress { line, ..HeaderProgress::default() };
        }
        self.header.bytes += new.len();
        self.ends_header = new.ends_with(b"\n\r\n");
        let begin = new.iter().position(|byte| self.header.has_begun || !b"\r\n".contains(byte));
        self.header.has_begun |= begin.is_some();
        if self.connection.is_http2 {
            if self.header.bytes >= HTTP2_PREFACE {
                self.connection.phase.store(REQUEST, Ordering::Relaxed);
            }
            return Ok(());
        }
        self.header.line.read(begin.and_then(|begin| new.get(begin..)).unwrap_or_default())?;
        // A small header cannot have many fields: most requests are never looked through.
        if self.header.bytes > MANY_FIELDS {
            let end = new.windows(3).position(|window| window == b"\n\r\n").unwrap_or(new.len());
            self.header.lines += new.iter().take(end).filter(|&&byte| byte == b'\n').count();
        }
        // What was read may include the beginning of a body; the exact size is judged with the request.
        if self.header.bytes > (2 * self.limits.header_bytes).max(FIRST_READS) {
            return Err(Malformed::HeaderBytes);
        }
        Ok(())
    }
}

impl AsyncRead for LimitedStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        let phase = me.connection.phase.load(Ordering::Relaxed);
        if phase == REQUEST {
            let before = buf.filled().len();
            let read = me.replay.poll_read(&mut me.inner, cx, buf);
            let has_ended = buf.filled().len() == before;
            me.ends_header &= has_ended;
            // The engine would give up the request. It sees the end once that is answered.
            if has_ended && read.is_ready() && !me.connection.is_http2 && me.connection.was_ended_too_soon() {
                return Poll::Pending;
            }
            return read;
        }
        if me.refusal.is_some() {
            return me.poll_linger(cx);
        }
        let before = buf.filled().len();
        match me.replay.poll_read(&mut me.inner, cx, buf) {
            Poll::Ready(Ok(())) => {
                let new = buf.filled().get(before..).unwrap_or_default();
                if !new.is_empty()
                    && let Err((reply, reason)) = me.note_header(new, phase)
                {
                    buf.set_filled(before);
                    me.refuse(&reply, reason);
                    return me.poll_linger(cx);
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending if phase == HEADER => {
                ready!(me.poll_deadline(HEADER, me.limits.header_timeout, cx));
                // A connection that never said a word gets none either, nor does one that speaks in frames.
                if !me.header.has_begun || me.connection.is_http2 {
                    return Poll::Ready(Ok(()));
                }
                me.refuse_malformed(Malformed::HeaderTimeout);
                me.poll_linger(cx)
            }
            Poll::Pending => {
                me.header.memory = None;
                // To the engine it looks like the client's own end.
                me.poll_deadline(IDLE, me.limits.keepalive_timeout, cx).map(Ok)
            }
        }
    }
}

impl AsyncWrite for LimitedStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let me = self.get_mut();
        if !me.is_refused_by_engine(bytes) {
            return Pin::new(&mut me.inner).poll_write(cx, bytes);
        }
        // Ours goes out in its place.
        if me.refusal.is_none() {
            if me.connection.phase.load(Ordering::Relaxed) == IDLE {
                // What is known is of the request before it.
                me.header = HeaderProgress::default();
            }
            let too_many = me.header.lines > me.limits.header_fields;
            let unreadable = || me.header.line.fault().unwrap_or(Malformed::Unreadable);
            let fault = if too_many { Malformed::HeaderFields } else { unreadable() };
            me.refuse_malformed(fault);
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        ready!(me.poll_refusal(cx))?;
        Pin::new(&mut me.inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let me = self.get_mut();
        if me.refusal.is_some() {
            // An error here means that the client is gone.
            let _ = ready!(me.poll_linger(cx));
        }
        Pin::new(&mut me.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = parts.iter().find(|part| !part.is_empty());
        if !self.is_refused_by_engine(first.map_or(&[], |part| part)) {
            return Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, parts);
        }
        let all: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        self.poll_write(cx, &all)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[async_trait]
impl Shutdown for LimitedStream {
    async fn shutdown(&mut self) {
        Shutdown::shutdown(self.inner.as_mut()).await;
    }
}

#[async_trait]
impl Peek for LimitedStream {
    async fn try_peek(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        self.inner.try_peek(buffer).await
    }
}

impl UniqueID for LimitedStream {
    fn id(&self) -> UniqueIDType {
        self.inner.id()
    }
}

impl Ssl for LimitedStream {
    fn get_ssl(&self) -> Option<&TlsRef> {
        self.inner.get_ssl()
    }

    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.inner.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.inner.selected_alpn_proto()
    }
}

impl GetTimingDigest for LimitedStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.inner.get_timing_digest()
    }
}

impl GetProxyDigest for LimitedStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.digest.clone()
    }
}

impl GetSocketDigest for LimitedStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.inner.get_socket_digest()
    }
}

impl std::fmt::Debug for LimitedStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LimitedStream").finish_non_exhaustive()
    }
}

/// Tells a client that its connection is not served.
pub(super) async fn refuse(mut stream: Stream, reply: &Reply, metrics: &Metrics) {
    let is_http2 = matches!(stream.selected_alpn_proto(), Some(ALPN::H2));
    let reply = if is_http2 { go_away(reply) } else { raw(reply, &RequestId::new()) };
    let _ = timeout(LINGER, stream.write_all(&reply)).await;
    let _ = timeout(LINGER, stream.shutdown()).await;
    // To close over what was not read would reset the connection, and the answer with it.
    let mut scratch = [0; 1024];
    let _ = timeout(LINGER, async { while stream.read(&mut scratch).await.is_ok_and(|count| count > 0) {} })
        .await;
    metrics.request(RouteLabel::Refused, 503, Duration::ZERO);
}

/// The end of an HTTP/2 connection that has served no stream (RFC 9113 §6.8): the settings that each begins with, then GOAWAY. A
/// client may send every request again elsewhere, or later.
fn go_away(reply: &Reply) -> Bytes {
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    const GOAWAY: [u8; 6] = [7, 0, 0, 0, 0, 0];
    const LAST_STREAM: [u8; 4] = [0; 4];
    const ENHANCE_YOUR_CALM: [u8; 4] = [0, 0, 0, 0xb];
    let text = reply.body.as_bytes();
    // An error of ours has a hundred bytes.
    let length = u16::try_from(8 + text.len()).unwrap_or(u16::MAX).to_be_bytes();
    [&SETTINGS[..], &[0], &length, &GOAWAY, &LAST_STREAM, &ENHANCE_YOUR_CALM, text].concat().into()
}

/// An answer as bytes, for where there is no session to write it with.
fn raw(reply: &Reply, id: &RequestId) -> Bytes {
    let status = http::StatusCode::from_u16(reply.status);
    let reason = status.ok().and_then(|status| status.canonical_reason()).unwrap_or_default();
    let mut text = format!("HTTP/1.1 {} {reason}\r\n", reply.status);
    for (name, value) in reply.fields(fastrand::u32(..)) {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str(&format!(
        "{REQUEST_ID}: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}",
        id.as_str(),
        reply.body.len(),
        reply.body
    ));
    text.into()
}

/// A header with more fields than any limit has at least this many bytes.
const MANY_FIELDS: usize = 1024;

/// A header of this size needs no more than every connection has.
const SMALL_HEADER: usize = 4096;

/// A byte of a header is in the engine's buffer, which doubles as it grows, and again in the table of its fields.
const HEADER_COPIES: usize = 3;

/// The engine reads so much at first, whatever the header's size.
const FIRST_READS: usize = 16 * 1024;

/// Bytes that an HTTP/2 connection begins with (RFC 9113 §3.4).
const HTTP2_PREFACE: usize = 24;

/// How long a connection that was accepted last may take to send its request.
pub const ACCEPT_GRACE: Duration = Duration::from_millis(100);

/// How long a refused client may take to read its answer.
const LINGER: Duration = Duration::from_secs(1);
