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

/// Where the notes on one store are, if there is a state folder.
#[derive(Clone, Debug)]
pub(super) struct Notes(Option<PathBuf>);

impl Notes {
    /// Those on the store of that id.
    pub(super) fn on(id: &str, settings: &PostgresSettings) -> Self {
        Self(settings.files.state_dir.as_ref().map(|folder| folder.join(format!("postgres-{id}"))))
    }

    /// The latest commit that is noted; of sequence 0 if none is.
    pub(super) fn latest(&self) -> Result<Commit, StoreError> {
        self.0.as_ref().map_or(Ok(Commit::default()), |place| latest_commit::read(place))
    }

    /// The keys that are noted as revoked.
    pub(super) fn revoked_keys(&self) -> Result<Vec<KeyRecord>, StoreError> {
        self.0.as_ref().map_or(Ok(Vec::new()), |place| revoked_keys::read(place))
    }

    /// Where later commits are noted.
    pub(super) fn latest_commit(&self) -> Option<LatestCommit> {
        self.0.as_deref().map(LatestCommit::beside)
    }

    /// Notes that these keys are revoked.
    pub(super) fn add_revoked_keys(&self, keys: &[KeyRecord]) {
        if let Some(place) = &self.0 {
            revoked_keys::add(place, keys);
        }
    }

    /// Has the database all that is noted, or has a gateway that knew as much written back what it had lost?
    ///
    /// # Errors
    ///
    /// Commits are lost, or the revocation of a key is.
    pub(super) fn check(&self, connection: &Connection<'_>) -> Result<(), StoreError> {
        // In this order: the files are never ahead of the store, which may be written to meanwhile.
        let (latest, noted) = (self.latest()?, self.revoked_keys()?);
        let known = Known { latest: (latest.sequence > 0).then_some(latest), united: None };
        match history::check(connection, known) {
            Err(StoreError::Forked { found, known }) if !history::is_mended(connection, latest)? => {
                return Err(StoreError::Rewound { found, known });
            }
            Err(StoreError::Forked { .. }) | Ok(()) => {}
            Err(error) => return Err(error),
        }
        let revoked = keys::revoked(connection)?;
        let forgotten = |key: &&KeyRecord| revoked.iter().all(|known| known.fingerprint != key.fingerprint);
        match noted.iter().find(forgotten) {
            Some(key) => Err(StoreError::KeyForgotten(key.kid.clone())),
            None => Ok(()),
        }
    }
}
