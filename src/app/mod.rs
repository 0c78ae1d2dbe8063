//! The composition root: builds every shared thing once, hands it out, orders the services.
//!
//! Everything is loaded and every listener is bound before anything runs, so that a start either works or says why it does
//! not (`start`).
//!
//! It may use every layer below `cli`.

mod certificates;
pub mod core_dumps;
pub mod descriptors;
mod housekeeping;
mod listeners;
mod observing;
mod other_process;
mod panics;
mod parts;
mod predecessor;
mod probe;
mod program;
mod reload;
mod report;
mod requests;
mod sockets;
mod start;
mod stop;
mod tls;
mod upgrade;
mod users;
mod watch;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use pingora::server::configuration::{Opt, ServerConf};
use pingora::server::{RunArgs, Server};
use pingora::services::ServiceWithDependents;
use pingora::services::background::background_service;
use sd_notify::NotifyState;
use tokio::sync::watch::channel;

use crate::admin::Admin;
use crate::admin::health::Health;
use crate::clock::{Clock, wall};
use crate::config::{Config, Contents, Materials, Stop};
use crate::control::{self, Progress};
use crate::edge::ending::Ending;
use crate::edge::gateway::{self};
use crate::edge::quota::{Kept, Quotas};
use crate::edge::upstream::MAX_TRIES;
use crate::logging::Sink;
use crate::metrics::{Metrics, ReloadState};
use crate::service::login::failed_logins::FailedLogins;
use crate::service::login::passwords::Logins;
use crate::service::pending_revocations::Pending;
use crate::service::token_endpoint::TokenEndpoint;
use crate::service::user_changes::UserChanges;
use crate::state_dir::error::StartError;
use crate::state_dir::login_counts::LoginCounts;
use crate::state_dir::presence::{self, Presence};
use crate::state_dir::{Creation, LockWait, Services, read_key_set};
use crate::store::command::{Actor, Deregister};
use crate::store::heartbeats::Rhythm;
use crate::store::read_gap::ReadGap;
use crate::store::replica::{Reload, Replica, Settings};
use crate::store::sequence_waits::SequenceWaits;
use crate::store::{Opening, Store, block_on};

pub use self::listeners::local_service;
pub use self::predecessor::Succeeds;
pub use self::program::Program;
pub use self::reload::ConfigSource;
pub use self::report::Report;
pub use self::sockets::{Inherited, Listening};
pub use self::start::check;
pub use self::stop::OnExit;

use self::housekeeping::{Housekeeping, PendingRetry, Revalidate};
use self::listeners::{admin_limits, front};
use self::observing::Observing;
use self::other_process::OtherProcess;
use self::reload::{Adjustable, Reloader, Running, hash, prune, revalidation, shown};
use self::report::Purpose;
use self::requests::Requests;
use self::start::Prepared;
use self::stop::{End, SignalQueue};
use self::upgrade::Upgrader;
use self::users::{Fixed, endpoint_settings};

/// What a caller adds to a run.
#[derive(Default)]
pub struct Hooks {
    /// More services in the same process.
    pub services: Vec<Box<dyn ServiceWithDependents>>,
    /// Told where the gateway listens, once it does.
    pub announce: Option<Announce>,
    /// Where the configuration is read from again; without it there is no reload and no upgrade.
    pub source: Option<ConfigSource>,
    /// What an upgrade starts.
    pub program: Option<Program>,
    /// What whoever started the process has handed over.
    pub inherited: Inherited,
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
    let (clock, metrics) = (Clock::start(), Arc::new(Metrics::new()));
    let lock_wait = LockWait { timeout: LOCK_TIMEOUT, tell: |text| log::warn!("{text}") };
    let services = Services { clock: clock.clone(), metrics: Arc::clone(&metrics), lock_wait };
    let contents = Contents::of(&materials);
    let mut report = Report::default();
    let succeeds = hooks.inherited.succeeds().cloned();
    // What it is asked for once, at the first start, was done then.
    let purpose = match &succeeds {
        Some(_) => Purpose::Run { opening: Opening::Successor, creation: Creation::IfNew },
        None => Purpose::Run { opening, creation },
    };
    succeeds.iter().try_for_each(|succeeds| succeeds.check_folder(&config.server.state_dir))?;
    let prepared = report.take(purpose, &config, materials, &services, hooks.inherited);
    report.warnings.iter().for_each(|warning| log::warn!("{warning}"));
    let Some(prepared) = prepared else {
        return Err(StartError::of(report.failures));
    };
    let Prepared { store, key_folder, gate, limits, parts, sockets } = prepared;
    let (gate, ending) = (Arc::new(gate), Arc::<Ending>::default());
    let (settings, store_settings) = (&config.server, &config.store);
    let listening = sockets.listening();

