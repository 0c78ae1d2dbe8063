//! Moves a store to another place, which may be one of another engine.

use thiserror::Error;

use super::gateways::Gateways;
use crate::config::StorePlace;
use crate::store::copy::{Copied, CopyError, CopyOptions, OnProgress};
use crate::store::{Store, StoreError};

/// Why a store was not copied.
#[derive(Debug, Error)]
pub enum StoreCopyError {
    /// These gateways run on it.
    #[error(
        "stop the gateways first: {} of them run on the store (an ended one on another machine counts for a few seconds), and what they acknowledge from \
         now on would be missing in the copy. With --while-running it is copied as it is now",
        .0.len()
    )]
    Running(Vec<String>),
    /// It could not be asked who runs.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The copy itself.
    #[error(transparent)]
    Copy(#[from] CopyError),
}

/// Copies `store`, on which `gateways` may run, to `target`.
///
/// # Errors
///
/// If one of them runs, unless `options` allow the source to change; and if the copy fails.
pub async fn copy(
    store: &Store,
    gateways: &Gateways,
    target: &StorePlace,
    options: CopyOptions,
    on_progress: OnProgress,
) -> Result<Copied, StoreCopyError> {
    if !options.may_change {
        // The source may be a backup: it stays as it is.
        let (running, _) = gateways.look().await?;
        if !running.is_empty() {
            return Err(StoreCopyError::Running(running.into_iter().map(|row| row.gateway).collect()));
        }
    }
    Ok(store.copy_to(target, options, on_progress).await?)
}
