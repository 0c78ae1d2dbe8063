//! Reads on a thread of their own, so that no worker of the gateway ever waits inside a database.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{self, JoinHandle};

use tokio::sync::mpsc::{Receiver, Sender, UnboundedReceiver, UnboundedSender, channel, unbounded_channel};
use tokio::sync::oneshot;

use super::ending;
use super::error::StoreError;
use super::records::Changes;

/// A thread that reads with what it keeps between reads, `S`. Dropping it ends the thread once the queue is empty.
pub(super) struct Reader<S> {
    queue: Option<UnboundedSender<Read<S>>>,
    thread: Option<JoinHandle<()>>,
}

/// A read that waits for the thread.
pub(super) type Read<S> = Box<dyn FnOnce(&mut S) + Send>;

/// What a thread keeps between reads.
pub(super) trait Kept: Sized + Send + 'static {
    /// Waits for the next read; `None` at the end.
    fn next(&self, reads: &mut UnboundedReceiver<Read<Self>>) -> Option<Read<Self>> {
        reads.blocking_recv()
    }

    /// A read has panicked: what it has begun is not to be gone on with.
    fn reset(&mut self) {}
}

impl<S: Kept> Reader<S> {
    /// Starts the thread.
    pub(super) fn start(name: &str, mut state: S) -> Result<Self, StoreError> {
        let (queue, mut reads) = unbounded_channel();
        let work = move || {
            while let Some(read) = state.next(&mut reads) {
                // A panic costs one read, whose caller is told by the loss of its channel; the hook has logged it.
                if catch_unwind(AssertUnwindSafe(|| read(&mut state))).is_err() {
                    state.reset();
                }
            }
        };
        let thread = thread::Builder::new().name(name.into()).spawn(work)?;
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
            if !reply.is_closed() {
                let _ = reply.send(read(state));
            }
        })?;
        receiver.await.unwrap_or(Err(StoreError::Stopped))
    }

    /// Runs a read of everything, which sends piece by piece.
    pub(super) fn pieces(
        &self,
        read: impl FnOnce(&mut S, &mut dyn FnMut(Changes) -> Result<(), StoreError>) -> Result<(), StoreError>
        + Send
        + 'static,
    ) -> Receiver<Result<Changes, StoreError>> {
        let (sender, pieces): (Sender<Result<_, _>>, _) = channel(PIECES);
        let failed = sender.clone();
        let submitted = self.submit(move |state| {
            // Anyone who does not take it has gone.
            let mut send = |piece| sender.blocking_send(Ok(piece)).map_err(|_| StoreError::Stopped);
            if let Err(error) = read(state, &mut send) {
                let _ = sender.blocking_send(Err(error));
            }
        });
        if let Err(error) = submitted {
            let _ = failed.try_send(Err(error));
        }
        pieces
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

/// Pieces that are read ahead of the caller that applies them.
const PIECES: usize = 2;
