//! How the store gets a connection: the first host that will do, with the session's settings.

use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_postgres::config::{SslMode, TargetSessionAttrs};
use tokio_postgres::{Client, Config, Connection, SimpleQueryMessage, Socket};

use super::error::{Account, Explained};
use super::tls::{Encrypted, Tls};
use crate::config::{Durability, PostgresHost, PostgresMaterials, PostgresSettings, PostgresTls};
use crate::store::error::StoreError;

/// What does a connection's work, and must be polled for that: it ends with the connection.
pub(super) type Driver = Connection<Socket, Encrypted>;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Purpose {
    /// What the server calls its session, behind the name of the application.
    pub(super) name: &'static str,
    /// How long a statement may take; zero: any time.
    pub(super) statement_timeout: Duration,
    /// How long a statement may wait for a lock; zero: any time.
    pub(super) lock_timeout: Duration,
    /// How long the server may say nothing, before it is given up.
    pub(super) silence: Duration,
}

impl Purpose {
    /// With half a minute for a statement, and 5 s for a lock.
    pub(super) const fn new(name: &'static str) -> Self {
        Self {
            name,
            statement_timeout: Duration::from_secs(30),
            lock_timeout: Duration::from_secs(5),
            silence: SILENCE,
        }
    }
}

/// Connects to the first of the hosts that will do, each address of a name tried in turn.
///
/// # Errors
///
/// If none does: what was wrong with each. It is transient if one of them may do a little later.
pub(super) async fn connect(
    settings: &PostgresSettings,
    purpose: Purpose,
) -> Result<(Client, Driver), StoreError> {
    let (copy, mode) = (settings.clone(), settings.tls);
    let prepared = spawn_blocking(move || {
        let materials = copy.materials();
        let tls = Tls::new(&materials, mode)?;
        Ok::<_, openssl::error::ErrorStack>((materials, tls))
    });
    let (materials, tls) = match prepared.await {
        Ok(prepared) => prepared.map_err(|error| Explained::no_tls(error.to_string()))?,
        Err(_) => return Err(StoreError::Stopped),
    };
    let dial = Dial { settings, purpose, materials: &materials, tls: &tls };
    let mut failures = Vec::new();
    for host in &settings.hosts {
        match dial.host(host).await {
            Ok(connected) => return Ok(connected),
            Err(more) => failures.extend(more),
        }
    }
    Err(Explained::of_all(failures).into())
}

/// What a connection is made with.
struct Dial<'d> {
    settings: &'d PostgresSettings,
    purpose: Purpose,
    materials: &'d PostgresMaterials,
    tls: &'d Tls,
}

