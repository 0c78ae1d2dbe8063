//! The composition root: builds every shared thing once, hands it out, orders the services.
//!
//! Everything is loaded before a listener is bound, and every listener is bound before anything runs, so
//! that a start either works or says why it does not.

pub mod core_dumps;
pub mod descriptors;
mod housekeeping;
mod panics;
mod stop;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use parking_lot::Mutex;
use pingora::apps::HttpServerOptions;
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::v2::server::default_h2_options;
use pingora::proxy::http_proxy;
use pingora::server::configuration::{Opt, ServerConf};
use pingora::server::{RunArgs, Server};
use pingora::services::ServiceWithDependents;
use pingora::services::background::background_service;

use crate::admin::Admin;
use crate::admin::health::Health;
use crate::auth::cache::Cache;
use crate::auth::gate::Gate;
use crate::auth::keys::KeyRing;
use crate::auth::token::TokenRules;
use crate::clock::{Clock, wall};
use crate::config::{self, CertifiedKey, Config, Limits, Stop, StoreSettings};
use crate::edge::forward::Rewrite;
use crate::edge::gateway::{self, Gateway};
use crate::edge::listener::{Bound, Listeners};
use crate::edge::local::Local;
use crate::edge::pingora::MAX_TRIES;
use crate::edge::quota::{Quotas, kept_connections};
use crate::edge::runtime::Runtime;
use crate::edge::upstream::Upstream;
use crate::logging::Sink;
use crate::metrics::Metrics;
use crate::service::login::Logins;
use crate::service::login::failed_logins::FailedLogins;
use crate::service::pending_revocations::Pending;
use crate::service::token_endpoint::{TokenEndpoint, mint_limiter};
use crate::state_dir::error::{StartError, store_error};
use crate::state_dir::login_counts::LoginCounts;
use crate::state_dir::presence::{self, Presence};
use crate::state_dir::{Creation, LockWait, Services, State, read_ring};
use crate::store::command::{Actor, Deregister, Prune};
use crate::store::read_gap::ReadGap;
use crate::store::replica::{Reload, Replica, Settings};
use crate::store::{Opening, Store, StoreError, block_on};
use crate::thread_slot;
use crate::tls::acceptor::TlsAcceptor;
use crate::tls::self_signed::{not_after, self_signed};

pub use self::stop::OnExit;

use self::descriptors::ADMIN_CONNECTIONS;
use self::housekeeping::{Housekeeping, PendingRetry};
use self::stop::End;

/// What a caller adds to a run.
#[derive(Default)]
pub struct Hooks {
    /// More services in the same process.
    pub services: Vec<Box<dyn ServiceWithDependents>>,
    /// Told where the gateway listens, once it does.
    pub announce: Option<fn(&Listening)>,
    /// Called before the process ends, however it is asked to.
    pub on_exit: Option<OnExit>,
}

/// Where the gateway listens, ports chosen.
#[derive(Debug, Default)]
pub struct Listening {
    /// With TLS.
    pub https: Vec<SocketAddr>,
    /// Without.
    pub http: Vec<SocketAddr>,
    /// The admin listener.
    pub admin: Vec<SocketAddr>,
}

