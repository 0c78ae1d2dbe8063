//! Listeners: bound before anything runs, so that a port that is taken is an error at the start and not a process without a
//! listener; then one thread that accepts, counts, and hands each connection to the worker with the fewest.
//!
//! The engine's own listeners poll a socket on one thread and serve it on another, count a TLS connection only after its
//! handshake, and give that 60 s. See decision 0006.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pingora::apps::HttpServerApp;
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::{ServiceReadyNotifier, ServiceWithDependents};
use socket2::{Domain, SockRef, Socket, Type};
use tokio::sync::oneshot;

use super::admission::{Admission, Bounds, Refusal};
use super::connection_log::ConnectionLog;
use super::ending::Ending;
use super::worker::{self, Accepted, App, ConnectionRules, Inbox};
use crate::config::{Limits, Networks};
use crate::metrics::{ConnectionEnd, Metrics};
use crate::tls::acceptor::TlsAcceptor;

/// A socket that accepts already; connections wait in its backlog until a service takes it.
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    expects_proxy_header: bool,
}

impl Bound {
    /// Binds `address`; port 0 means any. An error names the `kind` of listener.
    pub fn bind(kind: &'static str, address: SocketAddr) -> io::Result<Self> {
        Self::take(kind, address, TcpListener::bind(address))
    }

    /// The same, of an IPv6 address whose port belongs to somebody else on IPv4.
    pub fn bind_ipv6_only(kind: &'static str, address: SocketAddr) -> io::Result<Self> {
        let bound = || {
            let socket = Socket::new(Domain::IPV6, Type::STREAM, None)?;
            socket.set_only_v6(true)?;
            // As the standard library's have it.
            socket.set_reuse_address(true)?;
            socket.bind(&address.into())?;
            socket.listen(BACKLOG)?;
            Ok(socket.into())
        };
        Self::take(kind, address, bound())
    }

    /// One that listens already, where `address` says; as a socket of this kind.
    pub fn of(kind: &'static str, address: SocketAddr, listener: TcpListener) -> io::Result<Self> {
        Self::take(kind, address, Ok(listener))
    }

    /// The same socket once more.
    pub fn duplicate(&self) -> io::Result<TcpListener> {
        self.listener.try_clone()
    }

    fn take(kind: &'static str, address: SocketAddr, bound: io::Result<TcpListener>) -> io::Result<Self> {
        let named = |error: io::Error| {
            let hint = match error.kind() {
                io::ErrorKind::AddrInUse => ": another process listens there",
                io::ErrorKind::AddrNotAvailable => ": this machine has no such address",
                io::ErrorKind::PermissionDenied if address.port() < 1024 => {
                    ": ports below 1024 need CAP_NET_BIND_SERVICE"
                }
                _ => "",
            };
            io::Error::new(error.kind(), format!("cannot listen on {address} ({kind}): {error}{hint}"))
        };
        let listener = bound.map_err(named)?;
        listener.set_nonblocking(true).map_err(named)?;
        // Both are inherited by what is accepted.
        let options = SockRef::from(&listener);
        options.set_tcp_nodelay(true).map_err(named)?;
        options.set_tcp_notsent_lowat(UNSENT_BYTES).map_err(named)?;
        let address = listener.local_addr().map_err(named)?;
        Ok(Self { listener, address, expects_proxy_header: false })
    }

    /// Each connection begins with a PROXY header, if so.
    pub const fn expect_proxy_header(mut self, expects: bool) -> Self {
        self.expects_proxy_header = expects;
        self
    }

