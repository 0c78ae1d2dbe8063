//! The store's asynchronous interface, from a thread that may wait: a start, and the command line.

use std::io;

use tokio::runtime::Builder;

/// Runs a future to its end on this thread. The error is of a runtime that cannot be made.
pub fn block_on<T, E: From<io::Error>>(future: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    Builder::new_current_thread().enable_time().build()?.block_on(future)
}
