//! Which secret each `kid` stands for, and which keys are revoked.

use super::connection::Connection;
use super::transaction::{Apply, Transaction};
use super::value::Row;
use super::{audit, heartbeat};
use crate::auth::keys::{Fingerprint, Key};
use crate::auth::revocation::{Activation, KeyUse};
use crate::auth::time::UnixTime;
use crate::store::command::{
    ActivateKey, ActivateKeyOutcome, KeyRecord, RecordKeys, RecordKeysOutcome, RetireKey, RetireKeyOutcome,
    RevokeKey, RevokeKeyOutcome,
};
use crate::store::decision::{self, KeyRecording, KeyRevocation};
use crate::store::error::StoreError;
use crate::store::records::{RecordedKey, Revocation, RevocationKind};

impl Apply for RecordKeys {
    fn apply(self, transaction: &Transaction<'_>) -> Result<RecordKeysOutcome, StoreError> {
        Ok(match record(transaction, &self.keys)? {
            Some(kid) => RecordKeysOutcome::Conflict(kid),
            None => RecordKeysOutcome::Recorded,
        })
    }
}

impl Apply for ActivateKey {
    fn apply(self, transaction: &Transaction<'_>) -> Result<ActivateKeyOutcome, StoreError> {
        let recorded = find(transaction, &self.kid)?;
        if let Some(outcome) = decision::refuse_activation(recorded.as_ref().map(|(key, _)| key)) {
            return Ok(outcome);
        }
        let stamp = transaction.stamp();
        let from = self.at.unwrap_or(stamp.now);
        transaction.write(
            "UPDATE keys SET signs_from = ?2, activation = ?3, number = ?3 WHERE kid = ?1",
            (&self.kid, from.0, stamp.sequence),
        )?;
        audit::write(transaction, stamp, "activate_key", &self.kid, None)?;
        Ok(ActivateKeyOutcome::Activated { sequence: stamp.sequence, from })
    }
}

impl Apply for RetireKey {
    fn apply(self, transaction: &Transaction<'_>) -> Result<RetireKeyOutcome, StoreError> {
        let recorded = find(transaction, &self.kid)?;
        let shared = heartbeat::shared_keys(transaction, transaction.shared)?;
        let is_shared = |key| shared.as_ref().is_none_or(|keys| keys.contains(&key));
        let now = transaction.now;
        let recorded = recorded.as_ref().map(|(key, sequence)| (key, *sequence));
        if let Some(outcome) = decision::refuse_retirement(recorded, &all(transaction)?, now, is_shared) {
            return Ok(outcome);
        }
        let stamp = transaction.stamp();
        // No gateway admits a token that ends later.
        let ends_at = stamp.now.plus(self.longest);
        transaction.write(
            "UPDATE keys SET ends_at = ?2, number = ?3 WHERE kid = ?1",
            (&self.kid, ends_at.0, stamp.sequence),
        )?;
        audit::write(transaction, stamp, "retire_key", &self.kid, None)?;
        Ok(RetireKeyOutcome::Retired { sequence: stamp.sequence, ends_at })
    }
}

impl Apply for RevokeKey {
    const REVOKES_KEYS: bool = true;

    fn apply(self, transaction: &Transaction<'_>) -> Result<RevokeKeyOutcome, StoreError> {
        let recorded = find(transaction, &self.kid)?;
        if let Some(outcome) = decision::revoke_key(recorded.as_ref().map(|(key, sequence)| (key, *sequence)))
        {
            // Written again where it was revoked before, so that its acknowledgement follows a sync like every other.
            transaction.write("UPDATE keys SET number = number WHERE kid = ?1", [&self.kid])?;
            return Ok(outcome);
        }
        if let Some(kid) = record(transaction, &self.successors)? {
            return Ok(RevokeKeyOutcome::Conflict(kid));
        }
        let stamp = transaction.stamp();
        transaction.write(
            "UPDATE keys SET revoked_at = ?2, number = ?3 WHERE kid = ?1",
            (&self.kid, stamp.now.0, stamp.sequence),
        )?;
        audit::write(transaction, stamp, "revoke_key", &self.kid, None)?;
        Ok(RevokeKeyOutcome::Revoked(stamp.sequence))
    }
}

/// Records the keys that are not recorded yet; nothing if a `kid`, which is returned, stands for another secret.
fn record(transaction: &Transaction<'_>, keys: &[KeyRecord]) -> Result<Option<String>, StoreError> {
    let mut new: Vec<&KeyRecord> = Vec::new();
    for key in keys {
        let recorded = find(transaction, &key.kid)?.map(|(recorded, _)| recorded.fingerprint);
        // An earlier key of the list counts as recorded.
        let earlier = || new.iter().find(|earlier| earlier.kid == key.kid).map(|earlier| earlier.fingerprint);
        match decision::record_key(recorded.or_else(earlier), key.fingerprint) {
            KeyRecording::Known => {}
            KeyRecording::New => new.push(key),
            KeyRecording::Conflict => return Ok(Some(key.kid.clone())),
        }
    }
    for key in new {
        let stamp = transaction.stamp();
        transaction.write(
            "INSERT INTO keys (kid, fingerprint, recorded_at, number) VALUES (?1, ?2, ?3, ?4)",
            (&key.kid, key.fingerprint.0, stamp.now.0, stamp.sequence),
        )?;
        audit::write(transaction, stamp, "key_add", &key.kid, None)?;
    }
    Ok(None)
}

