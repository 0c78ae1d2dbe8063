//! What listens: workers for clients, and small applications beside them.

use std::sync::Arc;

use pingora::apps::HttpServerOptions;
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::v2::server::default_h2_options;
use pingora::proxy::http_proxy;
use pingora::server::configuration::ServerConf;

use super::descriptors::ADMIN_CONNECTIONS;
use super::sockets::Traffic;
use crate::config::Limits;
use crate::edge::gateway::{self, Gateway};
use crate::edge::lane::Lane;
use crate::edge::listener::{Bound, Listeners};
use crate::edge::local::Local;
use crate::edge::quota::{Kept, Quotas};
use crate::edge::runtime::Runtime;
use crate::edge::worker::App;
use crate::metrics::Metrics;
use crate::state_dir::error::StartError;
use crate::tls::acceptor::TlsAcceptor;

/// The listeners for clients, with a proxy for each worker.
pub(super) fn front(
    conf: &Arc<ServerConf>,
    (runtime, shared): (&Runtime, &gateway::Shared),
    quotas: &Quotas,
    (threads, has_lane): (usize, bool),
    kept: Kept,
    sockets: Traffic,
    tls: Option<TlsAcceptor>,
) -> Result<Listeners, StartError> {
    let limits = runtime.limits;
    let apps = (0..threads).map(|_| {
        let gateway = Gateway::new(runtime.clone(), shared.clone());
        let lane = has_lane.then(|| Lane::new(gateway.clone(), limits, kept.lane));
        let mut proxy = http_proxy(conf, gateway);
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
        App { engine: Arc::new(proxy), lane, budget: quotas.budget() }
    });
    let metrics = Arc::clone(&shared.metrics);
    let front = Listeners::new("gateway", apps.collect(), limits, Arc::clone(&runtime.proxies), metrics);
    let front = front.map_err(StartError::refused)?.listen(sockets.http, None);
    Ok(match tls {
        Some(tls) => front.listen(sockets.https, Some(&Arc::new(tls))),
        None => front,
    })
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
    let apps = vec![App { engine: Arc::new(Local::new(app, limits.header_bytes)), lane: None, budget }];
    // Its connections are no clients', and are not counted with them.
    let listeners = Listeners::new(name, apps, limits, Arc::default(), Arc::new(Metrics::new()));
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