    let id = format!("{}-{:08x}", std::process::id(), fastrand::u32(..));
    // Before the first heartbeat: a process that finds it tells by the lock whether we run.
    let presence = announce(&settings.state_dir, &id, &listening.all(), &store);
    let pending = Arc::new(Pending::new(store.peers().clone()));
    let failures = Arc::<FailedLogins>::default();
    let counts = LoginCounts::new(&settings.state_dir);
    let mut predecessor = succeeds.clone().map(Succeeds::reach).transpose()?;
    let counted = match &mut predecessor {
        Some(predecessor) => Some(predecessor.login_counts()?),
        None => counts.read(),
    };
    let logins = Logins::start(
        &limits,
        config.trusted_logins.clone(),
        counted.as_deref(),
        Arc::clone(&metrics),
        Arc::clone(&failures),
    );
    let logins = Arc::new(logins.map_err(StartError::refused)?);
    let fixed = Fixed {
        gate: Arc::clone(&gate),
        store: store.clone(),
        logins: Arc::clone(&logins),
        clock: clock.clone(),
        metrics: Arc::clone(&metrics),
    };
    let endpoint = endpoint_settings(&config, &parts, &fixed, None).map_err(StartError::refused)?;
    let endpoint = Arc::new(ArcSwap::from_pointee(endpoint));
    let tokens = TokenEndpoint {
        gate: Arc::clone(&gate),
        settings: Arc::clone(&endpoint),
        store: store.clone(),
        pending: Arc::clone(&pending),
        clock: clock.clone(),
    };
    let user_changes =
        UserChanges::new(store.clone(), Arc::clone(&gate), clock.clone(), Arc::clone(&pending));
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
    let replica = block_on(Replica::start(store.clone(), Arc::clone(&gate), clock.clone(), replica));
    let replica = replica.map_err(StartError::refused)?;
    if predecessor.is_none() {
        block_on(user_changes.end_those_of_before()).map_err(StartError::refused)?;
    }
    let other = Arc::new(OtherProcess {
        state_dir: settings.state_dir.clone(),
        peers: store.peers().clone(),
        pending: Arc::clone(&pending),
        gate: Arc::clone(&gate),
        clock: clock.clone(),
        sequence_waits: Arc::clone(&sequence_waits),
        logins: Arc::clone(&logins),
        leaves_nothing: AtomicBool::new(false),
        is_idle: AtomicBool::new(false),
        idle: Mutex::new(None),
    });

