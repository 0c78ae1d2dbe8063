//! What the state folder keeps of a database: its latest commit and its revoked keys, by which a start notices that it has lost some.

use std::path::PathBuf;

use super::history::{self, Known};
use crate::config::PostgresSettings;
use crate::store::beside::latest_commit::{self, Commit, LatestCommit};
use crate::store::beside::revoked_keys;
use crate::store::command::KeyRecord;
use crate::store::error::StoreError;
use crate::store::sql::connection::Connection;
use crate::store::sql::keys;

/// Where the notes are, if there is a state folder.
#[derive(Clone, Debug)]
pub(super) struct Notes(Option<Places>);

#[derive(Clone, Debug)]
struct Places {
    /// On the latest commit of one store.
    commit: PathBuf,
    /// On the revoked keys of all: a secret that was revoked is not to be trusted by any, and a backup that was copied is another store.
    keys: PathBuf,
}

impl Notes {
    /// Those on the store of that id.
    pub(super) fn on(id: &str, settings: &PostgresSettings) -> Self {
        Self(settings.files.state_dir.as_ref().map(|folder| Places {
            commit: folder.join(format!("postgres-{id}")),
            keys: folder.join("postgres"),
        }))
    }

    /// The latest commit that is noted; of sequence 0 if none is.
    pub(super) fn latest(&self) -> Result<Commit, StoreError> {
        self.0.as_ref().map_or(Ok(Commit::default()), |places| latest_commit::read(&places.commit))
    }

    /// The keys that are noted as revoked.
    pub(super) fn revoked_keys(&self) -> Result<Vec<KeyRecord>, StoreError> {
        self.0.as_ref().map_or(Ok(Vec::new()), |places| revoked_keys::read(&places.keys))
    }

    /// Where later commits are noted.
    pub(super) fn latest_commit(&self) -> Option<LatestCommit> {
        self.0.as_ref().map(|places| LatestCommit::beside(&places.commit))
    }

    /// Notes that these keys are revoked.
    pub(super) fn add_revoked_keys(&self, keys: &[KeyRecord]) {
        if let Some(places) = &self.0 {
            revoked_keys::add(&places.keys, keys);
        }
    }

    /// Has the database the latest commit that is noted, or has a gateway that knew as much written back what it had lost?
    ///
    /// # Errors
    ///
    /// Commits are lost.
    pub(super) fn check(&self, connection: &Connection<'_>) -> Result<(), StoreError> {
        // In this order: the file is never ahead of the store, which may be written to meanwhile.
        let latest = self.latest()?;
        let known = Known { latest: (latest.sequence > 0).then_some(latest), united: None };
        match history::check(connection, known) {
            Err(StoreError::Forked { found, known }) if !history::is_mended(connection, latest)? => {
                Err(StoreError::Rewound { found, known })
            }
            Err(StoreError::Forked { .. }) | Ok(()) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The keys that are noted as revoked, and of which the database does not know that.
    pub(super) fn forgotten_keys(&self, connection: &Connection<'_>) -> Result<Vec<KeyRecord>, StoreError> {
        let (mut noted, revoked) = (self.revoked_keys()?, keys::revoked(connection)?);
        noted.retain(|key| revoked.iter().all(|known| known.fingerprint != key.fingerprint));
        Ok(noted)
    }
}
