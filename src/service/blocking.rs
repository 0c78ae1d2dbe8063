//! Work that blocks, for use cases that do not.

use std::future::pending;
use std::panic::resume_unwind;

use tokio::task::spawn_blocking;

/// Runs what blocks on a thread of its own. Once begun it comes to its end, even if nobody awaits it any more.
pub(super) async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // The runtime is shutting down: nobody will read an answer.
            Err(_) => pending().await,
        },
    }
}