    let kept = Kept::new(&limits, settings.threads, settings.fast_lane).engine;
    let mut server = Server::new_with_opt_and_conf(Some(Opt::default()), server_conf(settings.stop, kept));
    server.bootstrap();
    let quotas = Quotas::new(&limits, settings.threads);
    let runtime = parts.runtime(&config, limits, &gate);
    let common = gateway::Shared {
        tokens,
        user_changes: user_changes.clone(),
        clock: clock.clone(),
        gap,
        sequence_waits,
        metrics: Arc::clone(&metrics),
        sink: sink.clone(),
        ending: Arc::clone(&ending),
    };
    let duplicates = sockets.duplicates().map_err(StartError::refused)?;
    let (conf, workers) = (&server.configuration, (settings.threads, settings.fast_lane));
    let tls = parts.tls.as_ref().map(|tls| Arc::clone(&tls.acceptor));
    let (front, runtimes) =
        front(conf, (&runtime, &common), &quotas, workers, sockets.traffic, tls.as_ref())?;
    let running = Running { config: config.clone(), contents, parts };
    let state = ReloadState { hash: hash(&running), loaded_at: wall().0, ..ReloadState::default() };
    let shown = Arc::new(ArcSwap::from_pointee(shown(&config, &running.parts, state)));
    let health = Health {
        gate: Arc::clone(&gate),
        clock: clock.clone(),
        pending: Arc::clone(&pending),
        store: store.clone(),
        shown: Arc::clone(&shown),
        is_ending: {
            let ending = Arc::clone(&ending);
            Arc::new(move || ending.has_begun())
        },
    };
    let admin = Admin {
        health,
        metrics: Arc::clone(&metrics),
        sink: sink.clone(),
        shown: Arc::clone(&shown),
        is_loopback: config.admin.iter().all(|address| address.ip().is_loopback()),
    };
    let admin = local_service("admin", admin, admin_limits(limits), sockets.admin, &ending)?.until_exit();
    let bounds = [front.bounds(), admin.bounds()];
    server.add_service(front);
    server.add_service(admin);
    let retry = PendingRetry { pending: Arc::clone(&pending), store: store.clone(), gate: Arc::clone(&gate) };
    server.add_service(background_service("pending revocations", retry));
    let (revalidation, directory) = channel(revalidation(&config, &running.parts));
    let revalidate = Revalidate::new(store.clone(), directory);
    server.add_service(background_service("revalidation", revalidate));
    let observing = Observing { shown: Arc::clone(&shown), clock, metrics: Arc::clone(&metrics) };
    server.add_service(background_service("observing", observing));
    let prune = Arc::new(ArcSwap::from_pointee(prune(&config)));
    let housekeeping = Housekeeping {
        id: id.clone(),
        presence,
        gate,
        pending,
        endpoint: Arc::clone(&endpoint),
        failures,
        logins: (logins, counts),
        store,
        prune: Arc::clone(&prune),
        replica: Arc::new(Mutex::new(Some(replica))),
        user_changes: user_changes.clone(),
        interval: store_settings.upkeep_interval,
    };
    server.add_service(background_service("housekeeping", housekeeping.clone()));
    for service in hooks.services {
        server.add_boxed_service(service);
    }
    let adjustable = Adjustable {
        runtimes,
        bounds,
        quotas,
        tls,
        endpoint,
        shown,
        prune,
        revalidation,
        sink: sink.clone(),
    };
    let reloader = hooks.source.map(|source| Arc::new(Reloader::new(source, fixed, adjustable, running)));
    let place = store_settings.place.shown().display().to_string();
    let upgrader =
        reloader.clone().map(|reloader| {
            let upgrader =
                Upgrader::new(Arc::clone(&other), reloader, Arc::clone(&ending), id.clone(), place.clone())
                    .with(hooks.program, duplicates, predecessor.as_ref().map(|before| before.id.clone()));
            Arc::new(upgrader)
        });
    upgrader.iter().for_each(listen_for_requests);
    reloader.iter().try_for_each(watch::start).map_err(StartError::refused)?;
    if let Some(predecessor) = predecessor {
        let serving = predecessor.take_over(&id, place, &other, user_changes)?;
        server.add_service(background_service("succession", serving));
    }
    let end =
        End::new(settings.stop, ending, metrics, sink.clone(), housekeeping, hooks.on_exit, upgrader.clone());
    server.add_service(end.service());

    // Before anybody knows that it runs: a signal would end the process otherwise. Not earlier: a start that waits can be ended.
    let signals = SignalQueue::listen().map_err(StartError::refused)?;
    listening.log();
    if let Some(announce) = hooks.announce {
        announce(&listening);
    }
    if succeeds.is_none()
        && let Err(error) = sd_notify::notify(&[NotifyState::Ready])
    {
        log::warn!("systemd cannot be told that the gateway is ready: {error}");
    }
    server.run(RunArgs { shutdown_signal: Box::new(end.signals(signals)) });
    end.finish();
    Ok(())
}

/// Lets the command line ask for a reload, and a successor for what it needs. A gateway that cannot be asked serves all the same.
fn listen_for_requests(upgrader: &Arc<Upgrader>) {
    let requests = Requests(Arc::clone(upgrader));
    let state_dir = &upgrader.other.state_dir;
    let serve = move |request, progress: &Progress<'_>| requests.serve(request, progress);
    match control::Server::start(state_dir, &upgrader.id, serve) {
        // It is the only one.
        Ok(server) => drop(upgrader.control.set(server)),
        Err(error) => log::warn!(
            "there is no control socket, so `ds-gateway reload` does not reach this gateway (SIGHUP does), and there is no upgrade: {error}"
        ),
    }
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
        // Ours ends first (see `stop`), whichever it is.
        grace_period_seconds: Some((stop.upgrade_grace + stop.grace).as_secs() + 60),
        graceful_shutdown_timeout_seconds: Some(1),
        ..ServerConf::default()
    }
}
