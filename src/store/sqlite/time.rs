//! What the store keeps of time, moved on by every commit of a gateway.

use rusqlite::Connection;

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
    let mut statement = connection.prepare_cached("SELECT lived, floor, expired_below FROM clock")?;
    Ok(statement.query_row([], |row| {
        Ok(StoredTime { lived: Lived(row.get(0)?), floor: UnixTime(row.get(1)?), expired_below: row.get(2)? })
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

/// Notes that every token up to the sequence of the newest hour that began at `before` or earlier has expired, and forgets
/// the hours before that one.
pub(super) fn expire(connection: &Connection, before: Lived) -> Result<(), StoreError> {
    let mut newest = connection
        .prepare_cached("SELECT lived, number FROM hours WHERE lived <= ?1 ORDER BY lived DESC LIMIT 1")?;
    let mut rows = newest.query([before.0])?;
    let Some(row) = rows.next()? else { return Ok(()) };
    let (lived, number): (u64, u64) = (row.get(0)?, row.get(1)?);
    connection
        .prepare_cached("UPDATE clock SET expired_below = ?1 WHERE expired_below < ?1")?
        .execute([number + 1])?;
    connection.prepare_cached("DELETE FROM hours WHERE lived < ?1")?.execute([lived])?;
    Ok(())
}

const HOUR: u64 = 3600;
