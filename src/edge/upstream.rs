//! The platform: which server a request goes to, and which are left alone.
//!
//! No peer without a [`Pass`]: anyone who asks for one shows that the check happened. Names are resolved, and servers that were left out
//! are probed, beside the requests. A request takes no lock here, and writes to nothing that another core reads unless something fails.

mod budget;
mod fault_log;
mod health;
mod names;
mod peers;
mod probe;
mod tries;

use std::convert::Infallible;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use http::HeaderValue;
use openssl::x509::X509;
use pingora::upstreams::peer::HttpPeer;

use self::budget::Turns;
use self::fault_log::FaultLog;
use self::health::Health;
use self::names::{Address, Names};
use self::tries::Trial;
use crate::auth::gate::Pass;
use crate::config::{CertifiedKey, Ejection, HostField, ServerPool};
use crate::metrics::{Addresses, ServerMetrics, TryFault};

pub use self::peers::{Times, is_verified};
pub use self::tries::{MAX_TRIES, Tries};

/// Servers that may each answer any of the requests that come to them.
pub struct Upstream {
    endpoints: ArcSwap<Vec<Endpoint>>,
    servers: Vec<Server>,
    host: HostField,
    ejection: Ejection,
    connect_timeout: Duration,
    times: Times,
    turns: Turns,
    metrics: Arc<ServerMetrics>,
    started: Instant,
    /// Dropped with it, it ends the thread that looks up its names: a reload may replace it often.
    _is_used: Sender<Infallible>,
}

/// One address of a server.
struct Endpoint {
    id: u64,
    server: usize,
    address: Address,
    peer: HttpPeer,
    health: Arc<Health>,
}

/// One server, as configured.
struct Server {
    name: String,
    /// Its number in the metrics.
    metric: usize,
    template: HttpPeer,
    host: HeaderValue,
    log: FaultLog,
}

/// What the platform's `Host` field is to be.
#[derive(Clone, Copy, Debug)]
pub struct Host<'u> {
    /// This, where the client's is not kept or there is none.
    pub value: &'u HeaderValue,
    /// Is the client's kept?
    pub keeps: bool,
}

impl Upstream {
    /// Resolves every server once; later each name keeps its last addresses if it cannot be resolved. `ca` stands in for the
    /// system's certificates, and `client` is what the gateway shows the platform. A server that has no address yet goes to
    /// `warnings`.
    ///
    /// # Errors
    ///
    /// No server has an address.
    pub fn new(
        pool: &ServerPool,
        ca: Option<Vec<X509>>,
        client: Option<CertifiedKey>,
        metrics: &Arc<ServerMetrics>,
        warnings: &mut Vec<String>,
    ) -> std::io::Result<Arc<Self>> {
        let ca = ca.map(|chain| Arc::new(chain.into_boxed_slice()));
        let client = client.map(peers::client_key);
        let mut servers = Vec::new();
        for server in &pool.servers {
            servers.push(Server {
                name: server.name.clone(),
                metric: metrics.number(&server.name),
                template: peers::template(pool, server, ca.as_ref(), client.as_ref()),
                host: host_value(match &pool.host {
                    HostField::Name(name) => name,
                    HostField::Keep | HostField::Server => &server.host,
                })?,
                log: FaultLog::default(),
            });
        }
        let mut names = Names::new(&pool.servers);
        warnings.extend(names.resolve()?);
        let (is_used, is_dropped) = channel();
        let upstream = Arc::new(Self {
            endpoints: ArcSwap::default(),
            servers,
            host: pool.host.clone(),
            ejection: pool.ejection,
            connect_timeout: pool.connect_timeout,
            times: Times::of(pool),
            turns: Turns::new(),
            metrics: Arc::clone(metrics),
            started: Instant::now(),
            _is_used: is_used,
        });
        upstream.take_over(&names)?;
        if !names.are_literal() {
            let (weak, interval) = (Arc::downgrade(&upstream), pool.resolve_interval);
            let take_over = move |names: &Names| {
                if let Some(Err(error)) = weak.upgrade().map(|upstream| upstream.take_over(names)) {
                    log::warn!("the platform's addresses cannot be used: {error}");
                }
            };
            let refresh = move || names.refresh(interval, &is_dropped, take_over);
            thread::Builder::new().name("resolver".into()).spawn(refresh)?;
        }
        Ok(upstream)
    }

    /// The server for the next try of a request that was let through. One that failed it has no turn, which go to all others alike.
    pub fn peer(&self, _pass: &Pass, tries: &mut Tries) -> Option<Box<HttpPeer>> {
        self.own_peer(tries)
    }

    /// The address of that server, for a carrier that keeps connections by itself, and whether only a new connection will do.
    pub fn address(&self, _pass: &Pass, tries: &mut Tries) -> Option<(u64, bool)> {
        let id = self.choose(&self.endpoints.load(), tries)?.id;
        Some((id, tries.needs_new()))
    }

