//! The fast lane: plain requests, from a client's connection to the platform's and back without the engine's proxy.
//!
//! It asks the same [`decide`](super::decide::decide) as the engine's side and has no rule of its own about who may pass. A request is
//! taken only where every reader would read the same bytes the same way; any other goes to the engine before a byte of it was
//! answered or sent (`Declined`), and the connection comes back afterwards where it is known where the request ends. See decision 0042.
//!
//! Over HTTP/1.1 `client` has what came, `head` reads it, `request` decides, and `http1` carries it out; over HTTP/2 the engine's
//! session has read it, and `http2` does all of that. Both have the request written (`outgoing`) and sent (`exchange`) on a connection of the
//! worker's own (`platform`, `pool`), and its answer read (`response`, `chunks`) and relayed (`relay`). Buffers are lent (`buffers`)
//! while a connection has something to hold.
//!
//! It also carries what the engine does not: connections that change their protocol (`handshake`, `tunnel`, `half`, `frames`), on routes
//! that allow it; with `server.fast_lane = false` these alone. See decision 0057.

#[cfg(test)]
#[cfg(not(feature = "model"))]
mod allocations;
mod buffers;
mod chunks;
mod client;
mod exchange;
mod frames;
mod half;
mod handshake;
mod head;
mod http1;
mod http2;
mod outgoing;
mod platform;
mod pool;
mod record;
mod relay;
mod reply;
mod request;
mod resources;
mod response;
mod taken;
mod tunnel;

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pingora::apps::{HttpServerApp, ServerApp as _};
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;
use tokio::sync::Notify;

use self::client::{Came, Client};
use self::exchange::{Ended, within};
use self::head::{Head, Read, no_fields};
use self::http2::Streams;
use self::record::record;
use self::reply::send_reply;
#[doc(hidden)]
pub use self::request::forwarded;
use self::request::{Plan, plan};
use self::resources::{HEAD_BYTES, Resources};
use self::taken::Taken;
use self::tunnel::Bounds;
use super::connection::LimitedStream;
use super::connection_context::Connection;
use super::cut::ConnectionApp;
use super::gateway::Gateway;
use super::replay::Replay;
use crate::auth::reply::Reply;
use crate::config::Limits;
use crate::metrics::Declined;

/// The lane of one worker.
pub struct Lane {
    resources: Arc<Resources>,
    /// Does it take plain requests, or only those that change the protocol of their connection?
    takes_plain: bool,
    /// Told that connections without a request are to end.
    stop: Notify,
}

impl Lane {
    /// The lane beside an engine's proxy for the same gateway, of one of so many workers.
    pub fn new(gateway: Gateway, workers: usize) -> Self {
        Self { resources: Arc::new(Resources::new(gateway, workers)), takes_plain: true, stop: Notify::new() }
    }

    /// The same, for requests alone that change the protocol of their connection.
    pub fn for_upgrades(self) -> Self {
        Self { takes_plain: false, ..self }
    }

    /// Does it take plain requests?
    pub(super) const fn takes_plain(&self) -> bool {
        self.takes_plain
    }

    /// Is there any request that it would take?
    pub(super) fn takes_any(&self) -> bool {
        self.takes_plain || !self.resources.gateway.runtime.load().policy.upgrades.is_empty()
    }

    /// Ends every connection that has no request.
    pub(super) fn end_idle(&self) {
        self.stop.notify_waiters();
    }

    /// The application of a connection over HTTP/2; `engine` serves what the lane does not take.
    pub(super) fn streams<A>(&self, engine: Arc<ConnectionApp<A>>) -> Arc<Streams<A>> {
        Streams::new(Arc::clone(&self.resources), engine)
    }

    /// Serves a connection over HTTP/1 until it ends, within the limits that it began with; `engine` serves what the lane does not take.
    pub(super) async fn serve<A>(
        &self,
        stream: Stream,
        connection: Arc<Connection>,
        limits: &Limits,
        engine: &Arc<ConnectionApp<A>>,
        stopping: &ShutdownWatch,
    ) where
        A: HttpServerApp + Send + Sync + 'static,
    {
        let mut client = Client::new(stream, connection, limits.header_timeout);
        let mut stop = pin!(self.stop.notified());
        let mut idle = limits.header_timeout;
        loop {
            if client.input.is_empty() {
                if client.first_bytes(&self.resources.heads, idle, stop.as_mut()).await != Came::Bytes {
                    break;
                }
            } else {
                client.began = Instant::now();
            }
            idle = limits.keepalive_timeout;
            let goes_on = match self.plan(&mut client, limits.header_timeout).await {
                Plan::Detour(reason, length) => {
                    if self.takes_plain {
                        self.resources.gateway.shared.metrics.lane(Some(reason));
                    }
                    match self.detour(client, length, limits, engine, stopping).await {
                        Some(back) => client = back,
                        None => return,
                    }
                    true
                }
                Plan::Answer(reply, taken) => self.answer(&mut client, taken, &reply).await,
                Plan::Forward(taken) => self.forward(&mut client, taken, stop.as_mut()).await,
                Plan::More => false,
            };
            if !goes_on {
                break;
            }
        }
        client.end().await;
    }

