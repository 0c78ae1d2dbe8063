//! Which gateways run, and how far each has come.

use super::connection::Connection;
use super::sequence;
use super::transaction::{Apply, Transaction};
use super::value::Row;
use crate::auth::keys::Fingerprint;
use crate::auth::time::UnixTime;
use crate::store::command::{Deregister, Heartbeat, RequestAcknowledgements};
use crate::store::error::StoreError;
use crate::store::records::Acknowledgement;
use std::collections::HashSet;

impl Apply for Heartbeat {
    fn foresee(&self, connection: &Connection<'_>) {
        drop(keys_of_others(connection, &self.gateway));
    }

    fn apply(self, transaction: &Transaction<'_>) -> Result<HashSet<Fingerprint>, StoreError> {
        let others = keys_of_others(transaction, &self.gateway)?;
        let others = others.iter().filter(|(_, until)| *until >= transaction.shared.0);
        let shared = others.fold(self.keys.iter().copied().collect(), |mut shared: HashSet<_>, (keys, _)| {
            shared.retain(|key| keys.contains(key));
            shared
        });
        let keys: Vec<String> = self.keys.iter().map(ToString::to_string).collect();
        transaction.write(
            "INSERT INTO gateways (id, applied, seen_at, lived, lease, keys) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (id) DO UPDATE SET applied = excluded.applied, seen_at = excluded.seen_at,
                   lived = excluded.lived, lease = excluded.lease, keys = excluded.keys",
            (
                &self.gateway,
                self.applied,
                transaction.shared.0,
                transaction.lived.0,
                self.lease,
                keys.join(" "),
            ),
        )?;
        Ok(shared)
    }
}

/// The keys of each gateway but that one that has said which it has, and until when its lease holds.
fn keys_of_others(
    connection: &Connection<'_>,
    gateway: &str,
) -> Result<Vec<(HashSet<Fingerprint>, u64)>, StoreError> {
    let read = |row: &Row<'_>| {
        let keys = row.text(0).split(' ').filter_map(Fingerprint::parse).collect();
        Ok((keys, row.get(1)?))
    };
    connection.all(
        "SELECT keys, seen_at + lease FROM gateways WHERE id <> ?1 AND keys <> ''",
        [gateway],
        read,
    )
}

/// The keys that every gateway has whose lease holds at that time of the clock that all share; `None` if none has said which it has.
pub(in crate::store) fn shared_keys(
    connection: &Connection<'_>,
    now: UnixTime,
) -> Result<Option<HashSet<Fingerprint>>, StoreError> {
    // No gateway is called so.
    let all = keys_of_others(connection, "")?.into_iter().filter(|(_, until)| *until >= now.0);
    Ok(all.map(|(keys, _)| keys).reduce(|mut shared, keys| {
        shared.retain(|key| keys.contains(key));
        shared
    }))
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
