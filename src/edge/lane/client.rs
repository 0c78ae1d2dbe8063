//! The client's side of a connection: what has come, what is awaited and for how long.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use pingora::protocols::Stream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::buffers::{Buffers, consume};
use super::head::{Head, Read, no_fields};
use super::outgoing::write_head;
use super::platform::{Asker, poll_due, poll_read};
use super::taken::Extent;
use crate::edge::connection_context::Connection;
use crate::edge::deadline::Deadline;
use crate::edge::request_head::RequestHead as _;
use crate::edge::request_state::RequestState;

/// A client's connection over HTTP/1.1.
pub(super) struct Client {
    pub(super) stream: Stream,
    pub(super) connection: Arc<Connection>,
    /// What came and was not consumed: the request at work, then what is behind it.
    pub(super) input: Vec<u8>,
    /// One for all that is awaited, on either side: there is one wait at a time.
    pub(super) deadline: Deadline,
    /// When the header of the request began to come.
    pub(super) began: Instant,
    /// The request at work.
    pub(super) request: Extent,
    /// May the client close its half and still get its answer?
    pub(super) half_close: bool,
    /// Did it use TLS?
    pub(super) is_tls: bool,
    /// Something of a request may still come that nobody will read: to close over it would take the answer from the client.
    pub(super) lingers: bool,
    /// Nothing more will come.
    pub(super) has_ended: bool,
    /// The request at work asks for another protocol.
    pub(super) asks_upgrade: bool,
    /// It was ended already.
    pub(super) is_cut: bool,
}

/// What a wait for bytes came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    Bytes,
    /// The end, or an error, which is the end too.
    End,
    /// Nothing in time.
    Late,
}

impl Client {
    pub(super) fn new(stream: Stream, connection: Arc<Connection>, header_timeout: Duration) -> Self {
        let is_tls = stream.get_ssl_digest().is_some();
        Self {
            stream,
            connection,
            input: Vec::new(),
            deadline: Deadline::after(header_timeout),
            began: Instant::now(),
            request: Extent::default(),
            half_close: false,
            is_tls,
            lingers: false,
            has_ended: false,
            asks_upgrade: false,
            is_cut: false,
        }
    }

    /// Waits for the first bytes of a request, without a buffer until they come.
    pub(super) async fn first_bytes(
        &mut self,
        buffers: &Buffers,
        limit: Duration,
        mut stop: Pin<&mut impl Future<Output = ()>>,
    ) -> Came {
        let mut due = None;
        let came = std::future::poll_fn(|cx| {
            if self.input.capacity() == 0 {
                self.input = buffers.lend();
            }
            if let Poll::Ready(came) = self.poll_bytes(cx) {
                return Poll::Ready(came);
            }
            buffers.give_back(std::mem::take(&mut self.input));
            if stop.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Came::End);
            }
            poll_due(&mut self.deadline, &mut due, limit, cx).map(|()| Came::Late)
        });
        let came = came.await;
        self.began = Instant::now();
        came
    }

    /// Waits for more, until `due` at most, which the first wait sets.
    pub(super) async fn more_bytes(&mut self, limit: Duration, due: &mut Option<Instant>) -> Came {
        let came = std::future::poll_fn(|cx| match self.poll_bytes(cx) {
            Poll::Ready(came) => Poll::Ready(came),
            Poll::Pending => poll_due(&mut self.deadline, due, limit, cx).map(|()| Came::Late),
        });
        came.await
    }

    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Came> {
        if self.has_ended {
            return Poll::Ready(Came::End);
        }
        poll_read(&mut self.stream, &mut self.input, cx).map(|read| match read {
            Ok(count) if count > 0 => Came::Bytes,
            Ok(_) | Err(_) => {
                self.has_ended = true;
                Came::End
            }
        })
    }

    /// Sends all of it at once, as far as the client takes it.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// As well, of two pieces at once.
    pub(super) async fn send_both(&mut self, first: &[u8], second: &[u8]) -> io::Result<()> {
        let mut sent = 0;
        while sent < first.len() {
            let parts = [IoSlice::new(first.get(sent..).unwrap_or_default()), IoSlice::new(second)];
            match self.stream.write_vectored(&parts).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => sent += count,
            }
        }
        self.send(second.get(sent - first.len()..).unwrap_or_default()).await
    }

    /// Ends the connection.
    pub(super) async fn end(&mut self) {
        if self.is_cut {
            return;
        }
        // An error means that the client is gone already.
        let _ = timeout(LINGER, self.stream.shutdown()).await;
        if self.lingers || !self.input.is_empty() {
            let mut scratch = [0; 1024];
            let reads = async { while self.stream.read(&mut scratch).await.is_ok_and(|count| count > 0) {} };
            let _ = timeout(LINGER, reads).await;
        }
    }

    /// The request is done with.
    pub(super) fn consume(&mut self) {
        let Extent { whole, .. } = std::mem::take(&mut self.request);
        consume(&mut self.input, whole);
    }
}

impl Asker for Client {
    fn write_request(&self, out: &mut Vec<u8>, state: &RequestState) -> Option<()> {
        let mut fields = no_fields();
        let Read::Whole(head) = Head::read(&self.input, &mut fields) else {
            return None;
        };
        let upgrade = head.values("upgrade").next().filter(|_| self.asks_upgrade);
        write_head(out, &head, (&self.connection, self.is_tls), state, upgrade)
    }

    fn body(&self) -> &[u8] {
        self.input.get(self.request.head..self.request.whole).unwrap_or_default()
    }

    /// What comes meanwhile is kept, as far as there is room.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Once something is behind the request, the client is there; and what ended it, or one half of it, may be the gateway.
        let length = self.request.whole;
        if self.has_ended || self.input.len() != length || self.input.capacity() == length {
            return Poll::Pending;
        }
        match self.poll_bytes(cx) {
            Poll::Ready(Came::End) if self.half_close || self.connection.was_ended_too_soon() => {
                Poll::Pending
            }
            Poll::Ready(Came::End) => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }

    fn deadline(&mut self) -> &mut Deadline {
        &mut self.deadline
    }
}

/// How long the end of a connection may take, and once more what is read behind it.
const LINGER: Duration = Duration::from_secs(1);
