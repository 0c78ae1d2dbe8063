//! The fast lane: plain HTTP/1.1 requests, from a client's connection to the platform's and back without the engine.
//!
//! It asks the same [`decide`](super::decide::decide) as the engine's side and has no rule of its own about who may pass. A request is
//! taken only where every reader would read the same bytes the same way; any other goes to the engine before a byte of it was
//! answered or sent ([`Declined`]), and the connection comes back afterwards where it is known where the request ends. See decision 0042.
//!
//! [`client`] has what came from the client, [`head`] reads it, [`request`] decides and writes what the platform sees, [`exchange`] sends it
//! on a connection of the worker's own ([`pool`]) and relays the answer ([`response`], [`chunks`]). Buffers are lent
//! ([`buffers`]) while a connection has something to hold.

mod buffers;
mod chunks;
mod client;
mod exchange;
mod head;
mod pool;
mod reply;
mod request;
mod response;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pingora::apps::{HttpServerApp, ServerApp as _};
use pingora::connectors::TransportConnector;
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Notify;
use tokio::time::timeout;

use self::buffers::Buffers;
use self::client::{Came, Client};
use self::exchange::{Ended, Work, sharing};
use self::head::{Head, Read, no_fields};
use self::pool::Pool;
use self::reply::write_reply;
use self::request::{Plan, Taken, plan};
use super::access_log::{Exchange, access_line};
use super::connection::LimitedStream;
use super::connection_context::Connection;
use super::cut::ConnectionApp;
use super::gateway::Gateway;
use super::replay::Replay;
use super::request_head::RequestHead as _;
use crate::auth::reply::Reply;
use crate::config::Limits;
use crate::logging::AccessLine;
use crate::metrics::Declined;

/// The lane of one worker.
pub struct Lane {
    gateway: Gateway,
    limits: Limits,
    connector: TransportConnector,
    pool: Arc<Pool>,
    heads: Buffers,
    answers: Buffers,
    bodies: Buffers,
    /// Told that connections without a request are to end.
    stop: Notify,
}

impl Lane {
    /// The lane beside an engine's proxy for the same gateway; it keeps `kept` connections to the platform.
    pub fn new(gateway: Gateway, limits: Limits, kept: usize) -> Self {
        Self {
            gateway,
            limits,
            connector: TransportConnector::new(None),
            pool: Pool::new(kept),
            heads: Buffers::new(HEAD_BYTES),
            answers: Buffers::new(ANSWER_BYTES),
            bodies: Buffers::new(BODY_BYTES),
            stop: Notify::new(),
        }
    }

    /// Ends every connection that has no request.
    pub(super) fn end_idle(&self) {
        self.stop.notify_waiters();
    }

    /// Serves a connection until it ends; `engine` serves what the lane does not take.
    pub(super) async fn serve<A>(
        &self,
        stream: Stream,
        connection: Arc<Connection>,
        engine: &Arc<ConnectionApp<A>>,
        stopping: &ShutdownWatch,
    ) where
        A: HttpServerApp + Send + Sync + 'static,
    {
        let mut client = Client::new(stream, connection, self.limits.header_timeout);
        let mut stop = pin!(self.stop.notified());
        let mut idle = self.limits.header_timeout;
        loop {
            if client.input.is_empty() {
                if client.first_bytes(&self.heads, idle, stop.as_mut()).await != Came::Bytes {
                    break;
                }
            } else {
                client.began = Instant::now();
            }
            idle = self.limits.keepalive_timeout;
            let goes_on = match self.plan(&mut client).await {
                Plan::Detour(reason, length) => {
                    self.gateway.shared.metrics.lane(Some(reason));
                    match self.detour(client, length, engine, stopping).await {
                        Some(back) => client = back,
                        None => return,
                    }
                    true
                }
                Plan::Answer(reply, taken) => self.answer(&mut client, taken, &reply).await,
                Plan::Forward(taken) => self.take(&mut client, taken).await,
                Plan::More => false,
            };
            if !goes_on {
                break;
            }
        }
        // An error means that the client is gone already.
        let _ = timeout(LINGER, client.stream.shutdown()).await;
    }

    /// Reads until it is known what becomes of the request.
    async fn plan(&self, client: &mut Client) -> Plan {
        let mut due = Some(client.began + self.limits.header_timeout);
        loop {
            let clock = self.gateway.read_clock().await;
            match plan(&self.gateway, client, clock, HEAD_BYTES) {
                Plan::More => {}
                other => return other,
            }
            if client.more_bytes(self.limits.header_timeout, &mut due).await != Came::Bytes {
                return Plan::Detour(Declined::Incomplete, None);
            }
        }
    }

