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
            "INSERT INTO gateways (id, applied, seen_at, lived, lease) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (id) DO UPDATE SET applied = excluded.applied, seen_at = excluded.seen_at,
                   lived = excluded.lived, lease = excluded.lease",
            (&self.gateway, self.applied, transaction.shared.0, transaction.lived.0, self.lease),
        )
    }
}

impl Apply for Deregister {
    fn apply(self, transaction: &Transaction<'_>) -> Result<(), StoreError> {
        transaction.write("DELETE FROM gateways WHERE id = ?1", [&self.gateway])
    }
}

impl Apply for RequestAcknowledgements {
    const IS_TOLD: bool = true;

    fn apply(self, transaction: &Transaction<'_>) -> Result<(), StoreError> {
        sequence::request_acknowledgements(transaction, transaction.sequence())
    }
}

/// How far each gateway has come that has not said that it stopped, and whether its lease holds at that time of the clock that all share.
pub(in crate::store) fn acknowledgements(
    connection: &Connection<'_>,
    now: UnixTime,
) -> Result<Vec<Acknowledgement>, StoreError> {
    connection.all("SELECT id, applied, seen_at + lease >= ?1 FROM gateways", [now.0], |row| {
        Ok(Acknowledgement { gateway: row.get(0)?, applied: row.get(1)?, is_leased: row.get(2)? })
    })
}
