//! A connection to the platform that has a request: made or taken from the pool, asked, and read.

use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use pingora::Error;
use pingora::protocols::Stream;
use tokio::io::{AsyncReadExt as _, AsyncWrite as _};

use super::resources::{Resources, Work};
use super::taken::Taken;
use crate::edge::deadline::Deadline;
use crate::edge::request_state::RequestState;
use crate::edge::retry::count;
use crate::edge::upstream::{Times, is_verified};
use crate::metrics::TryFault;

/// The client of a request, as far as the platform's side must know of it.
pub(super) trait Asker {
    /// The body of the request, all of it.
    fn body(&self) -> &[u8];
    /// Writes the head of the request as the server of its last try is to see it.
    fn write_request(&self, out: &mut Vec<u8>, state: &RequestState) -> Option<()>;
    /// Has the client gone, while it is owed an answer?
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()>;
    /// For all that is awaited: there is one wait at a time.
    fn deadline(&mut self) -> &mut Deadline;
}

/// How a request failed.
pub(super) enum Failed {
    /// The client has gone, or takes nothing.
    Client,
    /// Its body did not come in time.
    Body,
    /// The platform's side, in a way that a try can.
    Try(TryFault),
    /// There was no connection.
    Connect(Box<Error>),
    /// There is no server.
    Nowhere,
}

impl Failed {
    /// Noted of the last try, after its server had begun to answer.
    pub(super) fn noted(self, taken: &mut Taken) -> Self {
        if let Self::Try(fault) = self {
            count(&mut taken.state, Some(fault));
        }
        self
    }
}

/// A connection to the platform that has a request.
pub(super) struct Platform {
    pub(super) stream: Stream,
    pub(super) address: u64,
    /// From another request.
    pub(super) is_kept: bool,
    /// It is not to be used again.
    pub(super) is_spent: bool,
    /// The body of the request is in one buffer with its head.
    is_together: bool,
    pub(super) times: Times,
}

impl Platform {
    /// A connection to the server whose turn it is, and the request as it is to see it.
    pub(super) async fn connect(
        resources: &Resources,
        client: &impl Asker,
        taken: &mut Taken,
        work: &mut Work,
    ) -> Result<Self, Failed> {
        let state = &mut taken.state;
        // Nothing has waited since the request came but its body; a try that follows another has.
        state.forwarded = Some(if state.tries.count() == 0 && state.body_read == 0 {
            state.started
        } else {
            Instant::now()
        });
        let upstream = state.runtime.platforms.get(state.platform);
        let pass = state.pass.as_ref().ok_or(Failed::Nowhere)?;
        let (address, needs_new) = upstream.address(pass, &mut state.tries).ok_or(Failed::Nowhere)?;
        client.write_request(&mut work.out, state).ok_or(Failed::Nowhere)?;
        let body = client.body();
        // A longer one goes out beside the head.
        let is_together = body.len() <= work.out.capacity() - work.out.len();
        if is_together {
            work.out.extend_from_slice(body);
        }
        let times = upstream.times();
        let kept = if needs_new { None } else { resources.pool.take(address) };
        let (stream, is_kept) = match kept {
            Some(stream) => (stream, true),
            None => {
                let peer = upstream.peer_at(address).ok_or(Failed::Try(TryFault::ConnectFailed))?;
                // Seldom, and large: not a part of every connection's task.
                let connecting = Box::pin(resources.connector.new_stream(&peer));
                let stream = connecting.await.map_err(|error| Failed::Connect(error.into_up()))?;
                if !is_verified(&peer, stream.get_ssl_digest().as_deref()) {
                    return Err(Failed::Try(TryFault::Tls));
                }
                (stream, false)
            }
        };
        Ok(Self { stream, address, is_kept, is_spent: needs_new, is_together, times })
    }

    /// Sends the request, and waits for the first bytes of an answer. One that comes before all is sent is an answer too.
    pub(super) async fn ask(&mut self, client: &mut impl Asker, work: &mut Work) -> Result<(), Failed> {
        let Work { out, came } = work;
        let (mut sent, mut due) = (0, None);
        let asked = std::future::poll_fn(|cx| {
            let written = loop {
                let head = out.get(sent..).unwrap_or_default();
                let body = if self.is_together { &[] } else { client.body() };
                let body = body.get(sent.saturating_sub(out.len())..).unwrap_or_default();
                if head.is_empty() && body.is_empty() {
                    break Pin::new(&mut self.stream).poll_flush(cx);
                }
                let parts = [IoSlice::new(head), IoSlice::new(body)];
                match Pin::new(&mut self.stream).poll_write_vectored(cx, &parts) {
                    Poll::Ready(Ok(0)) => break Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(Ok(count)) => sent += count,
                    Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                    Poll::Pending => break Poll::Pending,
                }
            };
            match written {
                Poll::Ready(Ok(())) => return Poll::Ready(Ok(true)),
                // Perhaps the server has said why before it went away.
                Poll::Ready(Err(_)) => {
                    let early = poll_read(&mut self.stream, came, cx);
                    let has_come = matches!(early, Poll::Ready(Ok(count)) if count > 0);
                    return Poll::Ready(if has_come {
                        Ok(false)
                    } else {
                        Err(Failed::Try(TryFault::Closed))
                    });
                }
                Poll::Pending => {}
            }
            if let Poll::Ready(early) = poll_read(&mut self.stream, came, cx) {
                let has_come = early.is_ok_and(|count| count > 0);
                return Poll::Ready(if has_come { Ok(false) } else { Err(Failed::Try(TryFault::Closed)) });
            }
            if client.poll_gone(cx).is_ready() {
                return Poll::Ready(Err(Failed::Client));
            }
            poll_due(client.deadline(), &mut due, self.times.write, cx)
                .map(|()| Err(Failed::Try(TryFault::WriteTimeout)))
        });
        let is_sent = asked.await?;
        self.is_spent |= !is_sent;
        if came.is_empty() && self.more(client, came).await? == 0 {
            return Err(Failed::Try(TryFault::Closed));
        }
        Ok(())
    }

    /// Waits for more of the answer, as long as the client does; 0 is its end.
    pub(super) async fn more(
        &mut self,
        client: &mut impl Asker,
        came: &mut Vec<u8>,
    ) -> Result<usize, Failed> {
        let mut due = None;
        let read = std::future::poll_fn(|cx| {
            match poll_read(&mut self.stream, came, cx) {
                Poll::Ready(Ok(count)) => return Poll::Ready(Ok(count)),
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Failed::Try(TryFault::Closed))),
                Poll::Pending => {}
            }
            if client.poll_gone(cx).is_ready() {
                return Poll::Ready(Err(Failed::Client));
            }
            poll_due(client.deadline(), &mut due, self.times.read, cx)
                .map(|()| Err(Failed::Try(TryFault::ReadTimeout)))
        });
        read.await
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
