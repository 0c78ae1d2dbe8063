//! Copies of a whole store into another place, which may be one of another engine.
//!
//! The source is read as of one moment. What is copied is committed in batches, and the target says all the while that it is an unfinished
//! copy, which nothing opens as a store. At the end both sides are read once more and compared, and only then is the target a store.

mod digest;
mod outcome;
mod target;
mod transfer;

use std::path::Path;

pub use self::outcome::{Began, Copied, CopiedTable, CopyError, CopyOptions, OnProgress, Progress};

use self::transfer::{Transferred, finish, transfer};
use super::Store;
use crate::config::StorePlace;

impl Store {
    /// Copies the store to a place that has none, or continues such a copy.
    ///
    /// # Errors
    ///
    /// Nothing of the source was changed, and the target is no store.
    pub async fn copy_to(
        &self,
        target: &StorePlace,
        options: CopyOptions,
        on_progress: OnProgress,
    ) -> Result<Copied, CopyError> {
        self.copy(target.clone(), true, options, on_progress).await
    }

    /// Copies the store to a single SQLite file that must not be there yet, whatever its engine.
    pub(super) async fn copy(
        &self,
        target: StorePlace,
        is_store: bool,
        options: CopyOptions,
        mut on_progress: OnProgress,
    ) -> Result<Copied, CopyError> {
        let may_change = options.may_change;
        let engine = self.engine.kind();
        let transferred: Result<Transferred, CopyError> = self
            .engine
            .read(move |source| {
                engine.be_patient(source)?;
                Ok(transfer(source, engine, &target, is_store, &options, &mut on_progress))
            })
            .await
            .map_err(CopyError::Source)?;
        let transferred = transferred?;
        // As of now, not of the moment that was copied; and on a thread that may wait.
        let read = self.engine.read(move |source| Ok(finish(source, engine, transferred, may_change)));
        read.await.map_err(CopyError::Source)?
    }

    /// Copies the store, as of one moment, to a SQLite file that must not be there yet and that only its owner may read, whatever the
    /// engine of this one.
    pub async fn back_up_to_file(&self, path: &Path, on_progress: OnProgress) -> Result<(), CopyError> {
        if self.engine.kind().is_file() {
            return self.back_up(path).await.map_err(CopyError::Source);
        }
        let options =
            CopyOptions { source: "a database".to_owned(), rows: CopyOptions::ROWS, may_change: true };
        self.copy(StorePlace::Sqlite(path.to_owned()), false, options, on_progress).await.map(drop)
    }
}
