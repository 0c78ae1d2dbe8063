//! What listens: workers for clients, and small applications beside them.

use std::sync::Arc;

use arc_swap::ArcSwap;
use pingora::apps::HttpServerOptions;
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::v2::server::default_h2_options;
use pingora::proxy::http_proxy;
use pingora::server::configuration::ServerConf;

use super::descriptors::ADMIN_CONNECTIONS;
use super::sockets::Traffic;
use crate::config::Limits;
use crate::edge::ending::Ending;
use crate::edge::gateway::{self, Gateway};
use crate::edge::lane::Lane;
use crate::edge::listener::{Bound, Listeners};
use crate::edge::local::Local;
use crate::edge::quota::Quotas;
use crate::edge::runtime::Runtime;
use crate::edge::worker::App;
use crate::metrics::Metrics;
use crate::state_dir::error::StartError;
use crate::tls::acceptor::TlsAcceptor;

/// What each worker decides by.
pub(super) type Runtimes = Vec<Arc<ArcSwap<Runtime>>>;

/// The listeners for clients, with a proxy for each worker; and what each worker decides by.
pub(super) fn front(
    conf: &Arc<ServerConf>,
    (runtime, shared): (&Runtime, &gateway::Shared),
    quotas: &Quotas,
    (threads, has_lane): (usize, bool),
    sockets: Traffic,
    tls: Option<&Arc<TlsAcceptor>>,
) -> Result<(Listeners, Runtimes), StartError> {
    let limits = runtime.limits;
    let gateways: Vec<Gateway> =
        (0..threads).map(|_| Gateway::new(runtime.clone(), shared.clone())).collect();
    let runtimes = gateways.iter().map(|gateway| Arc::clone(&gateway.runtime)).collect();
    let apps = gateways.into_iter().map(|gateway| {
        let lane = Lane::new(gateway.clone(), threads);
        let lane = Some(if has_lane { lane } else { lane.for_upgrades() });
        let mut proxy = http_proxy(conf, gateway);
        // A fresh set would lose the engine's bounds on HTTP/2, so only what differs is set; what the limits say is set for each connection.
        proxy.server_options = Some(HttpServerOptions::default());
        let mut http2 = default_h2_options();
        http2.max_send_buffer_size(STREAM_BUFFER);
        proxy.h2_options = Some(http2);
        App { engine: Arc::new(proxy), lane, budget: quotas.budget() }
    });
    let metrics = Arc::clone(&shared.metrics);
    let (apps, proxies) = (apps.collect(), Arc::clone(&runtime.proxies));
    let front = Listeners::new("gateway", apps, limits, proxies, metrics, &shared.ending);
    let front = front.map_err(StartError::refused)?.listen(sockets.http, None);
    let front = match tls {
        Some(tls) => front.listen(sockets.https, Some(tls)),
        None => front,
    };
    Ok((front, runtimes))
}

/// A small HTTP application, on sockets bound before. It has bounds and a thread of its own, so that nothing that clients do takes
/// them away.
pub fn local_service<A>(
    name: &'static str,
    app: A,
    limits: Limits,
    sockets: Vec<Bound>,
    ending: &Arc<Ending>,
) -> Result<Listeners, StartError>
where
    A: ServeHttp + Send + Sync + 'static,
{
    let budget = Quotas::new(&limits, 1).budget();
    let apps = vec![App { engine: Arc::new(Local::new(app, limits.header_bytes)), lane: None, budget }];
    // Its connections are no clients', and are not counted with them.
    let listeners = Listeners::new(name, apps, limits, Arc::default(), Arc::new(Metrics::new()), ending);
    Ok(listeners.map_err(StartError::refused)?.listen(sockets, None))
}

/// What HTTP/2 holds of one stream's answer, in bytes; the engine's default is six times as much.
const STREAM_BUFFER: usize = 64 * 1024;

/// The admin listener has small bounds of its own: a scraper or two, a balancer's checks, and people.
pub(super) const fn admin_limits(limits: Limits) -> Limits {
    Limits {
        connections: ADMIN_CONNECTIONS,
        connections_per_address: None,
        memory: 16 * 1024 * 1024,
        ..limits
    }
}
