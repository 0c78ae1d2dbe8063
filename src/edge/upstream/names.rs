//! The addresses of the servers' names. Each name keeps the last ones that it had: one that cannot be resolved takes nothing from the
//! others, and loses nothing itself.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use crate::config::{PlatformServer, ServerAddress};

/// Where a connection can be made to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    Network(SocketAddr),
    Unix(PathBuf),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Network(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// All servers with what is known of them, in the order of the configuration.
pub(super) struct Names(Vec<Name>);

struct Name {
    text: String,
    known: Vec<Address>,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// An address, which is never looked up.
    Literal,
    /// It was found when it was last looked up.
    Found,
    /// It was not, which was logged.
    Missing,
}

impl Names {
    pub(super) fn new(servers: &[PlatformServer]) -> Self {
        let name = |server: &PlatformServer| {
            let known = match &server.address {
                ServerAddress::Unix(path) => vec![Address::Unix(path.clone())],
                ServerAddress::Network(text) => {
                    text.parse().into_iter().map(Address::Network).collect::<Vec<_>>()
                }
            };
            let kind = if known.is_empty() { Kind::Found } else { Kind::Literal };
            Name { text: server.name.clone(), known, kind }
        };
        Self(servers.iter().map(name).collect())
    }

    /// Looks the names up again and again, for as long as somebody has the other end of that channel.
    pub(super) fn refresh(
        mut self,
        interval: Duration,
        is_dropped: &Receiver<Infallible>,
        take_over: impl Fn(&Self),
    ) {
        while is_dropped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
            // Each name that failed has logged that.
            let _ = self.resolve();
            take_over(&self);
        }
    }

    /// Is there nothing to look up?
    pub(super) fn are_literal(&self) -> bool {
        self.0.iter().all(|name| name.kind == Kind::Literal)
    }

    /// What is known of each server.
    pub(super) fn known(&self) -> impl Iterator<Item = &[Address]> {
        self.0.iter().map(|name| name.known.as_slice())
    }

    /// Looks every name up, all at once, so that a resolver that is slow for one of them delays none of the others' threads. An error is the
    /// first one, where nothing is known of any server. Returns what is to be said of those that never had an address.
    pub(super) fn resolve(&mut self) -> io::Result<Vec<String>> {
        self.resolve_with(|text| text.to_socket_addrs().map(Iterator::collect))
    }

    fn resolve_with(
        &mut self,
        look_up: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Sync,
    ) -> io::Result<Vec<String>> {
        let found: Vec<Option<io::Result<Vec<SocketAddr>>>> = thread::scope(|scope| {
            let start = |name: &Name| {
                let text = name.text.clone();
                let look_up = &look_up;
                (name.kind != Kind::Literal).then(|| scope.spawn(move || look_up(&text)))
            };
            let started: Vec<_> = self.0.iter().map(start).collect();
            let end = |thread: thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|_| Err(io::Error::other("the resolver panicked")))
            };
            started.into_iter().map(|thread| thread.map(end)).collect()
        });
        let (mut first, mut warnings) = (None, Vec::new());
        for (name, found) in self.0.iter_mut().zip(found) {
            let error = match found {
                None => continue,
                Some(Ok(addresses)) if addresses.is_empty() => io::Error::other("the name has no address"),
                Some(Ok(addresses)) => {
                    name.found(addresses);
                    continue;
                }
                Some(Err(error)) => error,
            };
            warnings.extend(name.missing(&error));
            let text = format!("the platform's server {}: {error}", name.text);
            first.get_or_insert(io::Error::new(error.kind(), text));
        }
        match first {
            Some(error) if self.0.iter().all(|name| name.known.is_empty()) => Err(error),
            _ => Ok(warnings),
        }
    }
}

impl Name {
    fn found(&mut self, addresses: Vec<SocketAddr>) {
        let mut addresses = addresses;
        // Resolvers turn their lists round, which changes nothing.
        addresses.sort();
        addresses.dedup();
        self.known = addresses.into_iter().map(Address::Network).collect();
        if self.kind == Kind::Missing {
            log::info!(server = self.text; "platform server name resolved again");
        }
        self.kind = Kind::Found;
    }

