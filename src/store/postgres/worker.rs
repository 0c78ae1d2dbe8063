//! A thread that reads over a connection of its own, made when it is first needed and made again after an error.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{self, JoinHandle};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use super::reconnect::Reconnect;
use super::session::Session;
use crate::store::ending;
use crate::store::error::StoreError;
use crate::store::sql::connection::Connection;

/// Makes the connection.
pub(super) type Open = Box<dyn Fn() -> Result<Session, StoreError> + Send>;

type Work = Box<dyn FnOnce(&mut Kept) + Send>;

/// The thread. Dropping it ends it once what was asked is done.
pub(super) struct Worker {
    queue: Option<UnboundedSender<Work>>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread keeps.
pub(super) struct Kept {
    open: Open,
    session: Option<Session>,
    reconnect: Reconnect,
}

impl Worker {
    /// Starts it.
    pub(super) fn start(name: &str, open: Open) -> Result<Self, StoreError> {
        let (queue, works) = unbounded_channel();
        let mut kept = Kept { open, session: None, reconnect: Reconnect::default() };
        let thread = thread::Builder::new().name(name.into()).spawn(move || kept.run(works))?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// Reads as of one moment.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, receiver) = oneshot::channel();
        self.submit(move |kept| {
            // A caller that went away does not want to know.
            if !reply.is_closed() {
                let _ = reply.send(kept.read(read));
            }
        })?;
        receiver.await.unwrap_or(Err(StoreError::Stopped))
    }

    /// Has the thread do something that tells by itself what came of it.
    pub(super) fn submit(&self, work: impl FnOnce(&mut Kept) + Send + 'static) -> Result<(), StoreError> {
        let queue = self.queue.as_ref().ok_or(StoreError::Stopped)?;
        queue.send(Box::new(work)).map_err(|_| StoreError::Stopped)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            ending::join(thread, || false);
        }
    }
}

impl Kept {
    fn run(&mut self, mut works: UnboundedReceiver<Work>) {
        loop {
            // A connection is served meanwhile, so that it hears of what others commit.
            let next = match self.session.as_ref() {
                Some(session) => session.idle(works.recv()),
                None => works.blocking_recv(),
            };
            let Some(work) = next else { return };
            // A panic costs one read, whose caller is told by the loss of its channel; the hook has logged it.
            if catch_unwind(AssertUnwindSafe(|| work(self))).is_err() {
                self.session = None;
            }
        }
    }

    /// Reads as of one moment.
    pub(super) fn read<T>(
        &mut self,
        read: impl FnOnce(&Connection<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let session = match self.session.take_if(|session| !session.is_over()) {
            Some(session) => self.session.insert(session),
            None => self.session.insert(self.reconnect.attempt(&self.open)?),
        };
        session.begin("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
        let found = read(&session.connection()).and_then(|found| session.finish("COMMIT").map(|()| found));
        match &found {
            Ok(_) => self.reconnect.succeeded(),
            Err(error) => {
                self.session = None;
                // Not for a row that cannot be read: whoever asks for another one need not wait.
                if error.is_transient() || matches!(error, StoreError::Forked { .. }) {
                    self.reconnect.failed(error);
                }
            }
        }
        found
    }
}
