//! The sockets of a start: all are there before anything runs, bound here or handed over by whoever started the process.

use std::io;
use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;
use socket2::SockRef;

use super::predecessor::Succeeds;
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

/// Sockets that are there when the process starts: systemd's (`sd_listen_fds(3)`), or those of the gateway that this one succeeds.
#[derive(Default)]
pub struct Inherited {
    listeners: Vec<(SocketAddr, TcpListener)>,
    fault: Option<String>,
    /// The gateway that this process is to succeed, if one has started it.
    pub(super) predecessor: Option<Succeeds>,
}

impl Inherited {
    /// Takes what `LISTEN_FDS` announces, once. To be called before there are threads, which may read the environment.
    pub fn from_environment() -> Self {
        let mut found = ListenFd::from_env();
        let predecessor = std::env::var_os(PREDECESSOR).and_then(|path| Succeeds::of(path.as_ref()));
        let mut inherited = Self { predecessor, ..Self::default() };
        for number in 0..found.len() {
            let taken = found.take_tcp_listener(number).and_then(|listener| {
                let listener = listener.ok_or(io::ErrorKind::NotFound)?;
                // Of a socket that only is bound, every accept would fail.
                if !SockRef::from(&listener).is_listener()? {
                    return Err(io::Error::other("it does not listen"));
                }
                Ok((listener.local_addr()?, listener))
            });
            match taken {
                Ok(listener) => inherited.listeners.push(listener),
                Err(error) => {
                    inherited.fault =
                        Some(format!("socket {} of LISTEN_FDS cannot be used: {error}", number + 1));
                }
            }
        }
        inherited
    }

    /// The gateway that this process is to succeed, if it is a successor.
    pub const fn succeeds(&self) -> Option<&Succeeds> {
        self.predecessor.as_ref()
    }

    /// Why a start is refused, once every listener has had its turn. A configuration may leave out what a predecessor listened on; what somebody
    /// else hands over and nobody takes would leave its clients waiting for ever.
    pub(super) fn faults(&self) -> Vec<String> {
        let untaken = self.listeners.iter().filter(|_| self.predecessor.is_none()).map(|(address, _)| {
            format!(
                "the socket {address} was handed over (LISTEN_FDS) and no listener of the configuration has this address: name it in server.https, \
                 server.http or admin.listen, or take it out of the socket unit"
            )
        });
        self.fault.iter().cloned().chain(untaken).collect()
    }

    /// Has the predecessor listened on this port by a socket for IPv4, which nobody has taken?
    fn is_left_on_ipv4(&self, port: u16) -> bool {
        let is_it = |address: &SocketAddr| address.is_ipv4() && address.port() == port;
        self.predecessor.is_some() && self.listeners.iter().any(|(address, _)| is_it(address))
    }

    /// The first that listens where the configuration says; port 0 is any.
    fn take(&mut self, wanted: &SocketAddr) -> Option<TcpListener> {
        let is_it = |address: &SocketAddr| match wanted.port() {
            0 => address.ip() == wanted.ip(),
            _ => address == wanted,
        };
        let place = self.listeners.iter().position(|(address, _)| is_it(address))?;
        Some(self.listeners.remove(place).1)
    }
}

/// The sockets for clients.
pub(super) struct Traffic {
    pub(super) https: Vec<Bound>,
    pub(super) http: Vec<Bound>,
}

impl Sockets {
    /// Binds all of them that were not handed over; one error for each that cannot be bound.
    pub(super) fn bind(
        settings: &config::Server,
        admin: &[SocketAddr],
        inherited: &mut Inherited,
    ) -> Result<Self, Vec<(SocketAddr, io::Error)>> {
        let all = [&settings.https, &settings.http, admin].concat();
        let mut errors = Vec::new();
        let mut bind = |kind: &'static str, addresses: &[SocketAddr]| {
            let bound = addresses.iter().map(|address| match inherited.take(address) {
                Some(listener) => Bound::of(kind, *address, listener),
                None if is_ipv6_only(address, &all) => Bound::bind_ipv6_only(kind, *address),
                None => Bound::bind(kind, *address),
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
        // The socket for IPv6 that was handed over leaves IPv4 alone, and cannot be changed.
        let takes_both = |address: &&SocketAddr| {
            address.is_ipv6() && address.ip().is_unspecified() && !is_ipv6_only(address, &all)
        };
        for address in
            all.iter().filter(takes_both).filter(|address| inherited.is_left_on_ipv4(address.port()))
        {
            let text = format!(
                "cannot listen on {address} for IPv4 too: the gateway that runs has a socket of its own for that: this needs a restart, or the IPv4 address beside it"
            );
            errors.push((*address, io::Error::other(text)));
        }
        if errors.is_empty() { Ok(Self { traffic, admin }) } else { Err(errors) }
    }

    /// The same sockets once more, in the order in which a successor looks for them. They listen until these are closed too.
    pub(super) fn duplicates(&self) -> io::Result<Vec<TcpListener>> {
        let Self { traffic: Traffic { https, http }, admin } = self;
        [https, http, admin].into_iter().flatten().map(Bound::duplicate).collect()
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

/// Which gateway a process is to succeed.
pub(super) const PREDECESSOR: &str = "DS_GATEWAY_PREDECESSOR";

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
