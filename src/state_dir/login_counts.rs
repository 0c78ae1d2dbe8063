//! The file in which the counts of failed logins outlive the process: `failed-logins` in the state folder.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::Builder;

/// The file.
#[derive(Clone)]
pub struct LoginCounts {
    path: PathBuf,
    /// The last write failed, and that has been said.
    has_failed: Arc<AtomicBool>,
}

impl LoginCounts {
    /// The one in this state folder.
    pub fn new(state_dir: &Path) -> Self {
        Self { path: state_dir.join("failed-logins"), has_failed: Arc::default() }
    }

    /// What is there; nothing at a first start.
    pub fn read(&self) -> Option<Vec<u8>> {
        match fs::read(&self.path) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                let path = self.path.display();
                log::warn!("{path} cannot be read; counting of failed logins restarts at zero: {error}");
                None
            }
        }
    }

    /// Writes all of it, or leaves what is there.
    pub fn write(&self, bytes: &[u8]) {
        match self.replace(bytes) {
            Ok(()) => self.has_failed.store(false, Ordering::Relaxed),
            Err(error) if !self.has_failed.swap(true, Ordering::Relaxed) => {
                let path = self.path.display();
                log::warn!(
                    "{path} cannot be written; a restart would lose the latest failed logins: {error}"
                );
            }
            Err(_) => {}
        }
    }

    fn replace(&self, bytes: &[u8]) -> io::Result<()> {
        // Readable by the gateway's account alone: the place of each count is a secret.
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let mut file = Builder::new().prefix("failed-logins.").tempfile_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(&self.path)?;
        Ok(())
    }
}
