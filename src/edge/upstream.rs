//! The platform: which server a request goes to.
//!
//! No peer without a [`Pass`]: anyone who asks for one shows that the check happened. Addresses are resolved
//! beside the requests, never in one.

use std::cell::Cell;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::HeaderValue;
use openssl::x509::X509;
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};
use pingora::utils::tls::CertKey;

use crate::auth::gate::Pass;
use crate::config::{CertifiedKey, Platform};

/// The platform's servers.
pub struct Upstream {
    peers: ArcSwap<Vec<HttpPeer>>,
    names: Vec<String>,
    host: HeaderValue,
    template: HttpPeer,
}

impl Upstream {
    /// Resolves every server once; a name that cannot be resolved is an error here and a log line later. `ca` stands in for the
    /// system's certificates, and `client` is what the gateway shows the platform.
    pub fn new(
        platform: &Platform,
        ca: Option<Vec<X509>>,
        client: Option<CertifiedKey>,
    ) -> std::io::Result<Arc<Self>> {
        let upstream = Self {
            peers: ArcSwap::default(),
            template: template(platform, ca, client),
            // A name that can be looked up is a value.
            host: platform
                .servers
                .first()
                .and_then(|name| HeaderValue::from_str(name).ok())
                .unwrap_or_else(|| HeaderValue::from_static("")),
            names: platform.servers.clone(),
        };
        upstream.peers.store(upstream.resolve()?.into());
        let upstream = Arc::new(upstream);
        let literal = |name: &String| name.parse::<SocketAddr>().is_ok();
        if !upstream.names.iter().all(literal) {
            let (weak, interval) = (Arc::downgrade(&upstream), platform.resolve_interval);
            thread::Builder::new().name("resolver".into()).spawn(move || refresh(&weak, interval))?;
        }
        Ok(upstream)
    }

    /// `Host` of a request that came without one.
    pub const fn host(&self) -> &HeaderValue {
        &self.host
    }

    /// How many servers there are.
    pub fn servers(&self) -> usize {
        self.peers.load().len()
    }

    /// The server for the given try of a request that was let through; tries of one request go round.
    pub fn peer(&self, _pass: &Pass, first: usize, tries: usize) -> Option<Box<HttpPeer>> {
        let peers = self.peers.load();
        let at = first.wrapping_add(tries).checked_rem(peers.len())?;
        peers.get(at).cloned().map(Box::new)
    }

    /// Where this thread's next request goes first: round robin, without a counter that cores share.
    pub fn next(&self) -> usize {
        thread_local! {
            static NEXT: Cell<usize> = const { Cell::new(0) };
        }
        NEXT.with(|next| next.replace(next.get().wrapping_add(1)))
    }

    fn resolve(&self) -> std::io::Result<Vec<HttpPeer>> {
        let mut peers = Vec::new();
        for name in &self.names {
            let addresses = name.to_socket_addrs().map_err(|error| {
                std::io::Error::new(error.kind(), format!("the platform's server {name}: {error}"))
            })?;
            for address in addresses {
                let mut peer = self.template.clone();
                peer._address = pingora::protocols::l4::socket::SocketAddr::Inet(address);
                peers.push(peer);
            }
        }
        Ok(peers)
    }
}

/// All that is the same for every server. pingora's own defaults are no time-outs at all.
fn template(platform: &Platform, ca: Option<Vec<X509>>, client: Option<CertifiedKey>) -> HttpPeer {
    let unspecified = SocketAddr::from(([0, 0, 0, 0], 0));
    let name = platform.tls.as_ref().map_or(String::new(), |tls| tls.server_name.clone());
    let mut peer = HttpPeer::new(unspecified, platform.tls.is_some(), name);
    let options = &mut peer.options;
    options.connection_timeout = Some(platform.connect_timeout);
    options.total_connection_timeout = Some(platform.connect_timeout * 2);
    options.read_timeout = Some(platform.read_timeout);
    options.write_timeout = Some(platform.write_timeout);
    options.idle_timeout = Some(platform.idle_timeout);
    options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
    if let Some(tls) = &platform.tls {
        options.verify_cert = tls.verify;
        options.verify_hostname = tls.verify;
        options.ca = ca.map(|chain| Arc::new(chain.into_boxed_slice()));
        peer.client_cert_key = client.map(|pair| Arc::new(CertKey::new(pair.chain, pair.key)));
    }
    peer
}

/// Looks the names up again and again; a failure keeps what was known.
fn refresh(upstream: &Weak<Upstream>, interval: Duration) {
    loop {
        thread::sleep(interval);
        let Some(upstream) = upstream.upgrade() else {
            return;
        };
        match upstream.resolve() {
            Ok(peers) => upstream.peers.store(peers.into()),
            Err(error) => log::warn!("{error}; the last known addresses stay in use"),
        }
    }
}