    /// Where it listens, the port chosen.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

/// A service that accepts connections and has them served by its workers.
pub struct Listeners {
    name: &'static str,
    endpoints: Vec<Endpoint>,
    acceptor: Option<Arc<Acceptor>>,
    bounds: ConnectionBounds,
    ending: Arc<Ending>,
    serves_until_exit: bool,
}

/// Where connections come in.
struct Endpoint {
    bound: Bound,
    tls: Option<Arc<TlsAcceptor>>,
}

/// Where they go.
struct Acceptor {
    inboxes: Vec<Inbox>,
    admission: Arc<Admission>,
    log: Arc<ConnectionLog>,
    rules: Arc<ArcSwap<ConnectionRules>>,
}

/// What of a listener follows a reload: which connections are accepted, and by which limits.
#[derive(Clone)]
pub struct ConnectionBounds {
    rules: Arc<ArcSwap<ConnectionRules>>,
    admission: Arc<Admission>,
}

impl ConnectionBounds {
    /// New connections are accepted by these from now on.
    pub fn set(&self, limits: Limits, proxies: Arc<Networks>) {
        self.admission.set_bounds(bounds(&limits));
        self.rules.store(Arc::new(ConnectionRules { limits, proxies }));
    }
}

const fn bounds(limits: &Limits) -> Bounds {
    Bounds { connections: limits.connections, per_address: limits.connections_per_address }
}

impl Listeners {
    /// Starts a worker for each application, with what it may take.
    pub fn new<A>(
        name: &'static str,
        apps: Vec<App<A>>,
        limits: Limits,
        proxies: Arc<Networks>,
        metrics: Arc<Metrics>,
        ending: &Arc<Ending>,
    ) -> io::Result<Self>
    where
        A: HttpServerApp + Send + Sync + 'static,
    {
        let admission = Admission::new(bounds(&limits), apps.len(), Arc::clone(&metrics));
        let log = Arc::new(ConnectionLog::new(Arc::clone(&metrics)));
        let rules = Arc::new(ArcSwap::from_pointee(ConnectionRules { limits, proxies }));
        let (shared_log, ending) = (Arc::clone(&log), Arc::clone(ending));
        let shared = worker::Shared {
            rules: Arc::clone(&rules),
            metrics,
            log: shared_log,
            ending: Arc::clone(&ending),
        };
        let start = |(number, app)| worker::start(name, number, app, shared.clone());
        let inboxes = (0..).zip(apps).map(start).collect::<io::Result<_>>()?;
        let bounds = ConnectionBounds { rules: Arc::clone(&rules), admission: Arc::clone(&admission) };
        let acceptor = Some(Arc::new(Acceptor { inboxes, admission, log, rules }));
        Ok(Self { name, endpoints: Vec::new(), acceptor, bounds, ending, serves_until_exit: false })
    }

    /// What of it follows a reload.
    pub fn bounds(&self) -> ConnectionBounds {
        self.bounds.clone()
    }

    /// Accepts on these sockets, with TLS if so.
    pub fn listen(mut self, sockets: Vec<Bound>, tls: Option<&Arc<TlsAcceptor>>) -> Self {
        self.endpoints.extend(sockets.into_iter().map(|bound| Endpoint { bound, tls: tls.cloned() }));
        self
    }

    /// Serves on while the rest stops, until the process is gone or a successor accepts in its place.
    pub const fn until_exit(mut self) -> Self {
        self.serves_until_exit = true;
        self
    }
}

impl Acceptor {
    /// Accepts on every endpoint until `stop` is closed.
    fn run(&self, endpoints: &[Endpoint], stop: &UnixStream) -> io::Result<()> {
        let polled = |socket| PollFd::new(socket, PollFlags::POLLIN);
        loop {
            let listeners = endpoints.iter().map(|endpoint| polled(endpoint.bound.listener.as_fd()));
            let mut ready: Vec<PollFd<'_>> = [polled(stop.as_fd())].into_iter().chain(listeners).collect();
            match poll(&mut ready, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            // First what is in the backlogs: to close a listener resets it.
            let is_full = endpoints.iter().fold(false, |is_full, endpoint| self.accept(endpoint) | is_full);
            let is_stopping = ready.first().and_then(PollFd::any) == Some(true);
            if is_stopping && !is_full {
                return Ok(());
            }
        }
    }

    /// Accepts what has come to one socket; whether there may be more.
    fn accept(&self, endpoint: &Endpoint) -> bool {
        for _ in 0..AT_ONCE {
            match endpoint.bound.listener.accept() {
                Ok((socket, client)) => self.take(socket, client, endpoint),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) if is_of_process(&error) => {
                    self.log.count(ConnectionEnd::NoDescriptor, None);
                    thread::sleep(PAUSE);
                    return false;
                }
                // Of the connection, which was gone before it was accepted.
                Err(_) => {}
            }
        }
        true
    }

