//! The database: what is made in an empty one, its schema, its lock and its channel.

use std::cell::Cell;

use super::history::{self, Commit};
use super::session::Session;
use crate::auth::time::{Lived, UnixTime};
use crate::store::command::Actor;
use crate::store::error::StoreError;
use crate::store::records::StoredTime;
use crate::store::sql::connection::Connection;
use crate::store::sql::transaction::{Time, Transaction};
use crate::store::sql::{after_restore, new_store, sequence, time};

/// Takes the lock of all who write, with the next statement and until the end of the transaction.
pub(super) fn lock(session: &Session) -> Result<(), StoreError> {
    session.connection().write("SELECT pg_advisory_xact_lock(?1)", [LOCK])
}

/// Tells every gateway, once the transaction is committed.
pub(super) fn notify(session: &Session) -> Result<(), StoreError> {
    session.connection().write("SELECT pg_notify(?1, '')", [CHANNEL])
}

/// Hears of commits from now on.
pub(super) fn listen(session: &Session) -> Result<(), StoreError> {
    session.batch(&format!("LISTEN {CHANNEL}"))
}

/// What the server's clock says.
pub(super) fn time(connection: &Connection<'_>) -> Result<UnixTime, StoreError> {
    let asked = "SELECT CAST(floor(extract(epoch FROM clock_timestamp())) AS BIGINT)";
    connection.one(asked, (), |row| Ok(UnixTime(row.get(0)?)))
}

/// Makes a store with a cutoff on everybody in a database that has none; whether it did. Harmless when two gateways do it at once.
pub(super) fn create(session: &Session, now: UnixTime) -> Result<bool, StoreError> {
    session.begin("BEGIN");
    lock(session)?;
    if schema_of(&session.connection())?.is_some() {
        session.finish("ROLLBACK")?;
        return Ok(false);
    }
    make_tables(session)?;
    let connection = session.connection();
    note_schema(&connection)?;
    time::set_floor(&connection, now)?;
    let (actor, taken) = (Actor::operator("ds-gateway", "start"), Cell::new(0));
    let time = Time { now, lived: Lived(0), issue_time: now, wall: now };
    new_store::fill(&Transaction::new(connection, &taken, &actor, &time), 0, &[])?;
    history::leave(&connection, Commit { sequence: taken.get(), nonce: fastrand::i64(..) })?;
    session.finish("COMMIT")?;
    Ok(true)
}

/// Goes on behind everything that was given out before the database was restored, or a standby promoted that had not seen all of it, with a
/// cutoff on everybody.
pub(super) fn resume(session: &Session, now: UnixTime) -> Result<(), StoreError> {
    session.begin("BEGIN");
    lock(session)?;
    let connection = session.connection();
    let StoredTime { lived, floor, .. } = time::read(&connection)?;
    let time = Time { now: now.max(floor), lived, issue_time: now, wall: now };
    let (actor, taken) =
        (Actor::operator("ds-gateway", "run --restored"), Cell::new(sequence::current(&connection)?));
    // Nothing lies beside a database that would know more.
    after_restore::resume(&Transaction::new(connection, &taken, &actor, &time), 0, &[])?;
    history::leave(&connection, Commit { sequence: taken.get(), nonce: fastrand::i64(..) })?;
    history::begin_anew(&connection)?;
    notify(session)?;
    session.finish("COMMIT")?;
    log::warn!(
        "the store was restored: a key that was revoked after the backup was made is valid again: `ds-gateway key list` shows the keys, `ds-gateway revoke key KID --replace` revokes one"
    );
    Ok(())
}

/// Makes the tables of a store that has no schema yet; in the running transaction.
pub(super) fn make_tables(session: &Session) -> Result<(), StoreError> {
    session.batch(CREATE)?;
    MIGRATIONS.iter().try_for_each(|script| session.batch(script))
}

/// Notes which schema the store has, from when on it is one.
pub(super) fn note_schema(connection: &Connection<'_>) -> Result<(), StoreError> {
    connection.write("INSERT INTO ds_gateway (schema) VALUES (?1)", [SCHEMA])
}

/// Is there a store, of the schema that this program reads and writes?
pub(super) fn check_schema(session: &Session) -> Result<(), StoreError> {
    match schema_of(&session.connection())? {
        None => Err(StoreError::Missing),
        Some(SCHEMA) => Ok(()),
        Some(found) if found > SCHEMA => Err(StoreError::Newer { found, known: SCHEMA }),
        Some(found) => Err(StoreError::Older { found, needed: SCHEMA }),
    }
}

/// The schema of the store; none where there is no store.
fn schema_of(connection: &Connection<'_>) -> Result<Option<u32>, StoreError> {
    let is_there = connection.one("SELECT to_regclass('ds_gateway') IS NOT NULL", (), |row| row.get(0))?;
    let found = match is_there {
        true => connection.find("SELECT schema FROM ds_gateway", (), |row| row.get(0))?,
        false => return Ok(None),
    };
    if found.is_some() {
        return Ok(found);
    }
    let source = connection.find("SELECT source FROM ds_gateway_copy", (), |row| row.get(0))?;
    Err(StoreError::UnfinishedCopy(source.unwrap_or_default()))
}

/// Which schema the store has: one row.
const CREATE: &str = "CREATE TABLE ds_gateway (schema BIGINT NOT NULL)";

/// The schema that this program reads and writes.
const SCHEMA: u32 = 1;

/// One script a schema version, in order; a released one is never changed.
const MIGRATIONS: [&str; SCHEMA as usize] = [include_str!("schema/1.sql")];

/// `ds-gw` and a number, since the locks of a database are everybody's who uses it.
const LOCK: i64 = 0x64_73_2d_67_77_00_01;

const CHANNEL: &str = "ds_gateway";
