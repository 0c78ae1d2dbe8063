//! Is the file whole? Found out on a thread of its own while the rows are read, which takes less than half as long.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};

use rusqlite::{Connection, InterruptHandle};

use super::file::{DatabaseFile, quick_check};
use crate::store::ending;
use crate::store::error::StoreError;

/// A check that runs, or is over. Dropping it ends it.
pub(super) struct Check {
    verdict: Verdict,
    running: Option<(JoinHandle<()>, InterruptHandle)>,
}

/// What the check finds. Nothing is written, and nothing that was read is believed, before it is there.
#[derive(Clone, Default)]
pub(super) struct Verdict(Arc<OnceLock<Result<(), StoreError>>>);

impl Check {
    /// Of a file that was made or checked just now, or that only commands are given to.
    pub(super) fn passed() -> Self {
        Self { verdict: Verdict::passed(), running: None }
    }

    /// Begins to check the file.
    pub(super) fn start(file: &DatabaseFile) -> Result<Self, StoreError> {
        let connection = file.connect_to_read()?;
        let interrupt = connection.get_interrupt_handle();
        let verdict = Verdict::default();
        let work = {
            let verdict = verdict.clone();
            move || verdict.find(&connection)
        };
        let thread = thread::Builder::new().name("store-check".into()).spawn(work)?;
        Ok(Self { verdict, running: Some((thread, interrupt)) })
    }

    pub(super) fn verdict(&self) -> Verdict {
        self.verdict.clone()
    }
}

impl Drop for Check {
    fn drop(&mut self) {
        if let Some((thread, interrupt)) = self.running.take() {
            interrupt.interrupt();
            ending::join(thread, || false);
        }
    }
}

impl Verdict {
    pub(super) fn passed() -> Self {
        Self(Arc::new(Ok(()).into()))
    }

    /// Waits for it.
    pub(super) fn wait(&self) -> Result<(), StoreError> {
        self.0.wait().clone()
    }

    fn find(&self, connection: &Connection) {
        // Anyone who waits is told in any case; the hook has logged a panic.
        let found = catch_unwind(AssertUnwindSafe(|| quick_check(connection)));
        let _ = self.0.set(found.unwrap_or_else(|_| Err(StoreError::Failed("a task panicked".into()))));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Opening, Sqlite};
    use super::*;
    use crate::auth::revocation::Subject;
    use crate::clock::Clock;
    use crate::store::command::{Actor, RevokeSubject};

    fn open(path: &Path, opening: Opening) -> Result<Sqlite, StoreError> {
        Sqlite::open(path, opening, Clock::start(), Arc::default())
    }

    #[test]
    fn a_damaged_store_is_neither_believed_nor_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.db");
        drop(Sqlite::create(&path, Clock::start(), Arc::default()).unwrap());
        let mut damaged = std::fs::read(&path).unwrap();
        // A page that a start does not read: the row of the audit trail.
        for byte in damaged.chunks_mut(4096).find(|page| contains(page, b"store_created")).unwrap() {
            *byte ^= 0xff;
        }
        std::fs::write(&path, &damaged).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let store = open(&path, Opening::Run).unwrap();
        runtime.block_on(async {
            assert!(matches!(store.checked().await, Err(StoreError::Damaged(_))));
            let revoke = RevokeSubject { subject: Subject::Everybody };
            let refused = store.execute(revoke, Actor::gateway()).await;
            assert!(matches!(refused, Err(StoreError::Damaged(_))), "{refused:?}");
        });
        drop(store);
        // Here something would be written at once.
        assert!(matches!(open(&path, Opening::Restored).map(drop), Err(StoreError::Damaged(_))));
        assert!(std::fs::read(&path).unwrap() == damaged, "it was written");
    }

    fn contains(page: &[u8], text: &[u8]) -> bool {
        page.windows(text.len()).any(|window| window == text)
    }
}
