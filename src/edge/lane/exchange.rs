//! One request and its answer: sent to the platform, tried again where that is safe, relayed as it comes.

use std::io::{self, Write as _};
use std::pin::Pin;
use std::task::Poll;
use std::time::Instant;

use pingora::Error;
use pingora::protocols::Stream;
use tokio::io::AsyncWrite as _;

use super::Lane;
use super::chunks::Chunks;
use super::client::{Came, Client, poll_due, poll_read};
use super::head::{Head, Read as ReadHead, no_fields};
use super::request::{Taken, write_head};
use super::response::{self, Body, Context, Read};
use crate::auth::cors::Sharing;
use crate::auth::reply::{Malformed, PlatformFault, Reply};
use crate::edge::errors::{platform_fault, try_fault};
use crate::edge::request_head::RequestHead as _;
use crate::edge::request_state::RequestState;
use crate::edge::retry::count;
use crate::edge::upstream::{Times, is_verified};
use crate::metrics::TryFault;

/// How a request ended.
pub(super) struct Ended {
    /// What the client was told; 0 where it was told nothing.
    pub(super) status: u16,
    /// Bytes of the answer's body.
    pub(super) sent: u64,
    /// May the connection go on?
    pub(super) goes_on: bool,
    pub(super) is_event_stream: bool,
}

/// How a request failed.
enum Failed {
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

/// A connection to the platform that has a request.
struct Platform {
    stream: Stream,
    address: u64,
    /// From another request.
    is_kept: bool,
    /// It is not to be used again.
    is_spent: bool,
    times: Times,
}

/// The buffers of one exchange.
pub(super) struct Work {
    /// What goes out: the request, until a byte of the answer has come; then the answer.
    pub(super) out: Vec<u8>,
    /// What the platform sent.
    pub(super) came: Vec<u8>,
}

impl Lane {
    /// Serves a request that goes on to the platform.
    pub(super) async fn forward(&self, client: &mut Client, taken: &mut Taken, work: &mut Work) -> Ended {
        let mut ended = Ended { status: 0, sent: 0, goes_on: false, is_event_stream: false };
        let failed = match self.exchange(client, taken, work, &mut ended).await {
            Ok(()) => return ended,
            Err(failed) => failed,
        };
        ended.goes_on = false;
        let state = &mut taken.state;
        let platform = match &failed {
            Failed::Client => {
                state.runtime.platforms.get(state.platform).abandoned(&mut state.tries);
                None
            }
            Failed::Body => {
                state.fault = Some(Malformed::BodyTimeout.as_str());
                None
            }
            Failed::Try(fault) => Some(fault_of(*fault)),
            Failed::Connect(error) => platform_fault(error),
            Failed::Nowhere => None,
        };
        platform.into_iter().for_each(|fault| self.gateway.shared.metrics.platform_failed(fault));
        let reply = match failed {
            Failed::Client => return ended,
            Failed::Body => Reply::malformed(Malformed::BodyTimeout),
            Failed::Try(_) | Failed::Connect(_) => platform.map_or_else(Reply::internal, Reply::platform),
            Failed::Nowhere => Reply::internal(),
        };
        // What has begun can only end.
        if ended.status == 0 {
            ended.status = reply.status;
            // All of the request was read, so that the next one can follow, but for a body that stood still.
            taken.closes |= client.input.len() < taken.length || self.is_stopping();
            let sent = self.reply(client, taken, &reply, &mut work.out).await;
            ended.goes_on = sent && !taken.closes;
            ended.sent = if taken.is_head { 0 } else { reply.body.len() as u64 };
        }
        ended
    }

