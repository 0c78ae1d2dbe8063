//! What a thread reads over: a connection of its own, made when it is first needed and made again after an error.

use tokio::sync::mpsc::UnboundedReceiver;

use super::questions::Questions;
use super::reconnect::Reconnect;
use super::session::Session;
use crate::store::error::StoreError;
use crate::store::reader::{Kept, Read};
use crate::store::sql::connection::Connection;

/// Makes the connection.
pub(super) type Open = Box<dyn Fn() -> Result<Session, StoreError> + Send>;

/// The connection, if there is one.
pub(super) struct Reading {
    open: Open,
    session: Option<Session>,
    reconnect: Reconnect,
}

impl Kept for Reading {
    /// The connection is served meanwhile, so that it hears of what others commit.
    fn next(&self, reads: &mut UnboundedReceiver<Read<Self>>) -> Option<Read<Self>> {
        match &self.session {
            Some(session) => session.idle(reads.recv()),
            None => reads.blocking_recv(),
        }
    }

    fn reset(&mut self) {
        self.session = None;
    }
}

impl Reading {
    /// Nothing is opened yet.
    pub(super) fn over(open: Open) -> Self {
        Self { open, session: None, reconnect: Reconnect::default() }
    }

    /// What a connection was refused for is over.
    pub(super) fn is_free_again(&mut self) {
        self.reconnect.succeeded();
    }

    /// Reads as of one moment. What is known to be asked in any case is asked ahead, in one round trip.
    pub(super) fn read<T>(
        &mut self,
        questions: Questions,
        read: impl FnOnce(&Connection<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let session = match self.session.take_if(|session| !session.is_over()) {
            Some(session) => self.session.insert(session),
            None => self.session.insert(self.reconnect.attempt(&self.open)?),
        };
        session.begin("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
        let found = session.ask_ahead(questions, true).and_then(|()| read(&session.connection()));
        // There is nothing that could fail: the next read need not wait for it.
        session.send("COMMIT");
        match &found {
            Ok(_) => self.reconnect.succeeded(),
            Err(error) => {
                self.session = None;
                // Not for a row that cannot be read: reads of others need not wait.
                if error.is_transient() {
                    self.reconnect.failed(error);
                }
            }
        }
        found
    }
}
