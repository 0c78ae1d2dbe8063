//! Which gateways run, and how far each has come.

use super::connection::Connection;
use super::sequence;
use super::transaction::{Apply, Transaction};
use crate::auth::time::UnixTime;
use crate::store::command::{Deregister, Heartbeat, RequestAcknowledgements};
use crate::store::error::StoreError;
use crate::store::records::Acknowledgement;

impl Apply for Heartbeat {
    fn apply(self, transaction: &Transaction<'_>) -> Result<(), StoreError> {
        transaction.write(
            "INSERT INTO gateways (id, applied, seen_at, lived) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (id) DO UPDATE SET
                   applied = excluded.applied, seen_at = excluded.seen_at, lived = excluded.lived",
            (&self.gateway, self.applied, transaction.now.0, transaction.lived.0),
        )?;
        Ok(())
    }
}

impl Apply for Deregister {
    fn apply(self, transaction: &Transaction<'_>) -> Result<(), StoreError> {
        transaction.write("DELETE FROM gateways WHERE id = ?1", [&self.gateway])?;
        Ok(())
    }
}

impl Apply for RequestAcknowledgements {
    fn apply(self, transaction: &Transaction<'_>) -> Result<(), StoreError> {
        sequence::request_acknowledgements(transaction, transaction.sequence())
    }
}

/// How far each gateway has come that was heard of at `since` or later.
pub(in crate::store) fn acknowledgements(
    connection: &Connection<'_>,
    since: UnixTime,
) -> Result<Vec<Acknowledgement>, StoreError> {
    let rows = connection.all("SELECT id, applied FROM gateways WHERE seen_at >= ?1", [since.0], |row| {
        Ok(Acknowledgement { gateway: row.get(0)?, applied: row.get(1)? })
    })?;
    Ok(rows)
}
