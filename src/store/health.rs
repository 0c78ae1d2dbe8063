//! How the store is doing, for anyone who watches it.

use std::time::Duration;

use super::error::StoreError;

/// The store's writer, at this moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Commands that wait for a commit.
    pub queue_length: usize,
    /// How long the running commit has taken so far; zero where none runs.
    pub commit_age: Duration,
    /// Why the last commit failed, or the next start will.
    pub fault: Option<StoreError>,
}

impl Health {
    /// Does the running commit take longer than its callers wait?
    pub fn hangs(&self) -> bool {
        self.commit_age > COMMAND_TIMEOUT
    }
}

/// How long a gateway's command waits for its commit.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);