impl Dial<'_> {
    /// Tries every address of a host.
    async fn host(&self, host: &PostgresHost) -> Result<(Client, Driver), Vec<Explained>> {
        let addresses = match host {
            PostgresHost::Unix { .. } => vec![None],
            PostgresHost::Tcp { host: name, port } => self
                .addresses(name, *port)
                .await
                .map_err(|text| vec![Explained::unavailable(text).at(host)])?
                .into_iter()
                .map(Some)
                .collect(),
        };
        let mut failures = Vec::new();
        for address in addresses {
            let limit = self.settings.connect_timeout;
            let connected = timeout(limit, self.address(host, address)).await.unwrap_or_else(|_| {
                Err(Explained::unavailable(format!("no session within {} s", limit.as_secs())))
            });
            match (connected, address) {
                (Ok(connected), _) => return Ok(connected),
                (Err(failure), Some(address)) if !is_same(host, address) => {
                    failures.push(failure.at(&format_args!("{host} ({address})")));
                }
                (Err(failure), _) => failures.push(failure.at(host)),
            }
        }
        Err(failures)
    }

    async fn addresses(&self, name: &str, port: u16) -> Result<Vec<IpAddr>, String> {
        let limit = self.settings.connect_timeout;
        let found = timeout(limit, lookup_host((name, port))).await;
        let found = found.map_err(|_| format!("the name is not resolved within {} s", limit.as_secs()))?;
        let found = found.map_err(|error| format!("the name is not resolved: {error}"))?;
        let mut addresses = Vec::new();
        for address in found.map(|address| address.ip()) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        if addresses.is_empty() { Err("the name has no address".to_owned()) } else { Ok(addresses) }
    }

    /// Connects, authenticates, checks what server it is and sets the session up.
    async fn address(
        &self,
        host: &PostgresHost,
        address: Option<IpAddr>,
    ) -> Result<(Client, Driver), Explained> {
        let account = self.settings.account();
        let connected = self.configuration(host, address).connect(self.tls.clone()).await;
        let (client, mut driver) = connected.map_err(|error| Explained::new(&error, account))?;
        let is_read_only = drive(&mut driver, account, self.set_up(&client)).await?;
        match is_read_only {
            true => Err(Explained::wrong_role(
                "it accepts no writes: it is a standby, or default_transaction_read_only is on",
            )),
            false => Ok((client, driver)),
        }
    }

    fn configuration(&self, host: &PostgresHost, address: Option<IpAddr>) -> Config {
        let settings = self.settings;
        let mut configuration = Config::new();
        configuration
            .user(&settings.user)
            .dbname(&settings.database)
            .application_name(format!("{} {}", settings.application_name, self.purpose.name))
            .connect_timeout(settings.connect_timeout)
            // The check is ours: the driver's error does not say which of the two it was.
            .target_session_attrs(TargetSessionAttrs::Any)
            .keepalives(true)
            .keepalives_idle(UNANSWERED)
            .keepalives_interval(Duration::from_secs(3))
            .keepalives_retries(3)
            .tcp_user_timeout(UNANSWERED);
        match host {
            PostgresHost::Tcp { host, port } => {
                configuration.host(host).port(*port).ssl_mode(match settings.tls {
                    PostgresTls::Disable => SslMode::Disable,
                    PostgresTls::Prefer => SslMode::Prefer,
                    PostgresTls::VerifyFull | PostgresTls::VerifyCa | PostgresTls::Require => {
                        SslMode::Require
                    }
                });
                address.map(|address| configuration.hostaddr(address));
            }
            PostgresHost::Unix { folder, port } => {
                configuration.host_path(folder).port(*port).ssl_mode(SslMode::Disable);
            }
        }
        if let Some(password) = self.materials.password(host, &settings.database, &settings.user) {
            configuration.password(password.expose_secret());
        }
        if let Some(options) = &settings.options {
            configuration.options(options);
        }
        configuration
    }

    /// Sets the session up in one round trip. Is it read-only? The driver would log the server's notices, which may hold values: it is to
    /// send none.
    async fn set_up(&self, client: &Client) -> Result<bool, tokio_postgres::Error> {
        let synchronous_commit = match self.settings.durability {
            Durability::Local => "on",
            Durability::RemoteApply => "remote_apply",
        };
        let (statement, lock) =
            (self.purpose.statement_timeout.as_millis(), self.purpose.lock_timeout.as_millis());
        let sql = format!(
            "SET client_min_messages = error; SET statement_timeout = {statement}; SET lock_timeout = {lock}; SET idle_in_transaction_session_timeout = 10000; \
             SET TimeZone = 'UTC'; SET client_encoding = 'UTF8'; SET default_transaction_isolation = 'read committed'; \
             SET synchronous_commit = {synchronous_commit}; SHOW transaction_read_only"
        );
        let rows = client.simple_query(&sql).await?;
        Ok(rows.iter().any(|row| matches!(row, SimpleQueryMessage::Row(row) if row.get(0) == Some("on"))))
    }
}

/// How long an answer may take: longer than any statement of ours waits for a lock.
const SILENCE: Duration = Duration::from_secs(10);

/// How long the other side of a connection may leave bytes unacknowledged.
const UNANSWERED: Duration = Duration::from_secs(10);

fn is_same(host: &PostgresHost, address: IpAddr) -> bool {
    matches!(host, PostgresHost::Tcp { host, .. } if host.parse() == Ok(address))
}

/// Polls a connection until some work on it is done.
async fn drive<T>(
    driver: &mut Driver,
    account: Account<'_>,
    work: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, Explained> {
    let mut work = pin!(work);
    let explain = |error| Explained::new(&error, account);
    std::future::poll_fn(|cx| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(done.map_err(explain));
        }
        let Poll::Ready(ended) = Pin::new(&mut *driver).poll(cx) else { return Poll::Pending };
        // The last that the server said may be the answer, and say why the connection ended.
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(done.map_err(explain));
        }
        Poll::Ready(Err(match ended {
            Ok(()) => Explained::unavailable("the server closed the connection"),
            Err(error) => explain(error),
        }))
    })
    .await
}

impl PostgresSettings {
    /// As whom the gateway works where.
    pub(super) fn account(&self) -> Account<'_> {
        Account { user: &self.user, database: &self.database }
    }
}

#[cfg(test)]
pub(crate) mod tests;
