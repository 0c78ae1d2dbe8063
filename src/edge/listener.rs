//! Listeners that are bound by us, before anything runs, so that a port that is taken is an error at the
//! start and not a process without a listener.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::IntoRawFd;
use std::sync::Arc;

use async_trait::async_trait;
use openssl::ssl::{SslAcceptor, SslMethod};
use parking_lot::Mutex;
use pingora::apps::ServerApp;
use pingora::listeners::tls::TlsSettings;
use pingora::server::{Fds, ListenFds, ShutdownWatch};
use pingora::services::listening::Service;
use pingora::services::{Service as PlainService, ServiceReadyNotifier, ServiceWithDependents};
use tokio::sync::watch::Sender;

use crate::config::CertifiedKey;

/// A socket that accepts already; connections wait in its backlog until a service takes it.
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
}

impl Bound {
    /// Binds `address`; port 0 means any. An error names the `kind` of listener.
    pub fn bind(kind: &'static str, address: SocketAddr) -> io::Result<Self> {
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("cannot listen on {address} ({kind}): {error}"))
        };
        let listener = TcpListener::bind(address).map_err(named)?;
        listener.set_nonblocking(true).map_err(named)?;
        let address = listener.local_addr().map_err(named)?;
        Ok(Self { listener, address })
    }

    /// Where it listens, the port chosen.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

/// A service on sockets that were bound before.
pub struct Prebound<A> {
    service: Service<A>,
    sockets: Vec<Bound>,
    until_exit: Option<Sender<bool>>,
}

impl<A: ServerApp + Send + Sync + 'static> Prebound<A> {
    /// An application on these sockets, without TLS.
    pub fn new(name: &str, app: A, sockets: Vec<Bound>) -> Self {
        let mut service = Service::new(name.to_owned(), app);
        for socket in &sockets {
            service.add_tcp(&socket.address.to_string());
        }
        Self { service, sockets, until_exit: None }
    }

    /// Serves on while the rest stops, until the process is gone.
    pub fn until_exit(mut self) -> Self {
        self.until_exit = Some(Sender::new(false));
        self
    }

    /// The number of worker threads, where it is not the server's.
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.service.threads = Some(threads);
        self
    }

    /// Adds sockets with TLS 1.2 and 1.3.
    pub fn with_tls(mut self, sockets: Vec<Bound>, pair: &CertifiedKey) -> io::Result<Self> {
        for socket in &sockets {
            let settings = tls(pair).map_err(io::Error::other)?;
            self.service.add_tls_with_settings(&socket.address.to_string(), None, settings);
        }
        self.sockets.extend(sockets);
        Ok(self)
    }
}

fn tls(pair: &CertifiedKey) -> Result<TlsSettings, openssl::error::ErrorStack> {
    // Mozilla's intermediate profile, version 5.
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls())?;
    let mut chain = pair.chain.iter();
    if let Some(leaf) = chain.next() {
        builder.set_certificate(leaf)?;
    }
    for intermediate in chain {
        builder.add_extra_chain_cert(intermediate.clone())?;
    }
    builder.set_private_key(&pair.key)?;
    builder.check_private_key()?;
    let mut settings = TlsSettings::from(builder);
    settings.enable_h2();
    Ok(settings)
}

#[async_trait]
impl<A: ServerApp + Send + Sync + 'static> ServiceWithDependents for Prebound<A> {
    async fn start_service(
        &mut self,
        fds: Option<ListenFds>,
        shutdown: ShutdownWatch,
        listeners_per_fd: usize,
        ready: ServiceReadyNotifier,
    ) {
        let table = fds.unwrap_or_else(|| Arc::new(Mutex::new(Fds::new())));
        for socket in self.sockets.drain(..) {
            let address = socket.address.to_string();
            let mut table = table.lock();
            // After an upgrade the old process's socket is there already.
            if table.get(&address).is_none() {
                table.add(address, socket.listener.into_raw_fd());
            }
        }
        let shutdown = self.until_exit.as_ref().map_or(shutdown, Sender::subscribe);
        ready.notify_ready();
        PlainService::start_service(&mut self.service, Some(table), shutdown, listeners_per_fd).await;
    }

    fn name(&self) -> &str {
        PlainService::name(&self.service)
    }

    fn threads(&self) -> Option<usize> {
        self.service.threads
    }

    fn listen_addresses(&self) -> Option<Vec<String>> {
        PlainService::listen_addresses(&self.service)
    }
}
