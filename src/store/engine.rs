//! The engines, each as the store uses it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::Receiver;

use super::command::Actor;
use super::error::StoreError;
use super::health::Health;
use super::postgres::{self, Postgres, copy as postgres_copy};
use super::records::Changes;
use super::sql::connection::Connection;
use super::sql::transaction::Apply;
use super::sqlite::{Opening, Sqlite, copy as sqlite_copy};
use crate::auth::revocation::RevocationSnapshot;
use crate::auth::time::UnixTime;
use crate::clock::Clock;
use crate::config::StorePlace;
use crate::metrics::Metrics;

/// One of them.
pub(super) enum Engine {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

/// Which of them it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Sqlite,
    Postgres,
}

impl Kind {
    /// Is the store a file?
    pub(super) const fn is_file(self) -> bool {
        matches!(self, Self::Sqlite)
    }

    /// Lets what is read in the running transaction take its time.
    pub(super) fn be_patient(self, connection: &Connection<'_>) -> Result<(), StoreError> {
        match self {
            Self::Sqlite => Ok(()),
            Self::Postgres => postgres_copy::be_patient(connection),
        }
    }

    /// What the clock says that all gateways of the store share.
    pub(super) fn time(self, connection: &Connection<'_>, clock: &Clock) -> Result<UnixTime, StoreError> {
        match self {
            Self::Sqlite => Ok(clock.now()),
            Self::Postgres => Ok(clock.of_database(postgres::time(connection)?)),
        }
    }

    /// The highest id that was given out in that table, whether or not its row is still there.
    pub(super) fn issued_id(self, connection: &Connection<'_>, table: &str) -> Result<i64, StoreError> {
        match self {
            Self::Sqlite => sqlite_copy::issued_id(connection, table),
            Self::Postgres => postgres_copy::issued_id(connection, table),
        }
    }
}

impl Engine {
    pub(super) const fn kind(&self) -> Kind {
        match self {
            Self::Sqlite(_) => Kind::Sqlite,
            Self::Postgres(_) => Kind::Postgres,
        }
    }

    pub(super) fn create(
        place: &StorePlace,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StoreError> {
        Ok(match place {
            StorePlace::Sqlite(path) => Self::Sqlite(Sqlite::create(path, clock, metrics)?),
            StorePlace::Postgres(settings) => Self::Postgres(Postgres::create(settings, clock, metrics)?),
        })
    }

    pub(super) fn open(
        place: &StorePlace,
        opening: Opening,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StoreError> {
        Ok(match place {
            StorePlace::Sqlite(path) => Self::Sqlite(Sqlite::open(path, opening, clock, metrics)?),
            StorePlace::Postgres(settings) => {
                Self::Postgres(Postgres::open(settings, opening, clock, metrics)?)
            }
        })
    }

    pub(super) fn health(&self) -> Health {
        match self {
            Self::Sqlite(engine) => engine.health(),
            Self::Postgres(engine) => engine.health(),
        }
    }

    pub(super) async fn execute<C: Apply>(&self, command: C, actor: Actor) -> Result<C::Outcome, StoreError> {
        match self {
            Self::Sqlite(engine) => engine.execute(command, actor).await,
            Self::Postgres(engine) => engine.execute(command, actor).await,
        }
    }

    /// Reads as of one moment.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        match self {
            Self::Sqlite(engine) => engine.read(read).await,
            Self::Postgres(engine) => engine.read(read).await,
        }
    }

    pub(super) async fn changes(&self, after: u64, limit: usize) -> Result<Changes, StoreError> {
        match self {
            Self::Sqlite(engine) => engine.changes(after, limit).await,
            Self::Postgres(engine) => engine.changes(after, limit).await,
        }
    }

    /// How often it is to be asked for changes.
    pub(super) fn poll_interval(&self, configured: Duration) -> Duration {
        match self {
            Self::Sqlite(_) => configured,
            Self::Postgres(engine) => engine.poll_interval(configured),
        }
    }

    /// By how many seconds the wall clock here is ahead of the database's; 0 for one on this machine.
    pub(super) fn clock_skew(&self) -> i64 {
        match self {
            Self::Sqlite(_) => 0,
            Self::Postgres(engine) => engine.clock_skew(),
        }
    }

    /// Waits until it is known that there is something new; for ever where nobody tells.
    pub(super) async fn changed(&self) {
        match self {
            Self::Sqlite(_) => std::future::pending().await,
            Self::Postgres(engine) => engine.changed().await,
        }
    }

    /// What an operator should know of the database.
    pub(super) async fn warnings(&self) -> Result<Vec<String>, StoreError> {
        match self {
            Self::Sqlite(_) => Ok(Vec::new()),
            Self::Postgres(engine) => engine.warnings().await,
        }
    }

    /// Unites what `memory` knows with a store that has lost commits; a file is never used then.
    pub(super) async fn unite(&self, memory: Arc<RevocationSnapshot>) -> Result<u64, StoreError> {
        match self {
            Self::Sqlite(_) => Ok(0),
            Self::Postgres(engine) => engine.unite(memory).await,
        }
    }

    pub(super) fn snapshot(&self) -> Receiver<Result<Changes, StoreError>> {
        match self {
            Self::Sqlite(engine) => engine.snapshot(),
            Self::Postgres(engine) => engine.snapshot(),
        }
    }

    /// Waits until it is known whether the store is whole.
    pub(super) async fn checked(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(engine) => engine.checked().await,
            // The server checks its own pages.
            Self::Postgres(_) => Ok(()),
        }
    }

    /// Copies the store to a new file.
    pub(super) async fn back_up(&self, path: &Path) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(engine) => engine.back_up(path).await,
            Self::Postgres(_) => Err(StoreError::Failed(
                "a store in PostgreSQL is backed up with the database: by pg_dump, or by its archive".into(),
            )),
        }
    }
}
