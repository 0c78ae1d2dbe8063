//! A worker: a thread with a runtime and an application of its own, so that a connection, its requests and their connections
//! to the platform stay on one core.

use std::io;
use std::net::{SocketAddr, TcpStream as StdStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use pingora::apps::{HttpServerApp, ServerApp};
use pingora::protocols::{ALPN, Ssl as _, Stream};
use pingora::server::ShutdownWatch;
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::admission::{RefusalSlot, Slot};
use super::connection::{ACCEPT_GRACE, LimitedStream, refuse};
use super::connection_context::Connection;
use super::connection_log::ConnectionLog;
use super::cut::ConnectionApp;
use super::ending::Ending;
use super::lane::Lane;
use super::proxy_protocol::read_header;
use super::quota::Budget;
use super::socket::Socket;
use crate::auth::client_address::ClientAddress;
use crate::auth::reply::Reply;
use crate::config::{Limits, Networks};
use crate::metrics::{ConnectionEnd, Metrics};
use crate::thread_slot;
use crate::tls::acceptor::{HandshakeError, Offer, TlsAcceptor};

/// A connection that was accepted, not yet known to any runtime.
pub(super) struct Accepted {
    /// Its place, or leave to say that there is none. Before the socket, whose number it has.
    pub(super) slot: Result<Slot, RefusalSlot>,
    pub(super) socket: StdStream,
    pub(super) client: SocketAddr,
    /// The first thing that it says is who the client is.
    pub(super) expects_proxy_header: bool,
    /// With TLS, if any.
    pub(super) tls: Option<Arc<TlsAcceptor>>,
}

/// What the connections of all workers have in common.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) rules: Arc<ArcSwap<ConnectionRules>>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) log: Arc<ConnectionLog>,
    pub(super) ending: Arc<Ending>,
}

/// What a connection is accepted by. A reload may replace it; a connection keeps the limits that it began with.
pub(super) struct ConnectionRules {
    pub(super) limits: Limits,
    /// Peers whose word about a client counts.
    pub(super) proxies: Arc<Networks>,
}

/// Where a worker is given its connections. Dropped, it tells the worker that there will be no more.
pub(super) struct Inbox(UnboundedSender<Accepted>);

impl Inbox {
    /// Hands over a connection; the worker is woken once.
    pub(super) fn send(&self, accepted: Accepted) {
        // A worker takes them until this is dropped. One that panicked lets its connections go.
        let _ = self.0.send(accepted);
    }
}

/// Starts a worker, which runs until the process ends.
pub(super) fn start<A>(name: &str, number: usize, app: App<A>, shared: Shared) -> io::Result<Inbox>
where
    A: HttpServerApp + Send + Sync + 'static,
{
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let (sender, inbox) = unbounded_channel();
    thread::Builder::new().name(format!("{name} {number}")).spawn(move || {
        // Each has a shard of the cache to itself.
        thread_slot::assign(number);
        runtime.block_on(Worker { app: Arc::new(app), shared }.run(inbox));
    })?;
    Ok(Inbox(sender))
}

/// What a worker serves its connections with.
pub struct App<A> {
    /// Everything that the lane does not take, and all of HTTP/2.
    pub engine: Arc<A>,
    /// Plain requests and those that change the protocol of their connection, where there is one.
    pub lane: Option<Lane>,
    /// What all requests of the worker may take.
    pub budget: Arc<Budget>,
}

struct Worker<A> {
    app: Arc<App<A>>,
    shared: Shared,
}

