//! The servers as the engine is told of them: time-outs, TLS, and whose certificate is believed.

use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::SocketAddr as UnixSocketAddr;
use std::sync::Arc;
use std::time::Duration;

use openssl::ssl::SslRef;
use openssl::x509::X509;
use pingora::protocols::l4::socket::SocketAddr as PeerAddress;
use pingora::protocols::tls::SslDigest;
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};
use pingora::utils::tls::CertKey;

use super::names::Address;
use crate::config::{CertifiedKey, PlatformServer, ServerPool};

/// The times that connections to a platform have.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Between two reads, the wait for the answer included.
    pub read: Duration,
    /// For each write.
    pub write: Duration,
    /// How long one is kept that nobody uses.
    pub idle: Duration,
}

impl Times {
    pub(super) const fn of(pool: &ServerPool) -> Self {
        Self { read: pool.read_timeout, write: pool.write_timeout, idle: pool.idle_timeout }
    }
}

/// What is the same for every address of a server. `ca` stands in for the system's certificates, and `client` is what the gateway
/// shows. pingora's own defaults are no time-outs at all.
pub(super) fn template(
    pool: &ServerPool,
    server: &PlatformServer,
    ca: Option<&Arc<Box<[X509]>>>,
    client: Option<&Arc<CertKey>>,
) -> HttpPeer {
    let unspecified = SocketAddr::from(([0, 0, 0, 0], 0));
    let tls_name = server.tls_name.clone();
    let mut peer = HttpPeer::new(unspecified, tls_name.is_some(), tls_name.clone().unwrap_or_default());
    let options = &mut peer.options;
    options.connection_timeout = Some(pool.connect_timeout);
    options.total_connection_timeout = Some(pool.connect_timeout * 2);
    options.read_timeout = Some(pool.read_timeout);
    options.write_timeout = Some(pool.write_timeout);
    options.idle_timeout = Some(pool.idle_timeout);
    options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
    if let Some(name) = tls_name {
        options.verify_cert = pool.verify;
        options.verify_hostname = pool.verify;
        options.ca = ca.cloned();
        // The engine compares names with DNS names only: an address is compared here (RFC 9110 §4.3.5).
        if let (true, Ok(address)) = (pool.verify, name.parse::<IpAddr>()) {
            options.verify_hostname = false;
            options.upstream_tls_handshake_complete_hook =
                Some(Arc::new(move |tls: &SslRef| Some(Arc::new(NamesAddress(names_address(tls, address))))));
        }
        peer.client_cert_key = client.cloned();
    }
    peer
}

/// The peer for one address. Connections are kept for its `id` alone.
pub(super) fn at(template: &HttpPeer, address: &Address, id: u64) -> std::io::Result<HttpPeer> {
    let mut peer = template.clone();
    peer._address = match address {
        Address::Network(address) => PeerAddress::Inet(*address),
        Address::Unix(path) => PeerAddress::Unix(UnixSocketAddr::from_pathname(path)?),
    };
    peer.group_key = id;
    Ok(peer)
}

/// Lets a request have a new connection, which is closed after it. The engine keeps connections by everything that a peer is, so under a
/// key that nobody had it finds none. `key` is one.
pub(super) const fn without_kept(peer: &mut HttpPeer, key: u64) {
    peer.group_key = key;
    peer.options.idle_timeout = Some(Duration::ZERO);
}

pub(super) fn client_key(client: CertifiedKey) -> Arc<CertKey> {
    Arc::new(CertKey::new(client.chain, client.key))
}

/// Is a connection one to the peer, as far as the engine has not checked that? It has not for certificates of IP addresses.
pub fn is_verified(peer: &HttpPeer, tls: Option<&SslDigest>) -> bool {
    if peer.options.upstream_tls_handshake_complete_hook.is_none() {
        return true;
    }
    let found = tls.and_then(|tls| tls.extension.get::<NamesAddress>());
    found.is_some_and(|NamesAddress(is_named)| *is_named)
}

/// Does the certificate of a connection name the address?
struct NamesAddress(bool);

fn names_address(tls: &SslRef, address: IpAddr) -> bool {
    let octets = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let names = tls.peer_certificate().and_then(|certificate| certificate.subject_alt_names());
    names.is_some_and(|names| names.iter().any(|name| name.ipaddress() == Some(octets.as_slice())))
}