/// Runs the gateway until it is told to stop.
pub fn run(
    config: Config,
    opening: Opening,
    creation: Creation,
    sink: &Sink,
    hooks: Hooks,
) -> Result<(), StartError> {
    panics::install(sink);
    let mut config = config;
    descriptors::provide(&mut config.limits, config.server.threads)?;
    for warning in config.warnings() {
        log::warn!("{warning}");
    }
    fit_memory(&mut config.limits);
    let choices = config.choices();
    let Config { server: settings, admin, store, keys, audit, limits, .. } = config;
    let (clock, metrics) = (Clock::start(), Arc::new(Metrics::new()));
    let lock_wait = LockWait { timeout: LOCK_TIMEOUT, tell: |text| log::warn!("{text}") };
    let services = Services { clock: clock.clone(), metrics: Arc::clone(&metrics), lock_wait };
    let state = State::open(&settings.state_dir, &store, keys, opening, creation, services)?;
    let cache = Cache::new(config.cache, settings.threads, thread_slot::current, fastrand::u64(..));
    let gate = load(&state.store, &store, state.keys, config.token, cache, &clock)?;
    let shared =
        Shared { gate: Arc::new(gate), metrics, clock, sink: sink.clone(), stopping: Arc::default() };
    let rewrite = Rewrite::new(&config.platform);
    let upstream = Upstream::new(&config.platform).map_err(StartError::refused)?;
    let pair = certificate(&settings)?;
    let sockets = Sockets::bind(&settings, admin)?;
    let listening = sockets.listening();

    let id = format!("{}-{:08x}", std::process::id(), fastrand::u32(..));
    // Before the first heartbeat: whoever finds that tells by the lock whether we run.
    let presence = announce(&settings.state_dir, &id, &state.store);
    let pending = Arc::<Pending>::default();
    let mints = Arc::new(mint_limiter(&limits));
    let failures = Arc::<FailedLogins>::default();
    let counts = LoginCounts::new(&settings.state_dir);
    let logins = Logins::start(
        &limits,
        config.trusted_logins,
        counts.read().as_deref(),
        Arc::clone(&shared.metrics),
        Arc::clone(&failures),
    );
    let logins = Arc::new(logins.map_err(StartError::refused)?);
    let tokens = TokenEndpoint {
        gate: Arc::clone(&shared.gate),
        logins: Arc::clone(&logins),
        store: state.store.clone(),
        pending: Arc::clone(&pending),
        mints: Arc::clone(&mints),
        clock: shared.clock.clone(),
        inspect_auth: config.inspect_auth,
        max_revocations: limits.revocations_per_user,
    };
    let gap = Arc::<ReadGap>::default();
    let reload = state
        .key_folder
        .map(|folder| -> Reload { Box::new(move || read_ring(&folder).map_err(|error| error.to_string())) });
    let replica = Settings {
        gateway: id.clone(),
        poll_interval: store.poll_interval,
        heartbeat_interval: store.heartbeat_interval,
        reload,
        gap: Arc::clone(&gap),
    };
    let (gate, clock) = (Arc::clone(&shared.gate), shared.clock.clone());
    let replica = block_on(Replica::start(state.store.clone(), gate, clock, replica));
    let replica = replica.map_err(StartError::refused)?;

    let mut server = Server::new_with_opt_and_conf(
        Some(Opt::default()),
        server_conf(settings.stop, kept_connections(&limits, settings.threads)),
    );
    server.bootstrap();
    let quotas = Quotas::new(&limits, settings.threads);
    let runtime = Runtime {
        gate: Arc::clone(&shared.gate),
        policy: config.routes,
        rewrite,
        upstream,
        limits,
        request_durations: config.request_durations,
        proxies: Arc::new(settings.trusted_proxies.clone()),
        forwarded_fields: settings.forwarded_fields,
    };
    let common = gateway::Shared {
        tokens,
        clock: shared.clock.clone(),
        gap,
        metrics: Arc::clone(&shared.metrics),
        sink: shared.sink.clone(),
        stopping: Arc::clone(&shared.stopping),
    };
    let (conf, threads) = (&server.configuration, settings.threads);
    server.add_service(front(conf, (&runtime, &common), &quotas, threads, sockets.traffic, pair.as_ref())?);
    let not_after = pair.as_ref().and_then(not_after);
    let admin =
        shared.admin(choices, Arc::clone(&pending), state.store.clone(), not_after, admin.ip().is_loopback());
    server.add_service(local_service("admin", admin, admin_limits(limits), sockets.admin)?.until_exit());
    let retry = PendingRetry { pending: Arc::clone(&pending), store: state.store.clone() };
    server.add_service(background_service("pending revocations", retry));
    let housekeeping = Housekeeping {
        id,
        presence,
        gate: Arc::clone(&shared.gate),
        pending,
        mints,
        failures,
        logins: (logins, counts),
        store: state.store,
        prune: Prune { age: audit.keep.as_secs(), bytes: audit.max_bytes },
        replica: Arc::new(Mutex::new(Some(replica))),
        interval: store.upkeep_interval,
    };
    server.add_service(background_service("housekeeping", housekeeping.clone()));
    for service in hooks.services {
        server.add_boxed_service(service);
    }
    let end = End::new(
        settings.stop,
        shared.stopping,
        Arc::clone(&shared.metrics),
        shared.sink,
        housekeeping,
        hooks.on_exit,
    );
    server.add_service(end.service());

    listening.log();
    if let Some(announce) = hooks.announce {
        announce(&listening);
    }
    server.run(RunArgs { shutdown_signal: Box::new(end.signals()) });
    end.finish();
    Ok(())
}

/// Longer than a restart takes, in seconds.
const LONG_STOP: u64 = 6 * 3600;

