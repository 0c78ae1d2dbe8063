//! A signing key that joins those of the state folder. It counts once the store has recorded it; a file of one that was not
//! recorded is taken away again.

use std::fs;
use std::path::{Path, PathBuf};
use std::slice;

use super::error::{StartError, file_error, store_error};
use super::key_files::{generate_key, key_set_of};
use super::lock::{LockWait, lock};
use crate::auth::time::UnixTime;
use crate::store::command::KeyRecord;
use crate::store::{Store, block_on};

/// A key whose file was just made. Dropping it removes the file.
#[derive(Debug)]
pub struct NewKey {
    path: PathBuf,
    records: Vec<KeyRecord>,
    is_kept: bool,
}

impl NewKey {
    /// Makes it beside the others in `key_folder`, under a name that none of them has, nor any key that the store knows.
    pub fn make(
        key_folder: &Path,
        state_dir: &Path,
        store: &Store,
        wait: LockWait,
        now: UnixTime,
    ) -> Result<Self, StartError> {
        // Anyone who makes another one now chooses another name.
        let _lock = lock(state_dir, wait)?;
        let recorded = block_on(store.keys()).map_err(|error| store_error(key_folder, error))?;
        let path = generate_key(key_folder, now, &recorded).map_err(file_error(key_folder))?;
        let mut made = Self { path, records: Vec::new(), is_kept: false };
        made.records = KeyRecord::all(&key_set_of(slice::from_ref(&made.path))?);
        Ok(made)
    }

    /// What the store is to record: this key alone.
    pub fn records(&self) -> &[KeyRecord] {
        &self.records
    }

    /// Its name.
    pub fn kid(&self) -> &str {
        self.records.first().map_or("", |record| &record.kid)
    }

    /// Keeps the file if the store has recorded the key, or may yet, whatever it has answered.
    pub fn settle(mut self, store: &Store) {
        self.is_kept = store.health().hangs() || self.is_recorded(store);
    }

    fn is_recorded(&self, store: &Store) -> bool {
        let is_this = |kid: &str| self.records.iter().any(|record| record.kid == kid);
        // Where that cannot be read it may be.
        block_on(store.keys()).map_or(true, |keys| keys.iter().any(|key| is_this(&key.kid)))
    }
}

impl Drop for NewKey {
    fn drop(&mut self) {
        if !self.is_kept {
            let _ = fs::remove_file(&self.path);
        }
    }
}
