//! The servers of a directory: in which order they are asked, which are left out for a while, and the connections that are kept.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::connection::Service;
use super::failure::{Cause, Failure};
use crate::config::{Ldap, LdapServer};

/// All servers.
pub(super) struct Servers {
    all: Vec<Server>,
    idle_timeout: Duration,
    eject_for: Duration,
}

/// One server.
pub(super) struct Server {
    pub(super) settings: LdapServer,
    left_out: Mutex<Option<LeftOut>>,
    kept: Mutex<Vec<(Instant, Service)>>,
}

/// Until when a server is left out, and why.
#[derive(Clone, Copy, Debug)]
struct LeftOut {
    until: Instant,
    cause: Cause,
}

impl Servers {
    pub(super) fn new(settings: &Ldap) -> Self {
        let server = |settings: &LdapServer| Server {
            settings: settings.clone(),
            left_out: Mutex::new(None),
            kept: Mutex::new(Vec::new()),
        };
        let all = settings.servers.iter().map(server).collect();
        Self { all, idle_timeout: settings.idle_timeout, eject_for: settings.eject_for }
    }

    /// Those to ask, in this order: `first`, then the others that are in use, as configured. If none is, those that failed, since one of
    /// them may be back; but none that refused the gateway's own account.
    pub(super) fn to_ask<'s>(&'s self, first: Option<&'s Server>) -> Vec<&'s Server> {
        let now = Instant::now();
        let left_out = |server: &Server| server.left_out.lock().filter(|left_out| left_out.until > now);
        let others =
            self.all.iter().filter(|server| !first.is_some_and(|first| std::ptr::eq(first, *server)));
        let mut servers: Vec<&Server> =
            first.into_iter().chain(others.filter(|server| left_out(server).is_none())).collect();
        if servers.is_empty() {
            let may_be_back =
                |server: &&Server| left_out(server).is_some_and(|out| out.cause != Cause::OwnAccount);
            servers.extend(self.all.iter().filter(may_be_back));
        }
        servers
    }

    /// Notes that a server answered.
    pub(super) fn answered(&self, server: &Server) {
        if server.left_out.lock().take().is_some() {
            log::info!(server = server.settings.name.as_str(); "LDAP server is in use again");
        }
    }

    /// Notes that a server failed, and leaves it out; one that answered, though not well, is not.
    pub(super) fn failed(&self, server: &Server, failure: &Failure) {
        let (name, cause) = (server.settings.name.as_str(), failure.to_string());
        if failure.cause == Cause::Question {
            log::warn!(server = name, cause; "LDAP server did not answer a question");
            return;
        }
        server.kept.lock().clear();
        let left_out = LeftOut { until: Instant::now() + self.eject_for, cause: failure.cause };
        // Once, and not for each login that finds the same.
        if server.left_out.lock().replace(left_out).is_none() {
            log::warn!(server = name, seconds = self.eject_for.as_secs(), cause; "LDAP server is left out");
        }
    }

    /// A connection that was kept, the last one first, if it was not for too long.
    pub(super) fn take_kept(&self, server: &Server) -> Option<Service> {
        let mut kept = server.kept.lock();
        let (since, connection) = kept.pop()?;
        if since.elapsed() < self.idle_timeout {
            return Some(connection);
        }
        // Those below it were kept for longer.
        kept.clear();
        None
    }

    /// Keeps a connection that nothing is expected on any more. There are no more of them than logins at once.
    pub(super) fn keep(&self, server: &Server, connection: Service) {
        server.kept.lock().push((Instant::now(), connection));
    }
}

impl std::fmt::Debug for Servers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.all.iter().map(|server| &server.settings.name)).finish()
    }
}
