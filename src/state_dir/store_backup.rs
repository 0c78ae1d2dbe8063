//! The store alone as one file, which is complete under its name or not there.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::backup::{remove_if_there, sync};
use super::error::{StartError, file_error, store_error};
use crate::store::copy::OnProgress;
use crate::store::{Store, StoreError, block_on};

/// A file for a backup: a new one, or an older backup, which is replaced once the new one is complete.
#[derive(Debug)]
pub struct BackupFile {
    path: PathBuf,
    draft: PathBuf,
    is_there: bool,
}

impl BackupFile {
    /// Refuses what is not a backup. `store` is the file of the store that is to be backed up, if it is one.
    pub fn check(path: &Path, store: Option<&Path>) -> Result<Self, StartError> {
        let refused = |text: &str| StartError::Refused(format!("{}: {text}", path.display()));
        let name = path.file_name().ok_or_else(|| refused("it is not a file: name one"))?;
        let mut draft = name.to_owned();
        draft.push(".partial");
        let found = match fs::symlink_metadata(path) {
            Ok(found) => Some(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(file_error(path)(error)),
        };
        if let Some(found) = &found {
            let is_same = |other: fs::Metadata| (other.dev(), other.ino()) == (found.dev(), found.ino());
            if store.and_then(|store| fs::metadata(store).ok()).is_some_and(is_same) {
                return Err(refused("it is the store itself: name another file"));
            }
            if !found.is_file() {
                return Err(refused("it is not a file: name another one"));
            }
            if !Store::is_store_file(path).map_err(|error| store_error(path, error))? {
                return Err(refused(
                    "it is not a backup of ds-gateway, and is not overwritten: name another file",
                ));
            }
            // Gateways write these beside a store that they use.
            if NOTES.iter().any(|end| beside(path, end).exists()) {
                return Err(refused(
                    "it is a store that was in use (its -sequence or -revoked-keys file is there), and is not overwritten: name another file",
                ));
            }
        }
        Ok(Self { path: path.to_owned(), draft: path.with_file_name(draft), is_there: found.is_some() })
    }

    /// Writes the store, checks what was written and puts it in place; whether it has replaced an older backup.
    pub fn write(&self, store: &Store, on_progress: OnProgress) -> Result<bool, StartError> {
        let fault = file_error(&self.draft);
        // Of one that was interrupted.
        remove_if_there(&self.draft).map_err(&fault)?;
        remove_logs(&self.draft).map_err(&fault)?;
        block_on(async { Ok::<_, StoreError>(store.back_up_to_file(&self.draft, on_progress).await) })
            .map_err(|error| store_error(&self.draft, error))?
            .map_err(|error| StartError::Refused(format!("{}: {error}", self.draft.display())))?;
        Store::verify(&self.draft).map_err(|error| store_error(&self.draft, error))?;
        // If the older one was opened as a store, its log would be taken for the new one's.
        remove_logs(&self.path).map_err(file_error(&self.path))?;
        fs::rename(&self.draft, &self.path).map_err(file_error(&self.path))?;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        sync(folder.unwrap_or(Path::new("."))).map_err(fault)?;
        Ok(self.is_there)
    }
}

/// Removes what SQLite may have left beside a file.
fn remove_logs(path: &Path) -> io::Result<()> {
    LOGS.iter().try_for_each(|end| remove_if_there(&beside(path, end)))
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(end);
    beside.into()
}

const NOTES: [&str; 2] = ["-sequence", "-revoked-keys"];

const LOGS: [&str; 3] = ["-wal", "-shm", "-journal"];