    /// Has the engine serve a request, of which nothing was answered or sent. Where its length is known the connection comes back.
    async fn detour<A>(
        &self,
        client: Client,
        length: Option<u64>,
        engine: &Arc<ConnectionApp<A>>,
        stopping: &ShutdownWatch,
    ) -> Option<Client>
    where
        A: HttpServerApp + Send + Sync + 'static,
    {
        let Client { stream, connection, input, began, is_tls, .. } = client;
        let metrics = Arc::clone(&self.gateway.shared.metrics);
        let limited = LimitedStream::new(stream, Arc::clone(&connection), self.limits, metrics);
        let limited = Box::new(limited.resume(Replay::new(&input, length), began));
        self.heads.give_back(input);
        if length.is_none() {
            engine.process_new(limited, stopping).await;
            return None;
        }
        let mut session = ServerSession::new_http1(limited);
        session.set_keepalive((!*stopping.borrow()).then_some(60));
        let (stream, _) = engine.process_new_http(session, stopping).await?.consume();
        let (stream, replay) = stream.into_any().downcast::<LimitedStream>().ok()?.into_parts();
        let mut input = self.heads.lend();
        input.extend_from_slice(replay.rest());
        let mut client = Client::new(stream, connection, self.limits.keepalive_timeout);
        (client.input, client.is_tls) = (input, is_tls);
        Some(client)
    }

    /// Answers a request here; whether the connection goes on.
    async fn answer(&self, client: &mut Client, mut taken: Taken, reply: &Reply) -> bool {
        self.gateway.shared.metrics.lane(None);
        let mut out = self.answers.lend();
        taken.closes |= self.is_stopping();
        let goes_on = self.reply(client, &taken, reply, &mut out).await && !taken.closes;
        self.answers.give_back(out);
        let sent = if taken.is_head { 0 } else { reply.body.len() as u64 };
        self.done(client, &taken, &Ended { status: reply.status, sent, goes_on, is_event_stream: false });
        client.consume(taken.length);
        goes_on
    }

    /// Forwards a request; whether the connection goes on.
    async fn take(&self, client: &mut Client, mut taken: Taken) -> bool {
        self.gateway.shared.metrics.lane(None);
        let mut work = Work { out: self.answers.lend(), came: self.answers.lend() };
        let ended = self.forward(client, &mut taken, &mut work).await;
        for buffer in [work.out, work.came] {
            if buffer.capacity() == BODY_BYTES {
                self.bodies.give_back(buffer)
            } else {
                self.answers.give_back(buffer)
            }
        }
        self.done(client, &taken, &ended);
        client.consume(taken.length);
        ended.goes_on
    }

    /// Sends an answer of our own; whether it was taken.
    async fn reply(&self, client: &mut Client, taken: &Taken, reply: &Reply, out: &mut Vec<u8>) -> bool {
        let sharing = sharing(client, &taken.state);
        write_reply(out, reply, sharing, taken.state.request_id.as_str(), taken.is_head, taken.closes);
        client.send(out).await.is_ok()
    }

    /// Is each answer the last of its connection?
    fn is_stopping(&self) -> bool {
        self.gateway.shared.stopping.load(Ordering::Relaxed)
    }

    /// Counts and logs a request that has ended.
    fn done(&self, client: &Client, taken: &Taken, ended: &Ended) {
        let (shared, state) = (&self.gateway.shared, &taken.state);
        let elapsed = state.started.elapsed();
        let status = if ended.status == 0 { CLIENT_CLOSED } else { ended.status };
        if ended.is_event_stream {
            shared.metrics.event_stream(state.facts.route, status, elapsed);
        } else {
            shared.metrics.request(state.facts.route, status, elapsed);
        }
        let (received, sent) = (state.body_read as usize, ended.sent as usize);
        shared.metrics.bytes(received, sent);
        if !shared.sink.writes_access() {
            return;
        }
        let mut fields = no_fields();
        let Read::Whole(head) = Head::read(&client.input, &mut fields) else {
            return;
        };
        let exchange = Exchange {
            method: head.method,
            target: head.target(),
            version: head.version(),
            host: head.single("host"),
            user_agent: head.values("user-agent").next(),
            bytes_received: received,
            bytes_sent: sent,
        };
        let line = access_line(&shared.sink, state, &exchange, status, elapsed);
        let fault = state.fault.or(line.fault);
        shared.sink.access(&AccessLine { fault, ..line });
    }
}

/// What logs and metrics say where the client went away before it was answered.
const CLIENT_CLOSED: u16 = 499;

/// The longest head that the lane takes.
const HEAD_BYTES: usize = 8 * 1024;

/// Answers up to this size are read and sent at once.
const ANSWER_BYTES: usize = 16 * 1024;

/// What is read at once of a longer one.
const BODY_BYTES: usize = 64 * 1024;

/// How long the end of a connection may take.
const LINGER: Duration = Duration::from_secs(1);
