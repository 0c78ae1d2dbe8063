//! The composition root: builds every shared thing once, hands it out, orders the services.
//!
//! Everything is loaded and every listener is bound before anything runs, so that a start either works or says why it does
//! not (`start`).
//!
//! It may use every layer below `cli`.

pub mod core_dumps;
pub mod descriptors;
mod housekeeping;
mod listeners;
mod observing;
mod panics;
mod probe;
mod sockets;
mod start;
mod stop;
mod users;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use parking_lot::Mutex;
use pingora::server::configuration::{Opt, ServerConf};
use pingora::server::{RunArgs, Server};
use pingora::services::ServiceWithDependents;
use pingora::services::background::background_service;

use crate::admin::Admin;
use crate::admin::health::Health;
use crate::auth::gate::{Gate, Observation};
use crate::clock::Clock;
use crate::config::{CertifiedKey, Config, Materials, Stop};
use crate::edge::forward::Rewrite;
use crate::edge::gateway::{self};
use crate::edge::platforms::Platforms;
use crate::edge::quota::{Kept, Quotas};
use crate::edge::runtime::Runtime;
use crate::edge::upstream::MAX_TRIES;
use crate::logging::Sink;
use crate::metrics::{Addresses, Metrics, ServerMetrics};
use crate::service::login::failed_logins::FailedLogins;
use crate::service::login::passwords::Logins;
use crate::service::login::source::UserSource;
use crate::service::pending_revocations::Pending;
use crate::service::token_endpoint::{TokenEndpoint, mint_limiter};
use crate::service::user_changes::UserChanges;
use crate::state_dir::error::StartError;
use crate::state_dir::login_counts::LoginCounts;
use crate::state_dir::presence::{self, Presence};
use crate::state_dir::{Creation, LockWait, Services, read_key_set};
use crate::store::command::{Actor, Deregister, Prune};
use crate::store::heartbeats::Rhythm;
use crate::store::read_gap::ReadGap;
use crate::store::replica::{Reload, Replica, Settings};
use crate::store::sequence_waits::SequenceWaits;
use crate::store::{Opening, Store, block_on};

pub use self::listeners::local_service;
pub use self::sockets::Listening;
pub use self::start::{Report, check};
pub use self::stop::OnExit;

use self::housekeeping::{Housekeeping, PendingRetry, Revalidate};
use self::listeners::{admin_limits, front};
use self::observing::Observing;
use self::start::{Prepared, Purpose};
use self::stop::{End, SignalQueue};
use self::users::Places;

/// What a caller adds to a run.
#[derive(Default)]
pub struct Hooks {
    /// More services in the same process.
    pub services: Vec<Box<dyn ServiceWithDependents>>,
    /// Told where the gateway listens, once it does.
    pub announce: Option<Announce>,
    /// Called before the process ends, however it is asked to.
    pub on_exit: Option<OnExit>,
}

/// Told once where the gateway listens.
pub type Announce = Box<dyn FnOnce(&Listening)>;

