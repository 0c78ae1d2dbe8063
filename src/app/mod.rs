//! The composition root: builds every shared thing once, hands it out, orders the services.
//!
//! Everything is loaded before a listener is bound, and every listener is bound before anything runs, so
//! that a start either works or says why it does not.

pub mod state;
mod stop;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use pingora::apps::HttpServerOptions;
use pingora::apps::http_app::ServeHttp;
use pingora::proxy::http_proxy;
use pingora::server::configuration::{Opt, ServerConf};
use pingora::server::{RunArgs, Server};
use pingora::services::ServiceWithDependents;

use crate::auth::gate::Gate;
use crate::clock::{Clock, wall};
use crate::config::{Config, Fault, Limits, Stop};
use crate::edge::admin::Admin;
use crate::edge::certificate::{not_after, self_signed};
use crate::edge::connection::Guarded;
use crate::edge::listener::{Bound, Prebound};
use crate::edge::login::LoginPool;
use crate::edge::proxy::{Gateway, MAX_TRIES};
use crate::edge::token::TokenEndpoint;
use crate::edge::upstream::Upstream;
use crate::logging::Sink;
use crate::metrics::Metrics;
use crate::store::follow::Follower;
use crate::store::sqlite::{Opening, load};
use crate::store::writer::Writer;

use self::state::{Creation, State};
use self::stop::{Draining, Signals};

/// Why the gateway does not start.
#[derive(Debug)]
pub enum StartError {
    /// The configuration has these faults.
    Configuration(Vec<Fault>),
    /// Anything else, in one sentence that says what to do.
    Refused(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Configuration(faults) => faults.iter().try_for_each(|fault| writeln!(f, "{fault}")),
            Self::Refused(text) => f.write_str(text),
        }
    }
}

impl StartError {
    fn refused(error: impl fmt::Display) -> Self {
        Self::Refused(error.to_string())
    }
}

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

/// The last thing that a caller wants done.
pub type OnExit = Box<dyn FnOnce() + Send>;

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
pub fn run(config: Config, creation: Creation, sink: &Sink, hooks: Hooks) -> Result<(), StartError> {
    for warning in config.warnings() {
        log::warn!("{warning}");
    }
    let clock = Clock::start();
    let state =
        State::open(&config.server.state_dir, &config.store, config.keys, Opening::Run, creation, wall())?;
    let mut reader = state.store.connect().map_err(StartError::refused)?;
    let standing = load(&mut reader).map_err(StartError::refused)?;
    drop(reader);
    if standing.users() == 0 {
        log::warn!(
            "there are no users yet; add one with `ds-gateway user add NAME --email … --organization … --config …`"
        );
    }

    let metrics = Arc::new(Metrics::new());
    let max_staleness = config.store.max_staleness;
    let gate = Arc::new(Gate::new(state.keys, config.token, max_staleness, standing, clock.uptime()));
    let upstream = Upstream::new(config.platform).map_err(StartError::refused)?;
    let pair = match config.server.certificate {
        Some(pair) => Some(pair),
        None if config.server.https.is_empty() => None,
        None => {
            Some(self_signed(&config.server.state_dir, &config.server.https).map_err(StartError::refused)?)
        }
    };

    let https = bind("https", &config.server.https)?;
    let http = bind("http", &config.server.http)?;
    let admin = bind("admin", &[config.admin])?;
    let listening = Listening {
        https: https.iter().map(Bound::address).collect(),
        http: http.iter().map(Bound::address).collect(),
        admin: admin.iter().map(Bound::address).collect(),
    };

    let conf = server_conf(config.server.threads, config.server.stop);
    let mut server = Server::new_with_opt_and_conf(Some(Opt::default()), conf);
    server.bootstrap();
    let stopping = Arc::new(AtomicBool::new(false));
    let gateway = Gateway {
        gate: Arc::clone(&gate),
        policy: config.routes,
        tokens: TokenEndpoint {
            gate: Arc::clone(&gate),
            logins: LoginPool::start(&state.store, &config.limits, &metrics).map_err(StartError::refused)?,
            writer: Writer::start(state.store.clone(), Arc::clone(&metrics)).map_err(StartError::refused)?,
            clock,
            inspect_auth: config.inspect_auth,
        },
        upstream,
        clock,
        limits: config.limits,
        metrics: Arc::clone(&metrics),
        sink: sink.clone(),
        stopping: Arc::clone(&stopping),
    };
    let mut proxy = http_proxy(&server.configuration, gateway);
    proxy.server_options = Some(server_options(&config.limits));
    let guarded = Guarded::new(proxy, config.limits, Arc::clone(&metrics));
    let mut front = Prebound::new("gateway", guarded, http);
    if let Some(pair) = &pair {
        front = front.with_tls(https, pair).map_err(StartError::refused)?;
    }
    let app = Admin {
        gate: Arc::clone(&gate),
        metrics: Arc::clone(&metrics),
        clock,
        sink: sink.clone(),
        certificate_not_after: pair.as_ref().and_then(not_after),
        stopping: Arc::clone(&stopping),
    };
    let _follower =
        Follower::start(state.store, gate, move || clock.uptime()).map_err(StartError::refused)?;

    server.add_service(front);
    server.add_service(Prebound::new("admin", app, admin).with_threads(1));
    for service in hooks.services {
        server.add_boxed_service(service);
    }
    let draining = Draining::new(metrics, sink.clone(), hooks.on_exit);
    server.add_service(draining.service());
    announce(&listening);
    if let Some(announce) = hooks.announce {
        announce(&listening);
    }
    server.run(RunArgs { shutdown_signal: Box::new(Signals::new(stopping, config.server.stop.drain_delay)) });
    draining.finish();
    Ok(())
}

/// A small HTTP application of a caller's own, on a socket bound before: for the demo's platform.
pub fn plain_service<A: ServeHttp + Send + Sync + 'static>(
    name: &str,
    app: A,
    socket: Bound,
) -> Box<dyn ServiceWithDependents> {
    Box::new(Prebound::new(name, app, vec![socket]).with_threads(1))
}

fn bind(kind: &'static str, addresses: &[SocketAddr]) -> Result<Vec<Bound>, StartError> {
    addresses.iter().map(|address| Bound::bind(kind, *address).map_err(StartError::refused)).collect()
}

fn announce(listening: &Listening) {
    for (listener, addresses) in
        [("https", &listening.https), ("http", &listening.http), ("admin", &listening.admin)]
    {
        for address in addresses {
            log::info!(listener, address:%; "listening");
        }
    }
}

fn server_conf(threads: usize, stop: Stop) -> ServerConf {
    ServerConf {
        threads,
        // A request stays on the core that accepted it.
        work_stealing: false,
        upstream_keepalive_pool_size: 1024,
        // The engine means tries by this: 0 would never contact the platform.
        max_retries: MAX_TRIES,
        grace_period_seconds: Some(stop.grace.as_secs()),
        graceful_shutdown_timeout_seconds: Some(1),
        ..ServerConf::default()
    }
}

/// A fresh set would lose the engine's bounds on HTTP/2, so only what differs is set.
fn server_options(limits: &Limits) -> HttpServerOptions {
    let mut options = HttpServerOptions::default();
    options.h2_idle_timeout = Some(limits.keepalive_timeout);
    options
}