impl<A: HttpServerApp + Send + Sync + 'static> Worker<A> {
    async fn run(self, mut inbox: UnboundedReceiver<Accepted>) {
        // One for each worker: what all connections look at would else be one word for all cores.
        let (stop, stopping) = watch::channel(false);
        while let Some(accepted) = inbox.recv().await {
            let (app, shared) = (Arc::clone(&self.app), self.shared.clone());
            let stopping = stopping.clone();
            tokio::spawn(async move { serve(accepted, &app, &shared, &stopping).await });
        }
        stop.send_replace(true);
        // What was accepted last has its request on the way.
        sleep(ACCEPT_GRACE).await;
        // A client that keeps its connection may be about to use it: where somebody accepts in our place there is time for that.
        while self.shared.ending.is_handed_over() {
            sleep(LOOK).await;
        }
        self.app.lane.iter().for_each(Lane::end_idle);
        self.app.engine.http_cleanup().await;
        std::future::pending().await
    }
}

/// How often it is looked whether the end of a process that was replaced is to be sooner.
const LOOK: Duration = Duration::from_millis(100);

/// Serves a connection until it ends.
async fn serve<A>(accepted: Accepted, app: &App<A>, shared: &Shared, stopping: &ShutdownWatch)
where
    A: HttpServerApp + Send + Sync + 'static,
{
    let Accepted { socket, mut client, slot, expects_proxy_header, tls } = accepted;
    let limits = shared.rules.load().limits;
    let is_listed = |client: SocketAddr| shared.rules.load().proxies.contains(client.ip());
    let Ok(mut socket) = TcpStream::from_std(socket) else {
        return;
    };
    let (slot, refusal) = match slot {
        Ok(slot) => (Some(slot), None),
        Err(refusal) => (None, Some(refusal)),
    };
    let mut is_proxy = is_listed(client);
    if expects_proxy_header {
        match timeout(limits.header_timeout, read_header(&mut socket)).await {
            Ok(Ok(Some(told))) => {
                client = SocketAddr::new(told.ip().to_canonical(), told.port());
                is_proxy = is_listed(client);
            }
            // Of nobody that it knows: what follows is not the balancer's word.
            Ok(Ok(None)) => is_proxy = false,
            Ok(Err(_)) | Err(_) => return shared.log.count(ConnectionEnd::ProxyHeader, Some(client)),
        }
        if slot.as_ref().is_some_and(|slot| slot.readdress(client.ip(), is_proxy).is_err()) {
            return shared.log.count(ConnectionEnd::RefusedAddress, Some(client));
        }
    }
    let activity = slot.as_ref().map(|slot| Arc::clone(slot.activity()));
    let socket = Socket::new(socket, client, slot, limits.write_timeout);
    let offer = if refusal.is_some() { Offer::Http1 } else { Offer::Any };
    let mut is_http2 = false;
    let stream: Stream = match tls {
        None => Box::new(socket),
        Some(tls) => match tls.accept(socket, offer, limits.handshake_timeout).await {
            Ok(stream) => {
                is_http2 = matches!(stream.selected_alpn_proto(), Some(ALPN::H2));
                Box::new(stream)
            }
            Err(error) => {
                let reason = match error {
                    HandshakeError::PlainHttp => ConnectionEnd::PlainHttp,
                    HandshakeError::Failed => ConnectionEnd::Handshake,
                    HandshakeError::TimedOut => ConnectionEnd::HandshakeTimeout,
                };
                return shared.log.count(reason, Some(client));
            }
        },
    };
    let Some(activity) = activity else {
        refuse(stream, &Reply::too_many_connections(), &shared.metrics).await;
        return drop(refusal);
    };
    let peer = ClientAddress::of_socket(client);
    let connection = Connection::new(peer, is_proxy, is_http2, activity, Arc::clone(&app.budget));
    let engine = ConnectionApp::new(Arc::clone(&app.engine), limits);
    match &app.lane {
        Some(lane) if !is_http2 && lane.takes_any() => {
            lane.serve(stream, connection, &limits, &engine, stopping).await
        }
        lane => {
            let stream = LimitedStream::new(stream, connection, limits, Arc::clone(&shared.metrics));
            match lane.as_ref().filter(|lane| is_http2 && lane.takes_plain()) {
                Some(lane) => lane.streams(engine).process_new(Box::new(stream), stopping).await,
                None => engine.process_new(Box::new(stream), stopping).await,
            };
        }
    }
}