    /// Finds a place for a connection and hands it over.
    fn take(&self, socket: TcpStream, client: SocketAddr, endpoint: &Endpoint) {
        // IPv4 over an IPv6 socket is IPv4 to everybody who reads of it.
        let client = SocketAddr::new(client.ip().to_canonical(), client.port());
        if socket.set_nonblocking(true).is_err() {
            return;
        }
        let is_proxy = self.rules.load().proxies.contains(client.ip());
        if endpoint.bound.expects_proxy_header && !is_proxy {
            return self.log.count(ConnectionEnd::ProxyHeader, Some(client));
        }
        let admitted = self.admission.admit(client.ip(), is_proxy, socket.as_raw_fd(), Instant::now());
        let (slot, worker) = match admitted {
            Ok((slot, has_ended_another)) => {
                if has_ended_another {
                    self.log.count(ConnectionEnd::Yielded, None);
                }
                let worker = slot.worker();
                (Ok(slot), worker)
            }
            Err(refusal) => {
                let reason = match refusal {
                    Refusal::Connections => ConnectionEnd::Refused,
                    Refusal::Address => ConnectionEnd::RefusedAddress,
                };
                self.log.count(reason, Some(client));
                // Where many are being told already, this one just ends.
                let Some(slot) = self.admission.refuse() else {
                    return;
                };
                (Err(slot), usize::from(client.port()) % self.inboxes.len().max(1))
            }
        };
        if let Some(inbox) = self.inboxes.get(worker) {
            let expects_proxy_header = endpoint.bound.expects_proxy_header;
            inbox.send(Accepted { socket, client, slot, expects_proxy_header, tls: endpoint.tls.clone() });
        }
    }
}

#[async_trait]
impl ServiceWithDependents for Listeners {
    async fn start_service(
        &mut self,
        _fds: Option<ListenFds>,
        shutdown: ShutdownWatch,
        _listeners_per_fd: usize,
        ready: ServiceReadyNotifier,
    ) {
        ready.notify_ready();
        let Some(acceptor) = self.acceptor.take() else {
            return;
        };
        let endpoints = std::mem::take(&mut self.endpoints);
        self.ending.accepts();
        let accepting = UnixStream::pair().and_then(|(stop, stopped)| {
            let (done, is_done) = oneshot::channel();
            thread::Builder::new().name(format!("{} accept", self.name)).spawn(move || {
                if let Err(error) = acceptor.run(&endpoints, &stopped) {
                    give_up(&error);
                }
                // By the end of the acceptor its workers see that there will be no more.
                drop(acceptor);
                // Nobody waits where the process is gone.
                let _ = done.send(());
            })?;
            Ok((stop, is_done))
        });
        match accepting {
            Ok((stop, is_done)) => {
                stopped(shutdown).await;
                if self.serves_until_exit && !self.ending.is_handed_over() {
                    self.ending.accepts_no_more();
                    return std::future::pending().await;
                }
                drop(stop);
                let _ = is_done.await;
                self.ending.accepts_no_more();
            }
            Err(error) => give_up(&error),
        }
    }

    fn name(&self) -> &str {
        self.name
    }

    fn threads(&self) -> Option<usize> {
        Some(1)
    }
}

/// A process that accepts nothing is worse than none: its supervisor starts it again.
fn give_up(error: &io::Error) -> ! {
    log::error!("connections cannot be accepted: {error}");
    log::logger().flush();
    std::process::exit(1)
}

/// Resolves once the process accepts no more.
async fn stopped(mut shutdown: ShutdownWatch) {
    while !*shutdown.borrow() {
        if shutdown.changed().await.is_err() {
            return;
        }
    }
}

/// Is this an error that the next connection would meet as well?
fn is_of_process(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM))
}

/// What the kernel holds for a client beyond what is on its way. Much more, and a client that takes nothing would hold megabytes
/// of it, and one that takes little would seem to take nothing for minutes.
const UNSENT_BYTES: u32 = 16 * 1024;

/// Connections that wait to be accepted, as with the standard library's sockets.
const BACKLOG: i32 = 128;

/// Connections that are accepted before other listeners have their turn.
const AT_ONCE: usize = 64;

/// How long a process without descriptors waits before it accepts again.
const PAUSE: Duration = Duration::from_millis(100);
