//! What the store keeps of time, moved on by every commit of a gateway.

use super::connection::Connection;
use super::transaction::{Apply, Time, Transaction};
use super::{audit, cutoffs};
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
        let stamp = decision::Stamp { now: wall, ..transaction.stamp() };
        let everybody = cutoffs::get(transaction, &Subject::Everybody)?;
        let cutoff = decision::cutoff(everybody, stamp, false);
        cutoffs::set(transaction, &Subject::Everybody, cutoff, Some("repair_clock"))?;
        audit::write(transaction, stamp, "repair_clock", "everybody", None)?;
        Ok(RepairedClock { floor, wall, cutoffs })
    }
}

/// What is kept.
pub(in crate::store) fn read(connection: &Connection<'_>) -> Result<StoredTime, StoreError> {
    connection.one("SELECT lived, floor, expired_below, forgettable FROM clock", (), |row| {
        Ok(StoredTime {
            lived: Lived(row.get(0)?),
            floor: UnixTime(row.get(1)?),
            expired_below: row.get(2)?,
            forgettable: Lived(row.get(3)?),
        })
    })
}

/// Moves it on to now, in the running transaction behind that sequence, and says what time it has. Where the database has a clock of its own, which
/// says `database`, the floor follows no gateway's clock beyond that.
pub(in crate::store) fn advance(
    connection: &Connection<'_>,
    clock: &Clock,
    sequence: u64,
    database: Option<UnixTime>,
) -> Result<Time, StoreError> {
    let stored = read(connection)?;
    let (lived, floor) = clock.advance_within(stored.lived, stored.floor, database);
    if (lived, floor) != (stored.lived, stored.floor) {
        connection.write("UPDATE clock SET lived = ?1, floor = ?2", (lived.0, floor.0))?;
        note_hour(connection, lived, sequence)?;
    }
    let now = clock.now();
    let shared = database.unwrap_or(now);
    Ok(Time { now, lived, issue_time: clock.issue_time(), wall: clock.wall(), shared })
}

/// Sets the floor, where nobody has: of a new store, or of one that had none.
pub(in crate::store) fn set_floor(connection: &Connection<'_>, floor: UnixTime) -> Result<(), StoreError> {
    connection.write("UPDATE clock SET floor = ?1", [floor.0])
}

/// Once an hour of lived time, which transaction was the last.
fn note_hour(connection: &Connection<'_>, lived: Lived, sequence: u64) -> Result<(), StoreError> {
    let last: u64 = connection.one("SELECT coalesce(max(lived), 0) FROM hours", (), |row| row.get(0))?;
    if lived.0 >= last + HOUR {
        connection.write("INSERT INTO hours (lived, number) VALUES (?1, ?2)", (lived.0, sequence))?;
    }
    Ok(())
}

/// Notes which tokens have expired for certain: those up to the sequence of the newest hour that is `retention` or more ago. What
/// was revoked before that hour was about them only, and may be forgotten; the result says before which lived time that is. Of
/// several gateways the one that remembers longest decides.
pub(in crate::store) fn expire(transaction: &Transaction<'_>, retention: u64) -> Result<Lived, StoreError> {
    let retention: u64 = transaction.one("UPDATE clock SET retention = CASE WHEN retention < ?1 THEN ?1 ELSE retention END RETURNING retention", [retention], |row| row.get(0))?;
    let newest = transaction.find(
        "SELECT lived, number FROM hours WHERE lived <= ?1 ORDER BY lived DESC LIMIT 1",
        [transaction.lived.0.checked_sub(retention)],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    if let Some((lived, number)) = newest {
        let (lived, number): (u64, u64) = (lived, number);
        transaction.write("UPDATE clock SET expired_below = ?1, forgettable = ?2 WHERE expired_below < ?1 OR forgettable < ?2", (number + 1, lived))?;
        transaction.write("DELETE FROM hours WHERE lived < ?1", [lived])?;
    }
    Ok(read(transaction)?.forgettable)
}

const HOUR: u64 = 3600;
