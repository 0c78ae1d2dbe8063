//! The client's side of a connection: what has come, what is awaited and for how long.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use pingora::protocols::Stream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::buffers::Buffers;
use crate::edge::connection_context::Connection;
use crate::edge::deadline::Deadline;

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
    /// Did it use TLS?
    pub(super) is_tls: bool,
    /// Nothing more will come.
    pub(super) has_ended: bool,
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
            is_tls,
            has_ended: false,
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

    /// Has the client gone, while it is owed an answer? What comes meanwhile is kept, as far as there is room.
    pub(super) fn poll_gone(&mut self, length: usize, half_close: bool, cx: &mut Context<'_>) -> Poll<()> {
        // Once something is behind the request, the client is there; and what ended it, or one half of it, may be the gateway.
        if self.has_ended || self.input.len() != length || self.input.capacity() == length {
            return Poll::Pending;
        }
        match self.poll_bytes(cx) {
            Poll::Ready(Came::End) if half_close || self.connection.was_ended_too_soon() => Poll::Pending,
            Poll::Ready(Came::End) => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }

    /// Sends all of it at once, as far as the client takes it.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// The request of so many bytes is done with.
    pub(super) fn consume(&mut self, length: usize) {
        if self.input.len() == length {
            self.input.clear();
        } else {
            self.input.drain(..length.min(self.input.len()));
        }
    }
}

/// Reads into what room a buffer has.
pub(super) fn poll_read(
    stream: &mut Stream,
    buffer: &mut Vec<u8>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    pin!(stream.read_buf(buffer)).poll(cx)
}

/// Has the time passed that a wait may take? It begins with the first poll that has to wait.
pub(super) fn poll_due(
    deadline: &mut Deadline,
    due: &mut Option<Instant>,
    limit: Duration,
    cx: &mut Context<'_>,
) -> Poll<()> {
    let now = Instant::now();
    deadline.set(*due.get_or_insert_with(|| now + limit));
    deadline.poll(now, cx)
}