    /// A warning, where it never had an address.
    fn missing(&mut self, error: &io::Error) -> Option<String> {
        if std::mem::replace(&mut self.kind, Kind::Missing) == Kind::Missing {
            return None;
        }
        if !self.known.is_empty() {
            let (server, addresses, error) = (&self.text, self.known.len(), error.to_string());
            log::warn!(server, addresses, error; "platform server name cannot be resolved; its last known addresses stay in use");
            return None;
        }
        Some(format!(
            "{}: platform server name cannot be resolved; it is left out until it can be: {error}",
            self.text
        ))
    }
}

#[cfg(test)]
impl Names {
    /// Forgets the addresses of every server but one.
    pub(super) fn keep_only(&mut self, server: usize) {
        for (at, name) in self.0.iter_mut().enumerate() {
            if at != server {
                name.known.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(servers: &[&str]) -> Names {
        let server = |name: &&str| PlatformServer {
            name: (*name).to_owned(),
            address: ServerAddress::Network((*name).to_owned()),
            tls_name: None,
            host: String::new(),
        };
        Names::new(&servers.iter().map(server).collect::<Vec<_>>())
    }

    fn shown(names: &Names) -> Vec<Vec<String>> {
        names.known().map(|known| known.iter().map(ToString::to_string).collect()).collect()
    }

    #[test]
    fn a_name_that_cannot_be_resolved_keeps_its_addresses_and_takes_none_from_others() {
        let mut names = names(&["a:1", "b:1", "127.0.0.9:1"]);
        let table = |rows: &'static [(&str, &[&str])]| {
            move |text: &str| -> io::Result<Vec<SocketAddr>> {
                assert_ne!(text, "127.0.0.9:1", "an address is never looked up");
                let row = rows.iter().find(|(name, _)| *name == text);
                let (_, addresses) = row.ok_or_else(|| io::Error::other("no such name"))?;
                Ok(addresses.iter().map(|address| address.parse().unwrap()).collect())
            }
        };
        // At the start one is enough.
        let b_alone: &[(&str, &[&str])] = &[("b:1", &["10.0.0.2:1", "10.0.0.1:1", "10.0.0.1:1"])];
        let warnings = names.resolve_with(table(b_alone)).unwrap();
        assert!(warnings.len() == 1 && warnings[0].starts_with("a:1: "), "{warnings:?}");
        assert_eq!(names.resolve_with(table(b_alone)).unwrap(), [""; 0], "it is said once");
        let b = vec!["10.0.0.1:1".to_owned(), "10.0.0.2:1".to_owned()];
        let literal = vec!["127.0.0.9:1".to_owned()];
        assert_eq!(shown(&names), [vec![], b.clone(), literal.clone()]);
        // Then the other one is found, and this one is not, and an empty answer is none.
        let warnings = names.resolve_with(table(&[("a:1", &["10.0.0.3:1"])])).unwrap();
        assert_eq!(warnings, [""; 0], "it has addresses still, and logs that");
        let a = vec!["10.0.0.3:1".to_owned()];
        assert_eq!(shown(&names), [a.clone(), b, literal.clone()]);
        names.resolve_with(table(&[("a:1", &[]), ("b:1", &["10.0.0.4:1"])])).unwrap();
        assert_eq!(shown(&names), [a, vec!["10.0.0.4:1".to_owned()], literal]);
    }

    #[test]
    fn nobody_looks_names_up_whose_platform_is_gone() {
        let (is_used, is_dropped) = std::sync::mpsc::channel();
        let names = names(&["localhost:1"]);
        let looking = thread::spawn(move || names.refresh(Duration::from_secs(3600), &is_dropped, |_| {}));
        drop(is_used);
        looking.join().unwrap();
    }

    #[test]
    fn without_any_address_there_is_an_error() {
        let mut names = names(&["a:1", "b:1"]);
        let error = names.resolve_with(|_| Err(io::Error::other("no such name"))).unwrap_err();
        assert_eq!(error.to_string(), "the platform's server a:1: no such name");
        assert!(!names.are_literal());
    }
}