    /// How to connect to an address, if it still is one.
    pub fn peer_at(&self, id: u64) -> Option<HttpPeer> {
        let endpoints = self.endpoints.load();
        endpoints.iter().find(|endpoint| endpoint.id == id).map(|endpoint| endpoint.peer.clone())
    }

    /// The times that its connections have.
    pub const fn times(&self) -> Times {
        self.times
    }

    /// The same for a request of the gateway's own.
    pub(super) fn own_peer(&self, tries: &mut Tries) -> Option<Box<HttpPeer>> {
        let endpoints = self.endpoints.load();
        let mut peer = Box::new(self.choose(&endpoints, tries)?.peer.clone());
        if tries.needs_new() {
            peers::without_kept(&mut peer, next_id());
        }
        Some(peer)
    }

    fn choose<'e>(&self, endpoints: &'e [Endpoint], tries: &mut Tries) -> Option<&'e Endpoint> {
        let trial = if tries.count() == 0 {
            self.turns.deposit();
            let now = || self.started.elapsed();
            endpoints.iter().find_map(|endpoint| Some((endpoint, Trial::of(&endpoint.health, now)?)))
        } else {
            None
        };
        let (endpoint, trial) = match trial {
            Some((endpoint, trial)) => (endpoint, Some(trial)),
            None => (self.in_turn(endpoints, tries)?, None),
        };
        tries.begin(endpoint.id, endpoint.server, trial);
        self.metrics.tried(self.servers.get(endpoint.server)?.metric);
        Some(endpoint)
    }

    fn in_turn<'e>(&self, endpoints: &'e [Endpoint], tries: &Tries) -> Option<&'e Endpoint> {
        let in_use = || endpoints.iter().filter(|endpoint| endpoint.health.is_in_use());
        let count = in_use().count();
        // A try of the same request again comes to the same server only if there is no other.
        for _ in 0..count {
            let endpoint = in_use().nth(self.turns.next().checked_rem(count)?);
            if let Some(endpoint) = endpoint.filter(|endpoint| !tries.has(endpoint.id)) {
                return Some(endpoint);
            }
        }
        let any = self.turns.next();
        in_use()
            .nth(any.checked_rem(count).unwrap_or(0))
            .or_else(|| endpoints.get(any.checked_rem(endpoints.len())?))
    }

    /// May a request that failed be tried again, as far as that is not up to the request? A server that it has not tried is
    /// needed where `elsewhere`.
    pub fn may_retry(&self, tries: &Tries, elsewhere: bool) -> Retry {
        let endpoints = self.endpoints.load();
        let is_other = |endpoint: &Endpoint| endpoint.health.is_in_use() && !tries.has(endpoint.id);
        if tries.count() >= MAX_TRIES || (elsewhere && !endpoints.iter().any(is_other)) {
            Retry::Nowhere
        } else if self.turns.withdraw() {
            Retry::Granted
        } else {
            Retry::OverBudget
        }
    }

    /// The server of the last try answered so long after the request was handed to it.
    pub fn answered(&self, tries: &mut Tries, status: u16, elapsed: Option<Duration>) {
        if let (Some(server), Some(elapsed)) = (tries.server().and_then(|at| self.servers.get(at)), elapsed) {
            self.metrics.answered(server.metric, elapsed);
        }
        if self.ejection.on_errors && status >= 500 {
            return self.failed(tries, TryFault::ServerError);
        }
        let endpoints = self.endpoints.load();
        let Some(endpoint) = endpoints.iter().find(|endpoint| Some(endpoint.id) == tries.last()) else {
            return;
        };
        endpoint.health.succeed();
        if let Some(_trial) = tries.take_trial() {
            endpoint.health.readmit();
            let (server, address) = (self.name(endpoint.server), endpoint.address.to_string());
            log::info!(server, address; "platform server is in use again");
        }
    }

    /// The request ended before it had an answer, and not by its server's doing. If it tried out whether the server is back, the next one
    /// would find no more: a server that says nothing would get one request after another.
    pub fn abandoned(&self, tries: &mut Tries) {
        if tries.is_trial() {
            self.failed(tries, TryFault::Abandoned);
        }
    }

    /// The last try failed: counted, logged, and, if that was once too often, the server is left out for a while.
    pub fn failed(&self, tries: &mut Tries, fault: TryFault) {
        let trial = tries.take_trial();
        if fault == TryFault::KeptConnectionClosed {
            // Others that were kept with it may be closed too.
            tries.need_new();
        }
        let (Some(server), Some(id)) = (tries.server().and_then(|at| self.servers.get(at)), tries.last())
        else {
            return;
        };
        self.metrics.failed(server.metric, fault);
        let endpoints = self.endpoints.load();
        let endpoint = endpoints.iter().find(|endpoint| endpoint.id == id);
        let address = endpoint.map(|endpoint| &endpoint.address);
        server.log.count(&server.name, address, fault, self.started.elapsed());
        let (Some(after), Some(endpoint)) = (self.ejection.after, endpoint) else {
            return;
        };
        if trial.is_some() {
            // These say nothing of the server, and the next request tries it.
            let says_nothing = matches!(fault, TryFault::Local | TryFault::KeptConnectionClosed);
            if !says_nothing && endpoint.health.trial_failed() {
                self.probe(endpoint);
            }
            return;
        }
        let is_too_many = || endpoint.health.fail() >= after.get() && endpoint.health.is_in_use();
        if self.counts(fault) && is_too_many() {
            self.eject(&endpoints, endpoint, fault, after);
        }
    }

    /// Does a fault say that its server is sick? One that is slow, or whose answers are errors, may be asked for much.
    const fn counts(&self, fault: TryFault) -> bool {
        match fault {
            TryFault::ConnectRefused
            | TryFault::ConnectTimeout
            | TryFault::ConnectFailed
            | TryFault::Tls
            | TryFault::Closed => true,
            TryFault::ReadTimeout | TryFault::WriteTimeout => self.ejection.on_timeouts,
            TryFault::ServerError => self.ejection.on_errors,
            TryFault::Local
            | TryFault::KeptConnectionClosed
            | TryFault::Malformed
            | TryFault::EndlessInterim
            | TryFault::Abandoned => false,
        }
    }

    /// Leaves an address out, unless more than half would be: what fails everywhere is not mended by asking fewer.
    fn eject(&self, endpoints: &[Endpoint], endpoint: &Endpoint, fault: TryFault, after: NonZeroU32) {
        let is_too_many = |out: usize| out * 2 > endpoints.len();
        let out = || endpoints.iter().filter(|endpoint| !endpoint.health.is_in_use()).count();
        if is_too_many(out() + 1) || !endpoint.health.eject() {
            return;
        }
        // Another worker may have left out another one meanwhile.
        if is_too_many(out()) {
            endpoint.health.readmit();
            return;
        }
        let (server, address) = (self.name(endpoint.server), endpoint.address.to_string());
        let (failures, cause) = (after.get(), fault.sentence());
        log::warn!(server, address, failures, cause; "platform server is left out after failures in a row");
        self.probe(endpoint);
    }

    fn probe(&self, endpoint: &Endpoint) {
        probe::start(Arc::downgrade(&endpoint.health), endpoint.address.clone(), self.connect_timeout);
    }

    /// The `Host` field for the last try.
    pub fn host(&self, tries: &Tries) -> Option<Host<'_>> {
        let server = self.servers.get(tries.server()?)?;
        Some(Host { value: &server.host, keeps: self.host == HostField::Keep })
    }

    /// What logs call a server.
    pub fn name(&self, server: usize) -> &str {
        self.servers.get(server).map_or("", |server| &server.name)
    }

    /// Adds up how many addresses each server has, by its number in these metrics, which may be later ones than its own.
    pub fn count_addresses(&self, metrics: &ServerMetrics, counts: &mut [Addresses]) {
        for endpoint in self.endpoints.load().iter() {
            if let Some(count) = counts.get_mut(metrics.number(self.name(endpoint.server))) {
                if endpoint.health.is_in_use() {
                    count.in_use += 1;
                } else {
                    count.ejected += 1;
                }
            }
        }
    }

    /// Uses the addresses that the names have now. One that was there before keeps what is known of it, and its connections.
    fn take_over(&self, names: &Names) -> std::io::Result<()> {
        let old = self.endpoints.load();
        let mut endpoints = Vec::new();
        for ((at, server), addresses) in self.servers.iter().enumerate().zip(names.known()) {
            for address in addresses {
                let known = |old: &&Endpoint| old.server == at && old.address == *address;
                let (id, health) = match old.iter().find(known) {
                    Some(endpoint) => (endpoint.id, Arc::clone(&endpoint.health)),
                    None => (next_id(), Arc::default()),
                };
                let peer = peers::at(&server.template, address, id)?;
                endpoints.push(Endpoint { id, server: at, address: address.clone(), peer, health });
            }
        }
        readmit_most(&endpoints);
        self.endpoints.store(endpoints.into());
        Ok(())
    }
}

/// Whether a request may be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// It may.
    Granted,
    /// There is no server left to try.
    Nowhere,
    /// Too many others were tried again.
    OverBudget,
}

/// After some addresses have gone, more than half of the rest may be left out: takes them back.
fn readmit_most(endpoints: &[Endpoint]) {
    let out = || endpoints.iter().filter(|endpoint| !endpoint.health.is_in_use());
    while out().count() * 2 > endpoints.len() {
        out().next().into_iter().for_each(|endpoint| endpoint.health.readmit());
    }
}

fn next_id() -> u64 {
    // One for each address of the process's life, and for each connection that is not to be kept; 0 is none.
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn host_value(host: &str) -> std::io::Result<HeaderValue> {
    HeaderValue::from_str(host).map_err(std::io::Error::other)
}

#[cfg(test)]
mod tests;