    async fn exchange(
        &self,
        client: &mut Client,
        taken: &mut Taken,
        work: &mut Work,
        ended: &mut Ended,
    ) -> Result<(), Failed> {
        self.read_body(client, taken).await?;
        let mut platform = self.answered(client, taken, work, ended).await?;
        let whole = loop {
            let sharing = sharing(client, &taken.state);
            taken.closes |= self.is_stopping();
            let context = Context {
                is_head: taken.is_head,
                request_id: taken.state.request_id.as_str(),
                closes: taken.closes,
                sharing,
            };
            work.out.clear();
            match response::read(&work.came, context, &mut work.out) {
                Read::Whole(head) => break head,
                Read::Invalid => return Err(self.failed(taken, TryFault::Malformed)),
                Read::Interim(length) => {
                    taken.state.answer_begun = true;
                    taken.state.interim_answers += 1;
                    if taken.state.interim_answers > MAX_INTERIM {
                        return Err(self.failed(taken, TryFault::EndlessInterim));
                    }
                    work.came.drain(..length);
                    client.send(&work.out).await.map_err(|_| Failed::Client)?;
                }
                Read::Part if work.came.len() >= LONGEST_HEAD => {
                    return Err(self.failed(taken, TryFault::Malformed));
                }
                Read::Part => {
                    let more = self.more(client, taken, &mut platform, &mut work.came).await;
                    if more.map_err(|failed| self.noted(taken, failed))? == 0 {
                        return Err(self.failed(taken, TryFault::Closed));
                    }
                }
            }
        };
        let state = &mut taken.state;
        state.platform_time = state.forwarded.map(|reading| reading.elapsed());
        let upstream = state.runtime.platforms.get(state.platform);
        upstream.answered(&mut state.tries, whole.status, state.platform_time);
        platform.is_spent |= !whole.keeps;
        work.came.drain(..whole.length);
        ended.status = whole.status;
        ended.is_event_stream = whole.is_event_stream;
        self.relay(client, taken, &mut platform, work, whole.body, ended).await?;
        let Platform { stream, address, is_spent, times, .. } = platform;
        if !is_spent && work.came.is_empty() {
            self.pool.give(address, stream, times.idle);
        }
        ended.goes_on = !taken.closes;
        Ok(())
    }

    /// Reads the body of the request, all of it.
    async fn read_body(&self, client: &mut Client, taken: &mut Taken) -> Result<(), Failed> {
        let limits = taken.state.runtime.limits;
        let missing = taken.length.saturating_sub(client.input.len());
        if missing > 0 {
            // A little more, to see whether the client is still there.
            client.input.reserve_exact(missing + 64);
        }
        while client.input.len() < taken.length {
            match client.more_bytes(limits.body_timeout, &mut None).await {
                Came::Bytes => {}
                Came::End => return Err(Failed::Client),
                Came::Late => return Err(Failed::Body),
            }
            let read = client.input.len().min(taken.length) - taken.head_length;
            taken.state.body_read = read as u64;
            if client.input.len() < taken.length && taken.state.is_too_slow() {
                return Err(Failed::Body);
            }
        }
        taken.state.body_read = (taken.length - taken.head_length) as u64;
        Ok(())
    }

    /// Sends the request until a server has begun to answer it.
    async fn answered(
        &self,
        client: &mut Client,
        taken: &mut Taken,
        work: &mut Work,
        ended: &mut Ended,
    ) -> Result<Platform, Failed> {
        loop {
            let mut platform = match self.connect(client, taken, work).await {
                Ok(platform) => platform,
                Err(Failed::Connect(error)) => {
                    count(&mut taken.state, try_fault(&error, false));
                    if self.gateway.may_retry(&taken.state, true) {
                        continue;
                    }
                    return Err(Failed::Connect(error));
                }
                Err(Failed::Try(fault)) => {
                    // Nothing was sent.
                    count(&mut taken.state, Some(fault));
                    if self.gateway.may_retry(&taken.state, true) {
                        continue;
                    }
                    return Err(Failed::Try(fault));
                }
                Err(other) => return Err(other),
            };
            work.came.clear();
            let fault = match self.ask(client, taken, &mut platform, work).await {
                Ok(()) => return Ok(platform),
                Err(Failed::Try(fault)) => fault,
                Err(other) => return Err(other),
            };
            let is_closed = matches!(fault, TryFault::Closed);
            let fault = if is_closed && platform.is_kept { TryFault::KeptConnectionClosed } else { fault };
            count(&mut taken.state, Some(fault));
            ended.goes_on = false;
            let is_safe = fault == TryFault::KeptConnectionClosed && taken.is_idempotent;
            if !(is_safe && self.gateway.may_retry(&taken.state, false)) {
                return Err(Failed::Try(fault));
            }
        }
    }

