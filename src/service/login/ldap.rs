//! Users of a directory, over LDAP (RFC 4511).
//!
//! ```text
//! LdapUsers ─► directory   name ─► entry ─► account, groups ─► identity; person and account have the rules
//!           ─► servers     fail-over; connections of the gateway's own account are kept
//!           ─► connection  one request at a time, as nobody, as that account, or as a user
//!                request, answer, ber   the part of the protocol that this needs
//!                stream, tls            the way to a server
//! ```
//!
//! A password is sent to one server, once for each login, as the client typed it, and only on a connection of its own. Nothing that a
//! server says can make the gateway wait for longer, or hold more memory, than is written here. The reasons, and why no library does
//! this: `docs/decisions/0045-ldap.md`.

mod account;
mod answer;
mod ber;
mod connection;
mod directory;
mod entry;
mod failure;
mod person;
mod request;
mod servers;
mod stream;
mod tls;

use async_trait::async_trait;
use openssl::error::ErrorStack;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use self::account::{State, Verdict};
use self::answer::Outcome;
use self::connection::{Bound, Service, Times, Unbound};
use self::directory::{Directory, Person, Resolution};
use self::failure::{Cause, Failure};
use self::request::SimpleBind;
use self::servers::{Server, Servers};
use self::tls::Tls;
use super::source::{Answer, Presence, Refused, UserSource};
use crate::auth::endpoint::Credentials;
use crate::auth::name::Name;
use crate::auth::secret::Secret;
use crate::clock::Clock;
use crate::config::{Ldap, LdapLookup, LdapMaterials};

/// The users of a directory.
pub struct LdapUsers {
    settings: Ldap,
    bind_password: Option<Secret>,
    servers: Servers,
    tls: Tls,
    times: Times,
    clock: Clock,
    permits: Semaphore,
}

impl LdapUsers {
    /// Connects to nobody yet.
    ///
    /// # Errors
    ///
    /// If OpenSSL does not take the certificates.
    pub fn new(settings: Ldap, materials: &LdapMaterials, clock: Clock) -> Result<Self, ErrorStack> {
        Ok(Self {
            bind_password: materials.bind_password.clone(),
            servers: Servers::new(&settings),
            tls: Tls::new(materials, settings.verify)?,
            times: Times { connect: settings.connect_timeout, operation: settings.operation_timeout },
            clock,
            permits: Semaphore::new(settings.max_logins),
            settings,
        })
    }

    /// Does the work if not too much is being done, and for no longer than a login may take.
    async fn bounded<T>(&self, work: impl Future<Output = Result<T, Failure>> + Send) -> Result<T, Failure> {
        let Ok(_permit) = self.permits.try_acquire() else { return Err(Failure::busy()) };
        let done = timeout(self.settings.login_timeout, work).await;
        done.unwrap_or_else(|_| Err(Failure::timed_out("the login took too long")))
    }

    async fn login(&self, credentials: &Credentials) -> Result<Answer, Failure> {
        let (user, password) = (&credentials.user, &credentials.password);
        if password.expose_secret().is_empty() {
            return Ok(refused(Refused::Password, "an empty password"));
        }
        match &self.settings.lookup {
            LdapLookup::Search { .. } => {
                let (resolution, server) = self.resolve(user).await?;
                match resolution {
                    Resolution::Unknown => Ok(Answer::Unknown),
                    Resolution::Refused(why, text) => Ok(refused(why, text)),
                    Resolution::Found(person) => self.check(person, password, server).await,
                }
            }
            LdapLookup::Direct { user_dn } => self.enter(&user_dn.of(user.as_str()), password, user).await,
        }
    }

    /// Asks whose name it is, as the gateway's own account, and says which server answered.
    async fn resolve(&self, user: &Name) -> Result<(Resolution, &Server), Failure> {
        let mut last = Failure::own_account("refused the account of bind_dn a moment ago");
        for server in self.servers.to_ask(None) {
            match self.resolve_at(server, user).await {
                Ok(resolution) => {
                    self.servers.answered(server);
                    return Ok((resolution, server));
                }
                Err(failure) => {
                    self.servers.failed(server, &failure);
                    last = failure;
                }
            }
        }
        Err(last)
    }