    /// Reads until it is known what becomes of the request.
    async fn plan(&self, client: &mut Client, timeout: Duration) -> Plan {
        let mut due = Some(client.began + timeout);
        loop {
            let clock = self.resources.gateway.read_clock().await;
            match plan(&self.resources.gateway, client, clock, self.takes_plain) {
                Plan::More => {}
                other => return other,
            }
            if client.more_bytes(timeout, &mut due).await != Came::Bytes {
                return Plan::Detour(Declined::Incomplete, None);
            }
        }
    }

    /// Has the engine serve a request, of which nothing was answered or sent. Where its length is known the connection comes back.
    async fn detour<A>(
        &self,
        client: Client,
        length: Option<u64>,
        limits: &Limits,
        engine: &Arc<ConnectionApp<A>>,
        stopping: &ShutdownWatch,
    ) -> Option<Client>
    where
        A: HttpServerApp + Send + Sync + 'static,
    {
        let Client { stream, connection, input, began, is_tls, .. } = client;
        let metrics = Arc::clone(&self.resources.gateway.shared.metrics);
        let limited = LimitedStream::new(stream, Arc::clone(&connection), *limits, metrics);
        let limited = Box::new(limited.resume(Replay::new(&input, length), began));
        self.resources.heads.give_back(input);
        if length.is_none() {
            engine.process_new(limited, stopping).await;
            return None;
        }
        let mut session = ServerSession::new_http1(limited);
        session.set_keepalive((!*stopping.borrow()).then_some(60));
        let (stream, _) = engine.process_new_http(session, stopping).await?.consume();
        let (stream, replay) = stream.into_any().downcast::<LimitedStream>().ok()?.into_parts();
        let mut input = self.resources.heads.lend();
        input.extend_from_slice(replay.rest());
        let mut client = Client::new(stream, connection, limits.keepalive_timeout);
        (client.input, client.is_tls) = (input, is_tls);
        Some(client)
    }

    /// Answers a request here; whether the connection goes on.
    async fn answer(&self, client: &mut Client, mut taken: Taken, reply: &Reply) -> bool {
        let mut work = self.resources.work();
        client.request = taken.extent;
        client.lingers |= taken.handshake.is_some();
        taken.closes |= self.resources.is_stopping();
        let goes_on = send_reply(client, &taken, reply, &mut work.out).await && !taken.closes;
        work.give_back(&self.resources);
        let sent = if taken.is_head { 0 } else { reply.body.len() as u64 };
        self.done(client, &taken, &Ended { status: reply.status, sent, goes_on, ..Ended::default() });
        goes_on
    }

    /// Forwards a request; whether the connection goes on.
    async fn forward(
        &self,
        client: &mut Client,
        mut taken: Taken,
        stop: Pin<&mut impl Future<Output = ()>>,
    ) -> bool {
        let mut work = self.resources.work();
        (client.request, client.half_close) = (taken.extent, taken.state.runtime.half_close);
        client.asks_upgrade = taken.handshake.is_some();
        client.lingers |= client.asks_upgrade;
        let (limit, mut watched) = (taken.limit, taken.state.watched.take());
        let (mut ended, mut switched) = (Ended::default(), None);
        let cut = {
            let exchange = pin!(async {
                switched = http1::forward(&self.resources, client, &mut taken, &mut work, &mut ended).await;
            });
            within(limit, &mut watched, exchange).await
        };
        ended.cut(cut, &self.resources);
        match switched.filter(|_| cut.is_none()) {
            None => work.give_back(&self.resources),
            Some(platform) => {
                let (stream, bounds) = (platform.stream, Bounds { watched, stop });
                let served =
                    tunnel::serve(&self.resources, client, &mut taken, stream, work, bounds, &mut ended);
                // Seldom, and large: not a part of every connection's task.
                Box::pin(served).await;
            }
        }
        self.done(client, &taken, &ended);
        ended.goes_on
    }

    /// Counts and logs a request that has ended, and makes room for the next one.
    fn done(&self, client: &mut Client, taken: &Taken, ended: &Ended) {
        let mut fields = no_fields();
        record(&self.resources, taken, ended, || match Head::read(&client.input, &mut fields) {
            Read::Whole(head) => Some(head.exchange()),
            Read::Part | Read::Unreadable => None,
        });
        client.consume();
        // The next one may need less room.
        if client.input.is_empty() && client.input.capacity() > HEAD_BYTES {
            self.resources.give_back(std::mem::take(&mut client.input));
        }
    }
}
