//! Reads on a thread of their own, so that no worker of the gateway ever waits inside SQLite.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use tokio::sync::oneshot;

use super::ending;
use crate::store::error::StoreError;

/// A thread that reads with what it keeps between reads, `S`. Dropping it ends the thread once the queue is empty.
pub(super) struct Reader<S> {
    queue: Option<Sender<Read<S>>>,
    thread: Option<JoinHandle<()>>,
}

type Read<S> = Box<dyn FnOnce(&mut S) + Send>;

impl<S: Send + 'static> Reader<S> {
    /// Starts the thread.
    pub(super) fn start(name: &str, state: S) -> Result<Self, StoreError> {
        let (queue, reads) = channel();
        let thread = thread::Builder::new().name(name.into()).spawn(move || work(state, &reads))?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// Runs a read on the thread and waits for what it found.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut S) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, receiver) = oneshot::channel();
        self.submit(move |state| {
            // A caller that went away does not want to know.
            let _ = reply.send(read(state));
        })?;
        receiver.await.unwrap_or(Err(StoreError::Stopped))
    }

    /// Runs a read that tells by itself what it found.
    pub(super) fn submit(&self, read: impl FnOnce(&mut S) + Send + 'static) -> Result<(), StoreError> {
        let queue = self.queue.as_ref().ok_or(StoreError::Stopped)?;
        queue.send(Box::new(read)).map_err(|_| StoreError::Stopped)
    }
}

impl<S> Drop for Reader<S> {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            ending::join(thread, || false);
        }
    }
}

fn work<S>(mut state: S, reads: &Receiver<Read<S>>) {
    while let Ok(read) = reads.recv() {
        // A panic costs one read, whose caller is told by the loss of its channel; the hook has logged it.
        let _ = catch_unwind(AssertUnwindSafe(|| read(&mut state)));
    }
}