    async fn resolve_at(&self, server: &Server, user: &Name) -> Result<Resolution, Failure> {
        let directory = Directory { settings: &self.settings, now: self.clock.now() };
        while let Some(mut connection) = self.servers.take_kept(server) {
            match directory.resolve(connection.bound(), user, None).await {
                // The server did not want to keep it as long as the gateway did.
                Err(failure) if failure.cause == Cause::Closed => {}
                Err(failure) => return Err(failure),
                Ok(resolution) => {
                    self.servers.keep(server, connection);
                    return Ok(resolution);
                }
            }
        }
        let mut connection = self.connect(server).await?;
        let resolution = directory.resolve(connection.bound(), user, None).await?;
        self.servers.keep(server, connection);
        Ok(resolution)
    }

    /// A new connection of the gateway's own account.
    async fn connect(&self, server: &Server) -> Result<Service, Failure> {
        let (LdapLookup::Search { bind_dn, .. }, Some(password)) =
            (&self.settings.lookup, &self.bind_password)
        else {
            return Err(Failure::own_account("cannot be searched without bind_dn and its password"));
        };
        let bind = SimpleBind::new(bind_dn, password);
        let bind = bind.ok_or_else(|| Failure::own_account("is not told an empty name or password"))?;
        Unbound::dial(&server.settings, &self.tls, self.times).await?.bind_service(bind).await
    }

    /// Tries the password of somebody who was found at `server`.
    async fn check(&self, person: Person, password: &Secret, server: &Server) -> Result<Answer, Failure> {
        let Person { dn, identity, state } = person;
        let (outcome, _connection, _) = self.bind(&dn, password, Some(server)).await?;
        Ok(match Verdict::of(&outcome, state)? {
            Verdict::Accepted => Answer::Accepted(identity),
            Verdict::Refused(why, text) => refused(why, text),
        })
    }

    /// Tries a password at a name that was made of the user's, and then reads the entry as that user.
    async fn enter(&self, dn: &str, password: &Secret, user: &Name) -> Result<Answer, Failure> {
        let (outcome, mut connection, server) = self.bind(dn, password, None).await?;
        if let Verdict::Refused(why, text) = Verdict::of(&outcome, State::Open)? {
            return Ok(refused(why, text));
        }
        let directory = Directory { settings: &self.settings, now: self.clock.now() };
        let resolution = directory.resolve(&mut connection, user, Some(dn)).await;
        match resolution.inspect_err(|failure| self.servers.failed(server, failure))? {
            Resolution::Found(person) => Ok(Answer::Accepted(person.identity)),
            Resolution::Refused(why, text) => Ok(refused(why, text)),
            Resolution::Unknown => Ok(refused(Refused::Identity, "it may not read its own entry")),
        }
    }

    /// Sends a password to the first server that a connection can be made to, and to no other: it may have been counted.
    async fn bind<'s>(
        &'s self,
        dn: &str,
        password: &Secret,
        first: Option<&'s Server>,
    ) -> Result<(Outcome, Bound, &'s Server), Failure> {
        let bind = SimpleBind::new(dn, password);
        let bind = bind.ok_or_else(|| Failure::invalid("is not told an empty name or password"))?;
        let mut last = Failure::unreachable("no server can be asked");
        for server in self.servers.to_ask(first) {
            match Unbound::dial(&server.settings, &self.tls, self.times).await {
                Ok(connection) => {
                    let bound = connection.bind_user(bind).await;
                    let (outcome, bound) =
                        bound.inspect_err(|failure| self.servers.failed(server, failure))?;
                    self.servers.answered(server);
                    return Ok((outcome, bound, server));
                }
                Err(failure) => {
                    self.servers.failed(server, &failure);
                    last = failure;
                }
            }
        }
        Err(last)
    }
}

#[async_trait]
impl UserSource for LdapUsers {
    async fn authenticate(&self, credentials: &Credentials) -> Answer {
        let answer = self.bounded(self.login(credentials)).await;
        answer.unwrap_or_else(|failure| Answer::Unavailable(failure.kind))
    }

    /// An account that is locked out because of wrong passwords is present: whoever knows a name could end its sessions otherwise.
    async fn find(&self, user: &Name) -> Option<Presence> {
        if !self.settings.knows_names() {
            return None;
        }
        Some(match self.bounded(self.resolve(user)).await {
            Ok((Resolution::Found(person), _)) => Presence::Present(person.identity),
            Ok((Resolution::Unknown | Resolution::Refused(..), _)) => Presence::Gone,
            Err(failure) => Presence::Unavailable(failure.kind),
        })
    }
}

/// Where it goes, and no name: the audit trail has that.
impl std::fmt::Debug for LdapUsers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LdapUsers").field("servers", &self.servers).finish_non_exhaustive()
    }
}

fn refused(why: Refused, reason: &str) -> Answer {
    log::info!(reason; "directory refuses a login");
    Answer::Refused(why)
}