/// Revokes keys of which it is known that they were revoked once, by their fingerprints and whether or not they are recorded;
/// says which were not revoked here, by their names.
pub(in crate::store) fn revoke_known(
    transaction: &Transaction<'_>,
    known: &[KeyRecord],
) -> Result<Vec<String>, StoreError> {
    let mut revoked = Vec::new();
    for key in known {
        let name = match decision::revoke_fingerprint(&all(transaction)?, key) {
            KeyRevocation::Known => continue,
            KeyRevocation::Revoke => None,
            KeyRevocation::Add(name) => Some(name),
        };
        let stamp = transaction.stamp();
        if let Some(name) = name {
            transaction.write(
                "INSERT INTO keys (kid, fingerprint, recorded_at, number) VALUES (?1, ?2, ?3, ?4)",
                (name, key.fingerprint.0, stamp.now.0, stamp.sequence),
            )?;
        }
        transaction.write(
            "UPDATE keys SET revoked_at = ?2, number = ?3 WHERE fingerprint = ?1 AND revoked_at IS NULL",
            (key.fingerprint.0, stamp.now.0, stamp.sequence),
        )?;
        audit::write(transaction, stamp, "revoke_key", &key.kid, None)?;
        revoked.push(key.kid.clone());
    }
    Ok(revoked)
}

/// Brings back what is known of keys that are recorded, and that the database has lost: when they were activated, and when they end.
pub(in crate::store) fn restore_uses(
    transaction: &Transaction<'_>,
    known: &[(Fingerprint, KeyUse)],
) -> Result<(), StoreError> {
    let recorded = all(transaction)?;
    for (fingerprint, known) in known {
        for row in recorded.iter().filter(|row| row.fingerprint == *fingerprint) {
            let mut merged = row.key_use;
            merged.merge(*known);
            if merged == row.key_use {
                continue;
            }
            let KeyUse { activation, ends_at } = merged;
            let stamp = transaction.stamp();
            let (from, sequence) =
                activation.map(|activation| (activation.from.0, activation.sequence)).unzip();
            transaction.write(
                "UPDATE keys SET signs_from = ?2, activation = ?3, ends_at = ?4, number = ?5 WHERE kid = ?1",
                (&row.kid, from, sequence, ends_at.map(|end| end.0), stamp.sequence),
            )?;
        }
    }
    Ok(())
}

/// Every key that is revoked.
pub(in crate::store) fn revoked(connection: &Connection<'_>) -> Result<Vec<KeyRecord>, StoreError> {
    let rows = all(connection)?.into_iter().filter(RecordedKey::is_revoked);
    Ok(rows.map(|key| KeyRecord { kid: key.kid, fingerprint: key.fingerprint }).collect())
}

/// Every key that was ever recorded.
pub(in crate::store) fn all(connection: &Connection<'_>) -> Result<Vec<RecordedKey>, StoreError> {
    let rows = connection.all(&format!("{SELECT} ORDER BY kid"), (), read)?;
    Ok(rows.into_iter().map(|(key, _)| key).collect())
}

/// Keys that were recorded or revoked after that sequence, each with its own; there are never many.
pub(in crate::store) fn after(
    connection: &Connection<'_>,
    sequence: u64,
) -> Result<Vec<(RecordedKey, u64)>, StoreError> {
    connection.all(&format!("{SELECT} WHERE number > ?1 ORDER BY kid"), [sequence], read)
}

/// Is that key revoked or retired, under its name or another? Gates know those by their fingerprints.
pub(in crate::store) fn has_ended(connection: &Connection<'_>, key: &Key) -> Result<bool, StoreError> {
    connection.one(
        "SELECT EXISTS (SELECT 1 FROM keys WHERE (kid = ?1 OR fingerprint = ?2) AND (revoked_at IS NOT NULL OR ends_at IS NOT NULL))",
        (key.kid(), key.fingerprint().0),
        |row| row.get(0),
    )
}

/// Revocations of keys after that sequence, as shown.
pub(in crate::store) fn revoked_after(
    connection: &Connection<'_>,
    sequence: u64,
) -> Result<Vec<Revocation>, StoreError> {
    connection.all(
        "SELECT kid, number, revoked_at FROM keys WHERE number > ?1 AND revoked_at IS NOT NULL",
        [sequence],
        |row| {
            let (subject, sequence, time) = (row.get(0)?, row.get(1)?, UnixTime(row.get(2)?));
            let kind = RevocationKind::Key.as_str();
            Ok(Revocation { kind, subject, sequence, time, blocked: true, user: None, reason: None })
        },
    )
}

fn find(connection: &Connection<'_>, kid: &str) -> Result<Option<(RecordedKey, u64)>, StoreError> {
    connection.find(&format!("{SELECT} WHERE kid = ?1"), [kid], read)
}

fn read(row: &Row<'_>) -> Result<(RecordedKey, u64), StoreError> {
    let (revoked, ends_at): (Option<u64>, Option<u64>) = (row.get(2)?, row.get(6)?);
    let (from, sequence): (Option<u64>, Option<u64>) = (row.get(4)?, row.get(5)?);
    let activation = from.zip(sequence).map(|(from, sequence)| Activation { from: UnixTime(from), sequence });
    let ends_at = if revoked.is_some() { KeyUse::REVOKED.ends_at } else { ends_at.map(UnixTime) };
    let key_use = KeyUse { activation, ends_at };
    let key = RecordedKey { kid: row.get(0)?, fingerprint: Fingerprint(row.get(1)?), key_use };
    Ok((key, row.get(3)?))
}

const SELECT: &str = "SELECT kid, fingerprint, revoked_at, number, signs_from, activation, ends_at FROM keys";