    /// A connection to the server whose turn it is, and the request as it is to see it.
    async fn connect(&self, client: &Client, taken: &mut Taken, work: &mut Work) -> Result<Platform, Failed> {
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
        write_head(&mut work.out, client, state).ok_or(Failed::Nowhere)?;
        work.out.extend_from_slice(client.input.get(taken.head_length..taken.length).unwrap_or_default());
        let times = upstream.times();
        let kept = if needs_new { None } else { self.pool.take(address) };
        let (stream, is_kept) = match kept {
            Some(stream) => (stream, true),
            None => {
                let peer = upstream.peer_at(address).ok_or(Failed::Try(TryFault::ConnectFailed))?;
                // Seldom, and large: not a part of every connection's task.
                let connecting = Box::pin(self.connector.new_stream(&peer));
                let stream = connecting.await.map_err(|error| Failed::Connect(error.into_up()))?;
                if !is_verified(&peer, stream.get_ssl_digest().as_deref()) {
                    return Err(Failed::Try(TryFault::Tls));
                }
                (stream, false)
            }
        };
        Ok(Platform { stream, address, is_kept, is_spent: needs_new, times })
    }

    /// Sends the request, and waits for the first bytes of an answer. One that comes before all is sent is an answer too.
    async fn ask(
        &self,
        client: &mut Client,
        taken: &Taken,
        platform: &mut Platform,
        work: &mut Work,
    ) -> Result<(), Failed> {
        let (length, half_close) = (taken.length, taken.state.runtime.half_close);
        let Work { out, came } = work;
        let (mut sent, mut due) = (0, None);
        let asked = std::future::poll_fn(|cx| {
            let written = loop {
                let rest = out.get(sent..).unwrap_or_default();
                if rest.is_empty() {
                    break Pin::new(&mut platform.stream).poll_flush(cx);
                }
                match Pin::new(&mut platform.stream).poll_write(cx, rest) {
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
                    let early = poll_read(&mut platform.stream, came, cx);
                    let has_come = matches!(early, Poll::Ready(Ok(count)) if count > 0);
                    return Poll::Ready(if has_come {
                        Ok(false)
                    } else {
                        Err(Failed::Try(TryFault::Closed))
                    });
                }
                Poll::Pending => {}
            }
            if let Poll::Ready(early) = poll_read(&mut platform.stream, came, cx) {
                let has_come = early.is_ok_and(|count| count > 0);
                return Poll::Ready(if has_come { Ok(false) } else { Err(Failed::Try(TryFault::Closed)) });
            }
            if client.poll_gone(length, half_close, cx).is_ready() {
                return Poll::Ready(Err(Failed::Client));
            }
            poll_due(&mut client.deadline, &mut due, platform.times.write, cx)
                .map(|()| Err(Failed::Try(TryFault::WriteTimeout)))
        });
        let is_sent = asked.await?;
        platform.is_spent |= !is_sent;
        if came.is_empty() && self.more(client, taken, platform, came).await? == 0 {
            return Err(Failed::Try(TryFault::Closed));
        }
        Ok(())
    }