/// Locks the file that says that this process runs, and clears away what those that ended have left.
fn announce(state_dir: &Path, id: &str, store: &Store) -> Option<Arc<Presence>> {
    let announced = Presence::announce(state_dir, id);
    for gateway in presence::ended(state_dir) {
        let deregister = Deregister { gateway: gateway.clone() };
        if block_on(store.execute(deregister, Actor::gateway())).is_ok() {
            presence::remove(state_dir, &gateway);
        }
    }
    match announced {
        Ok(presence) => Some(Arc::new(presence)),
        Err(error) => {
            log::warn!(
                "the lock that says that this gateway runs cannot be made; it counts by its heartbeats: {error}"
            );
            None
        }
    }
}

/// What the proxy, the admin listener and the threads beside them have in common.
struct Shared {
    gate: Arc<Gate>,
    metrics: Arc<Metrics>,
    clock: Clock,
    sink: Sink,
    stopping: Arc<AtomicBool>,
}

/// Reads everything that the gate needs, before anybody can ask for it.
fn load(
    store: &Store,
    settings: &StoreSettings,
    keys: KeyRing,
    rules: TokenRules,
    cache: Cache,
    clock: &Clock,
) -> Result<Gate, StartError> {
    let read = block_on(async {
        let time = store.time().await?;
        clock.advance(time.lived, time.floor);
        // The moment before the read: what is written after it may be missing.
        let uptime = clock.uptime();
        Ok::<_, StoreError>((uptime, store.load().await?))
    });
    let (uptime, standing) = read.map_err(|error| store_error(&settings.path, error))?;
    let ahead = clock.ahead_of_floor();
    if ahead > LONG_STOP {
        log::warn!(
            "the wall clock is {} h ahead of the last time that the store knows of: expected after a stop of that length, \
             otherwise check it",
            ahead / 3600
        );
    }
    if standing.users() == 0 {
        log::warn!(
            "there are no users yet; add one with `ds-gateway user add NAME --email … --organization … \
             --config …`"
        );
    }
    if standing.signer(&keys).is_none() {
        return Err(StartError::Refused(
            "every signing key is revoked: name another in token.keys, or run \
             `ds-gateway key generate` where the keys were made by the gateway"
                .into(),
        ));
    }
    Ok(Gate::new(keys, rules, cache, settings.max_staleness, standing, uptime))
}

impl Shared {
    fn admin(
        &self,
        choices: Vec<(&'static str, &'static str)>,
        pending: Arc<Pending>,
        store: Store,
        certificate_not_after: Option<i64>,
        is_loopback: bool,
    ) -> Admin {
        Admin {
            health: Health {
                gate: Arc::clone(&self.gate),
                clock: self.clock.clone(),
                pending,
                store,
                stopping: Arc::clone(&self.stopping),
            },
            metrics: Arc::clone(&self.metrics),
            sink: self.sink.clone(),
            choices,
            certificate_not_after,
            is_loopback,
        }
    }
}

/// Lowers `limits.connections` to what `limits.memory` can hold, of which the configuration warns.
fn fit_memory(limits: &mut Limits) {
    let most = Limits::connections_within(limits.memory);
    if limits.connections > most {
        limits.connections = most;
    }
}

/// The listeners for clients, with a proxy for each worker.
fn front(
    conf: &Arc<ServerConf>,
    (runtime, shared): (&Runtime, &gateway::Shared),
    quotas: &Quotas,
    threads: usize,
    sockets: Traffic,
    pair: Option<&CertifiedKey>,
) -> Result<Listeners, StartError> {
    let limits = runtime.limits;
    let apps = (0..threads).map(|_| {
        let mut proxy = http_proxy(conf, Gateway::new(runtime.clone(), shared.clone()));
        // A fresh set would lose the engine's bounds on HTTP/2, so only what differs is set.
        let mut options = HttpServerOptions::default();
        options.h2_idle_timeout = Some(limits.keepalive_timeout);
        proxy.server_options = Some(options);
        let mut http2 = default_h2_options();
        http2.max_concurrent_streams(limits.requests_per_connection);
        http2.max_send_buffer_size(STREAM_BUFFER);
        // Fields are counted with 32 bytes more each (RFC 9113 §6.5.2), and what is judged later is told so.
        http2.max_header_list_size(u32::try_from(limits.header_bytes * 2).unwrap_or(u32::MAX));
        proxy.h2_options = Some(http2);
        (proxy, quotas.budget())
    });
    let metrics = Arc::clone(&shared.metrics);
    let front = Listeners::new("gateway", apps.collect(), limits, Arc::clone(&runtime.proxies), metrics);
    let front = front.map_err(StartError::refused)?.listen(sockets.http, None);
    let Some(pair) = pair else {
        return Ok(front);
    };
    let tls = TlsAcceptor::new(pair).map_err(StartError::refused)?;
    Ok(front.listen(sockets.https, Some(&Arc::new(tls))))
}