/// Runs the gateway until it is told to stop.
pub fn run(
    (config, materials): (Config, Materials),
    opening: Opening,
    creation: Creation,
    sink: &Sink,
    hooks: Hooks,
) -> Result<(), StartError> {
    panics::install(sink);
    let mut config = config;
    let (clock, metrics) = (Clock::start(), Arc::new(Metrics::new()));
    let lock_wait = LockWait { timeout: LOCK_TIMEOUT, tell: |text| log::warn!("{text}") };
    let services = Services { clock: clock.clone(), metrics: Arc::clone(&metrics), lock_wait };
    let mut report = Report::default();
    let prepared = report.take(Purpose::Run { opening, creation }, &mut config, materials, &services);
    report.warnings.iter().for_each(|warning| log::warn!("{warning}"));
    let Some(prepared) = prepared else {
        return Err(StartError::of(report.failures));
    };
    let Prepared {
        store,
        key_folder,
        gate,
        observation,
        platforms,
        servers,
        certificate,
        tls,
        sockets,
        directory,
    } = prepared;
    let info_labels = config.info_labels();
    let is_loopback = config.admin.iter().all(|address| address.ip().is_loopback());
    let Config { server: settings, store: store_settings, audit, limits, .. } = config;
    let shared =
        Shared { gate: Arc::new(gate), metrics, clock, sink: sink.clone(), stopping: Arc::default() };
    let rewrite = Rewrite::new(&config.platform);
    let listening = sockets.listening();

    let id = format!("{}-{:08x}", std::process::id(), fastrand::u32(..));
    // Before the first heartbeat: a process that finds it tells by the lock whether we run.
    let presence = announce(&settings.state_dir, &id, &listening.all(), &store);
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
    let (clock, metrics) = (shared.clock.clone(), Arc::clone(&shared.metrics));
    // One of `max_logins` is left for the background questions of `revalidation.rs`.
    let at_once = config.ldap.as_ref().map_or(1, |ldap| ldap.max_logins.saturating_sub(1).max(1));
    let found: Option<Arc<dyn UserSource>> = directory.map(|directory| directory as _);
    let directory = found.map(|source| (source, at_once));
    let places = Places { platforms: platforms.clone(), directory };
    let users = users::sources(&config.users, &store, &logins, &places, clock, metrics);
    let users = users.map_err(StartError::refused)?;
    let tokens = TokenEndpoint {
        gate: Arc::clone(&shared.gate),
        users: Arc::new(users),
        store: store.clone(),
        pending: Arc::clone(&pending),
        mints: Arc::clone(&mints),
        clock: shared.clock.clone(),
        inspect_auth: config.inspect_auth,
        max_revocations: limits.revocations_per_user,
    };
    let (changed, gate) = (store.clone(), Arc::clone(&shared.gate));
    let user_changes = UserChanges::new(changed, gate, shared.clock.clone(), Arc::clone(&pending));
    let (gap, sequence_waits) = (Arc::<ReadGap>::default(), Arc::<SequenceWaits>::default());
    let reload = key_folder.map(|folder| -> Reload {
        Box::new(move || read_key_set(&folder).map_err(|error| error.to_string()))
    });
    let replica = Settings {
        poll_interval: store_settings.poll_interval,
        heartbeats: Rhythm {
            gateway: id.clone(),
            interval: store_settings.heartbeat_interval,
            max_staleness: store_settings.max_staleness,
        },
        reload,
        gap: Arc::clone(&gap),
        sequence_waits: Arc::clone(&sequence_waits),
    };
    let (gate, clock) = (Arc::clone(&shared.gate), shared.clock.clone());
    let replica = block_on(Replica::start(store.clone(), gate, clock, replica));
    let replica = replica.map_err(StartError::refused)?;
    block_on(user_changes.end_those_of_before()).map_err(StartError::refused)?;

    let kept = Kept::new(&limits, settings.threads, settings.fast_lane);
    let mut server =
        Server::new_with_opt_and_conf(Some(Opt::default()), server_conf(settings.stop, kept.engine));
    server.bootstrap();
    let addresses = addresses(platforms.clone(), Arc::clone(&servers));
    let quotas = Quotas::new(&limits, settings.threads);
    let runtime = Runtime {
        gate: Arc::clone(&shared.gate),
        policy: config.routes,
        observation: observation.clone(),
        cors: config.cors,
        rewrite,
        user_changes: config.platform.user_changes,
        platforms,
        limits,
        request_durations: config.request_durations,
        proxies: Arc::new(settings.trusted_proxies.clone()),
        forwarded_fields: settings.forwarded_fields,
        half_close: settings.half_close,
    };
    let common = gateway::Shared {
        tokens,
        user_changes: user_changes.clone(),
        clock: shared.clock.clone(),
        gap,
        sequence_waits,
        metrics: Arc::clone(&shared.metrics),
        sink: shared.sink.clone(),
        stopping: Arc::clone(&shared.stopping),
    };
    let (conf, workers) = (&server.configuration, (settings.threads, settings.fast_lane));
    server.add_service(front(conf, (&runtime, &common), &quotas, workers, kept, sockets.traffic, tls)?);
    let not_after = certificate.as_ref().and_then(CertifiedKey::not_after);
    let admin = shared.admin(
        info_labels,
        observation.clone(),
        (Arc::clone(&pending), store.clone()),
        not_after,
        (servers, addresses),
        is_loopback,
    );
    server.add_service(local_service("admin", admin, admin_limits(limits), sockets.admin)?.until_exit());
    let (waiting, gate) = (Arc::clone(&pending), Arc::clone(&shared.gate));
    let retry = PendingRetry { pending: waiting, store: store.clone(), gate };
    server.add_service(background_service("pending revocations", retry));
    let interval = config.ldap.and_then(|ldap| ldap.revalidate);
    if let (Some((source, _)), Some(interval)) = (places.directory, interval) {
        let revalidation = Revalidate::new(store.clone(), source, interval);
        server.add_service(background_service("revalidation", revalidation));
    }
    if let Some(observation) = observation {
        let (clock, metrics) = (shared.clock.clone(), Arc::clone(&shared.metrics));
        server.add_service(background_service("observing", Observing { observation, clock, metrics }));
    }
    let housekeeping = Housekeeping {
        id,
        presence,
        gate: Arc::clone(&shared.gate),
        pending,
        mints,
        failures,
        logins: (logins, counts),
        store,
        prune: Prune { age: audit.keep.as_secs(), bytes: audit.max_bytes },
        replica: Arc::new(Mutex::new(Some(replica))),
        user_changes,
        interval: store_settings.upkeep_interval,
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

    // Before anybody knows that it runs: a signal would end the process otherwise. Not earlier: a start that waits can be ended.
    let signals = SignalQueue::listen().map_err(StartError::refused)?;
    listening.log();
    if let Some(announce) = hooks.announce {
        announce(&listening);
    }
    server.run(RunArgs { shutdown_signal: Box::new(end.signals(signals)) });
    end.finish();
    Ok(())
}

/// Locks the file that says that this process runs and where it listens, and clears away what those that ended have left.
fn announce(state_dir: &Path, id: &str, listening: &[SocketAddr], store: &Store) -> Option<Arc<Presence>> {
    let announced = Presence::announce(state_dir, id, listening);
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
                "this gateway's liveness lock cannot be created; its heartbeats count instead: {error}"
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

impl Shared {
    fn admin(
        &self,
        info_labels: Vec<(&'static str, &'static str)>,
        observation: Option<Observation>,
        (pending, store): (Arc<Pending>, Store),
        certificate_not_after: Option<i64>,
        (servers, addresses): (Arc<ServerMetrics>, ReadAddresses),
        is_loopback: bool,
    ) -> Admin {
        Admin {
            health: Health {
                gate: Arc::clone(&self.gate),
                clock: self.clock.clone(),
                pending,
                store,
                observation,
                stopping: Arc::clone(&self.stopping),
            },
            metrics: Arc::clone(&self.metrics),
            sink: self.sink.clone(),
            info_labels,
            certificate_not_after,
            servers,
            addresses,
            is_loopback,
        }
    }
}

/// Reads the addresses that each server of the platform has now.
type ReadAddresses = Arc<dyn Fn() -> Vec<Addresses> + Send + Sync>;

fn addresses(platforms: Platforms, servers: Arc<ServerMetrics>) -> ReadAddresses {
    Arc::new(move || {
        let mut counts = vec![Addresses::default(); servers.len()];
        platforms.all().for_each(|upstream| upstream.count_addresses(&mut counts));
        counts
    })
}

/// How long a start waits for a process that has the state folder locked.
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