    /// Waits for more of the answer, as long as the client does; 0 is its end.
    async fn more(
        &self,
        client: &mut Client,
        taken: &Taken,
        platform: &mut Platform,
        came: &mut Vec<u8>,
    ) -> Result<usize, Failed> {
        let (length, half_close) = (taken.length, taken.state.runtime.half_close);
        let mut due = None;
        let read = std::future::poll_fn(|cx| {
            match poll_read(&mut platform.stream, came, cx) {
                Poll::Ready(Ok(count)) => return Poll::Ready(Ok(count)),
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Failed::Try(TryFault::Closed))),
                Poll::Pending => {}
            }
            if client.poll_gone(length, half_close, cx).is_ready() {
                return Poll::Ready(Err(Failed::Client));
            }
            poll_due(&mut client.deadline, &mut due, platform.times.read, cx)
                .map(|()| Err(Failed::Try(TryFault::ReadTimeout)))
        });
        read.await
    }

    /// Sends the head that is in `work.out`, then the body as it comes.
    async fn relay(
        &self,
        client: &mut Client,
        taken: &mut Taken,
        platform: &mut Platform,
        work: &mut Work,
        body: Body,
        ended: &mut Ended,
    ) -> Result<(), Failed> {
        let mut left = match body {
            Body::Empty => 0,
            Body::Sized(length) => length,
            Body::Chunked | Body::UntilClose => u64::MAX,
        };
        let mut chunks = Chunks::default();
        platform.is_spent |= body == Body::UntilClose;
        if body != Body::Empty && left > work.came.capacity() as u64 {
            let mut larger = self.bodies.lend();
            larger.extend_from_slice(&work.came);
            self.answers.give_back(std::mem::replace(&mut work.came, larger));
        }
        let mut has_head = true;
        loop {
            // What came is sent, the first of it behind the head.
            let (used, is_done) = match body {
                Body::Empty => (0, true),
                Body::Sized(_) => {
                    let used = work.came.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    left -= used as u64;
                    ended.sent += used as u64;
                    (used, left == 0)
                }
                Body::Chunked => {
                    let Ok(seen) = chunks.read(&mut work.came) else {
                        return Err(self.failed(taken, TryFault::Malformed));
                    };
                    ended.sent = chunks.content;
                    if seen.kept < seen.consumed {
                        work.came.drain(seen.kept..seen.consumed);
                    }
                    (seen.kept, seen.is_done)
                }
                Body::UntilClose => {
                    if !has_head {
                        work.out.clear();
                    }
                    let came = work.came.len();
                    if came > 0 {
                        // A vector takes everything.
                        let _ = write!(work.out, "{came:x}\r\n");
                        work.out.extend_from_slice(&work.came);
                        work.out.extend_from_slice(b"\r\n");
                        ended.sent += came as u64;
                    }
                    work.came.clear();
                    has_head |= came > 0;
                    (0, false)
                }
            };
            if has_head {
                work.out.extend_from_slice(work.came.get(..used).unwrap_or_default());
                client.send(&work.out).await.map_err(|_| Failed::Client)?;
                has_head = false;
            } else if used > 0 {
                client.send(work.came.get(..used).unwrap_or_default()).await.map_err(|_| Failed::Client)?;
            }
            if used == work.came.len() {
                work.came.clear()
            } else {
                drop(work.came.drain(..used))
            }
            if is_done {
                return Ok(());
            }
            if self
                .more(client, taken, platform, &mut work.came)
                .await
                .map_err(|failed| self.noted(taken, failed))?
                == 0
            {
                if body != Body::UntilClose {
                    return Err(self.failed(taken, TryFault::Closed));
                }
                return client.send(b"0\r\n\r\n").await.map_err(|_| Failed::Client);
            }
        }
    }

    /// The last try failed after its server had begun to answer.
    fn failed(&self, taken: &mut Taken, fault: TryFault) -> Failed {
        count(&mut taken.state, Some(fault));
        Failed::Try(fault)
    }

    fn noted(&self, taken: &mut Taken, failed: Failed) -> Failed {
        match failed {
            Failed::Try(fault) => self.failed(taken, fault),
            other => other,
        }
    }
}

/// What the answer to this request says to browsers.
pub(super) fn sharing<'s>(client: &Client, state: &'s RequestState) -> Sharing<'s> {
    let cors = &state.runtime.cors;
    if cors.is_off() {
        return Sharing::Off;
    }
    let mut fields = no_fields();
    match Head::read(&client.input, &mut fields) {
        ReadHead::Whole(head) => cors.sharing(head.values("origin")),
        ReadHead::Part | ReadHead::Unreadable => Sharing::Refused,
    }
}

const fn fault_of(fault: TryFault) -> PlatformFault {
    match fault {
        TryFault::ReadTimeout | TryFault::WriteTimeout | TryFault::ConnectTimeout => PlatformFault::TimedOut,
        _ => PlatformFault::Unreachable,
    }
}

/// Interim answers (1xx) of the platform to one request: more than a minute's progress of one a second, and an end.
const MAX_INTERIM: u32 = 100;

/// The head of an answer has at most so many bytes, as with the engine.
const LONGEST_HEAD: usize = 1024 * 1024;
