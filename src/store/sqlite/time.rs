//! What the store keeps of time, moved on by every commit of a gateway.

use rusqlite::{Connection, OptionalExtension};

use super::transaction::{Apply, Time, Transaction};
use super::{audit, cutoffs, sequence};
use crate::auth::revocation::Subject;
use crate::auth::time::{Lived, UnixTime};
use crate::clock::Clock;
use crate::store::command::{RepairClock, RepairedClock};
use crate::store::decision;
use crate::store::error::StoreError;
use crate::store::records::StoredTime;

impl Apply for RepairClock {
    fn apply(self, transaction: &Transaction<'_>) -> Result<RepairedClock, StoreError> {
        let (floor, wall) = (read(transaction)?.floor, transaction.wall);
        set_floor(transaction, wall)?;
        let cutoffs = cutoffs::bound(transaction, wall)?;
        let stamp = decision::Stamp { now: wall, ..transaction.stamp()? };
        let everybody = cutoffs::get(transaction, &Subject::Everybody)?;
        let cutoff = decision::cutoff(everybody, stamp, false);
        cutoffs::set(transaction, &Subject::Everybody, cutoff, Some("repair_clock"))?;
        audit::write(transaction, stamp, "repair_clock", "everybody", None)?;
        Ok(RepairedClock { floor, wall, cutoffs })
    }
}

/// What is kept.
pub(super) fn read(connection: &Connection) -> Result<StoredTime, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT lived, floor, expired_below, forgettable FROM clock")?;
    Ok(statement.query_row([], |row| {
        Ok(StoredTime {
            lived: Lived(row.get(0)?),
            floor: UnixTime(row.get(1)?),
            expired_below: row.get(2)?,
            forgettable: Lived(row.get(3)?),
        })
    })?)
}

/// Moves it on to now, in the running transaction, and says what time that has.
pub(super) fn advance(connection: &Connection, clock: &Clock) -> Result<Time, StoreError> {
    let stored = read(connection)?;
    let (lived, floor) = clock.advance(stored.lived, stored.floor);
    if (lived, floor) != (stored.lived, stored.floor) {
        connection.prepare_cached("UPDATE clock SET lived = ?1, floor = ?2")?.execute((lived.0, floor.0))?;
        note_hour(connection, lived)?;
    }
    Ok(Time { now: clock.now(), lived, issue_time: clock.issue_time(), wall: clock.wall() })
}

/// Sets the floor, where nobody has: of a new store, or of one that had none.
pub(super) fn set_floor(connection: &Connection, floor: UnixTime) -> Result<(), StoreError> {
    connection.execute("UPDATE clock SET floor = ?1", [floor.0])?;
    Ok(())
}

/// Once an hour of lived time, which transaction was the last.
fn note_hour(connection: &Connection, lived: Lived) -> Result<(), StoreError> {
    let last: u64 = connection
        .prepare_cached("SELECT coalesce(max(lived), 0) FROM hours")?
        .query_row([], |row| row.get(0))?;
    if lived.0 >= last + HOUR {
        connection
            .prepare_cached("INSERT INTO hours (lived, number) VALUES (?1, ?2)")?
            .execute((lived.0, sequence::current(connection)?))?;
    }
    Ok(())
}

/// Notes which tokens have expired for certain: those up to the sequence of the newest hour that is `retention` or more ago. What
/// was revoked before that hour was about them only, and may be forgotten; the result says before which lived time that is. Of
/// several gateways the one that remembers longest decides.
pub(super) fn expire(transaction: &Transaction<'_>, retention: u64) -> Result<Lived, StoreError> {
    let retention: u64 = transaction
        .prepare_cached("UPDATE clock SET retention = max(retention, ?1) RETURNING retention")?
        .query_row([retention], |row| row.get(0))?;
    let newest = transaction
        .prepare_cached("SELECT lived, number FROM hours WHERE lived <= ?1 ORDER BY lived DESC LIMIT 1")?
        .query_row([transaction.lived.0.checked_sub(retention)], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    if let Some((lived, number)) = newest {
        let (lived, number): (u64, u64) = (lived, number);
        transaction
            .prepare_cached(
                "UPDATE clock SET expired_below = ?1, forgettable = ?2 WHERE expired_below < ?1 OR forgettable < ?2",
            )?
            .execute((number + 1, lived))?;
        transaction.prepare_cached("DELETE FROM hours WHERE lived < ?1")?.execute([lived])?;
    }
    Ok(read(transaction)?.forgettable)
}

const HOUR: u64 = 3600;