/// The operator's certificate, or one that signs itself where a TLS listener needs one.
fn certificate(settings: &config::Server) -> Result<Option<CertifiedKey>, StartError> {
    match &settings.certificate {
        Some(pair) => {
            let left = not_after(pair).unwrap_or(i64::MAX).saturating_sub_unsigned(wall().0);
            if left < 0 {
                log::warn!("server.certificate has ended: clients that check it will not connect");
            } else if left < 30 * 24 * 3600 {
                log::warn!("server.certificate ends in {} days", left / (24 * 3600));
            }
            Ok(Some(pair.clone()))
        }
        None if settings.https.is_empty() => Ok(None),
        None => {
            let pair = self_signed(&settings.state_dir, &settings.https);
            pair.map(Some).map_err(StartError::refused)
        }
    }
}

/// Every socket, bound.
struct Sockets {
    traffic: Traffic,
    admin: Vec<Bound>,
}

/// The sockets for clients.
struct Traffic {
    https: Vec<Bound>,
    http: Vec<Bound>,
}

impl Sockets {
    fn bind(settings: &config::Server, admin: SocketAddr) -> Result<Self, StartError> {
        let bind = |kind: &'static str, addresses: &[SocketAddr]| {
            let bound = addresses.iter().map(|address| {
                let expects = settings.proxy_protocol.contains(address);
                Ok::<_, std::io::Error>(Bound::bind(kind, *address)?.expect_proxy_header(expects))
            });
            bound.collect::<Result<Vec<_>, _>>().map_err(StartError::refused)
        };
        Ok(Self {
            traffic: Traffic { https: bind("https", &settings.https)?, http: bind("http", &settings.http)? },
            admin: bind("admin", &[admin])?,
        })
    }

    fn listening(&self) -> Listening {
        let addresses = |sockets: &[Bound]| sockets.iter().map(Bound::address).collect();
        Listening {
            https: addresses(&self.traffic.https),
            http: addresses(&self.traffic.http),
            admin: addresses(&self.admin),
        }
    }
}

impl Listening {
    fn log(&self) {
        for (listener, addresses) in [("https", &self.https), ("http", &self.http), ("admin", &self.admin)] {
            for address in addresses {
                log::info!(listener, address:%; "listening");
            }
        }
    }
}

/// A small HTTP application, on sockets bound before. It has bounds and a thread of its own, so that nothing that clients do takes
/// them away.
pub fn local_service<A>(
    name: &'static str,
    app: A,
    limits: Limits,
    sockets: Vec<Bound>,
) -> Result<Listeners, StartError>
where
    A: ServeHttp + Send + Sync + 'static,
{
    let budget = Quotas::new(&limits, 1).budget();
    let apps = vec![(Local::new(app, limits.header_bytes), budget)];
    // Its connections are no clients', and are not counted with them.
    let listeners = Listeners::new(name, apps, limits, Arc::default(), Arc::new(Metrics::new()));
    Ok(listeners.map_err(StartError::refused)?.listen(sockets, None))
}

/// What HTTP/2 holds of one stream's answer, in bytes; the engine's default is six times as much.
const STREAM_BUFFER: usize = 64 * 1024;

/// The admin listener has small bounds of its own: a scraper or two, a balancer's checks, and people.
const fn admin_limits(limits: Limits) -> Limits {
    Limits {
        connections: ADMIN_CONNECTIONS,
        connections_per_address: None,
        memory: 16 * 1024 * 1024,
        ..limits
    }
}

/// How long a start waits for whoever has the state folder locked.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

fn server_conf(stop: Stop, kept_connections: usize) -> ServerConf {
    ServerConf {
        // Of the services beside the workers, which have their own.
        threads: 1,
        work_stealing: false,
        // Of each worker's proxy.
        upstream_keepalive_pool_size: kept_connections,
        // The engine means tries by this: 0 would never contact the platform.
        max_retries: MAX_TRIES,
        // Ours ends first (see `stop`).
        grace_period_seconds: Some(stop.grace.as_secs() + 5),
        graceful_shutdown_timeout_seconds: Some(1),
        ..ServerConf::default()
    }
}
