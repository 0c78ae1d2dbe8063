//! The sockets of a start: all are bound before anything runs.

use std::io;
use std::net::SocketAddr;

use crate::config::{self, is_ipv6_only};
use crate::edge::listener::Bound;

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

/// Every socket, bound.
pub(super) struct Sockets {
    pub(super) traffic: Traffic,
    pub(super) admin: Vec<Bound>,
}

/// The sockets for clients.
pub(super) struct Traffic {
    pub(super) https: Vec<Bound>,
    pub(super) http: Vec<Bound>,
}

impl Sockets {
    /// Binds all of them; one error for each that cannot be bound.
    pub(super) fn bind(
        settings: &config::Server,
        admin: &[SocketAddr],
    ) -> Result<Self, Vec<(SocketAddr, io::Error)>> {
        let all = [&settings.https, &settings.http, admin].concat();
        let mut errors = Vec::new();
        let mut bind = |kind: &'static str, addresses: &[SocketAddr]| {
            let bound = addresses.iter().map(|address| match is_ipv6_only(address, &all) {
                true => Bound::bind_ipv6_only(kind, *address),
                false => Bound::bind(kind, *address),
            });
            let mut sockets = Vec::new();
            for (address, bound) in addresses.iter().zip(bound) {
                let expects = settings.proxy_protocol.contains(address);
                match bound {
                    Ok(bound) => sockets.push(bound.expect_proxy_header(expects)),
                    Err(error) => errors.push((*address, error)),
                }
            }
            sockets
        };
        let traffic = Traffic { https: bind("https", &settings.https), http: bind("http", &settings.http) };
        let admin = bind("admin", admin);
        if errors.is_empty() { Ok(Self { traffic, admin }) } else { Err(errors) }
    }

    pub(super) fn listening(&self) -> Listening {
        let addresses = |sockets: &[Bound]| sockets.iter().map(Bound::address).collect();
        Listening {
            https: addresses(&self.traffic.https),
            http: addresses(&self.traffic.http),
            admin: addresses(&self.admin),
        }
    }
}

impl Listening {
    /// Every address.
    pub(super) fn all(&self) -> Vec<SocketAddr> {
        [&self.https[..], &self.http, &self.admin].concat()
    }

    pub(super) fn log(&self) {
        for (listener, addresses) in [("https", &self.https), ("http", &self.http), ("admin", &self.admin)] {
            for address in addresses {
                log::info!(listener, address:%; "listening");
            }
        }
    }
}
