//! The sockets of a start: all are bound before anything runs.

use std::net::SocketAddr;

use crate::config;
use crate::edge::listener::Bound;
use crate::state_dir::error::StartError;

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
    pub(super) fn bind(settings: &config::Server, admin: SocketAddr) -> Result<Self, StartError> {
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
    pub(super) fn log(&self) {
        for (listener, addresses) in [("https", &self.https), ("http", &self.http), ("admin", &self.admin)] {
            for address in addresses {
                log::info!(listener, address:%; "listening");
            }
        }
    }
}
