//! The change feed of a file. One connection alone watches `PRAGMA data_version`, which changes with every commit of another
//! connection and costs no read of the tables; the sequence is the truth and is read every few seconds regardless.

use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::connection;
use super::file::DatabaseFile;
use crate::store::error::StoreError;
use crate::store::reader::Kept;
use crate::store::records::Changes;
use crate::store::sql::feed;

/// The feed's connection, and where it is.
pub(super) struct Feed {
    file: DatabaseFile,
    connection: Option<Connection>,
    last: Option<Look>,
}

/// What the last look saw.
struct Look {
    /// `PRAGMA data_version`
    version: i64,
    sequence: u64,
    requested: u64,
    at: Instant,
}

impl Kept for Feed {}

impl Feed {
    pub(super) const fn new(file: DatabaseFile) -> Self {
        Self { file, connection: None, last: None }
    }

    /// At most about `limit` rows of what changed after the transaction `after`.
    pub(super) fn changes(&mut self, after: u64, limit: usize) -> Result<Changes, StoreError> {
        let changes = self.look(after, limit);
        if changes.is_err() {
            (self.connection, self.last) = (None, None);
        }
        changes
    }

    fn look(&mut self, after: u64, limit: usize) -> Result<Changes, StoreError> {
        self.file.check_in_place()?;
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => self.connection.insert(self.file.connect_to_read()?),
        };
        let version: i64 =
            connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))?;
        if let Some(last) = &self.last
            && (last.version, last.sequence) == (version, after)
            && last.at.elapsed() < REGARDLESS
        {
            let (sequence, requested) = (last.sequence, last.requested);
            return Ok(Changes { through: after, sequence, requested, ..Changes::default() });
        }
        let at = Instant::now();
        let snapshot = connection.transaction()?;
        let changes = feed::changes_after(&connection::of(&snapshot), after, limit)?;
        drop(snapshot);
        let Changes { sequence, requested, .. } = changes;
        self.last = Some(Look { version, sequence, requested, at });
        Ok(changes)
    }

    /// Everything as of one moment, in pieces that are handed to `send`; only the last says how far they reach.
    pub(super) fn snapshot(
        &mut self,
        send: &mut dyn FnMut(Changes) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut connection = self.file.connect_to_read()?;
        let snapshot = connection.transaction()?;
        feed::snapshot(&connection::of(&snapshot), send)
    }
}

/// How often the sequence is read even if nothing seems to have changed.
const REGARDLESS: Duration = Duration::from_secs(5);
