//! The database: what is made in an empty one, its schema, its lock and its channel.

use std::cell::Cell;
use std::time::Duration;

use super::connect::Purpose;
use super::history::{self, Fork};
use super::notes::Notes;
use super::session::Session;
use crate::auth::time::{Lived, UnixTime};
use crate::clock::Clock;
use crate::config::{Durability, PostgresSettings};
use crate::store::beside::latest_commit::Commit;
use crate::store::command::Actor;
use crate::store::error::StoreError;
use crate::store::sql::connection::Connection;
use crate::store::sql::transaction::{Time, Transaction};
use crate::store::sql::{after_restore, keys, new_store, sequence, time};

/// Takes the lock of all who write, with the next statement and until the end of the transaction.
pub(super) fn lock(session: &Session) -> Result<(), StoreError> {
    session.connection().write("SELECT pg_advisory_xact_lock(?1)", [LOCK])
}

/// Tells every gateway, once the transaction is committed.
pub(super) fn notify(session: &Session) -> Result<(), StoreError> {
    session.connection().write("SELECT pg_notify(?1, '')", [CHANNEL])
}

/// Hears of commits from now on, and of itself at once: behind a pooler that passes nothing on, of neither.
pub(super) fn listen(session: &Session) -> Result<(), StoreError> {
    let own = format!("{CHANNEL}_{:032x}", fastrand::u128(..));
    session.batch(&format!("LISTEN {CHANNEL}; LISTEN {own}; NOTIFY {own}"))
}

/// What the server's clock says.
pub(in crate::store) fn time(connection: &Connection<'_>) -> Result<UnixTime, StoreError> {
    let asked = "SELECT CAST(floor(extract(epoch FROM clock_timestamp())) AS BIGINT)";
    connection.one(asked, (), |row| Ok(UnixTime(row.get(0)?)))
}

/// Begins a transaction that is durable as configured once it is committed, under the lock of all who write.
pub(super) fn begin(session: &Session, durability: Durability) -> Result<(), StoreError> {
    session.begin("BEGIN");
    // In the transaction: a pooler may give each another session.
    session.begin(match durability {
        Durability::Local => "SET LOCAL synchronous_commit = on",
        // A commit whose wait for the standby was cancelled only warns of that.
        Durability::RemoteApply => {
            "SET LOCAL synchronous_commit = remote_apply; SET LOCAL client_min_messages = warning"
        }
    });
    lock(session)
}

/// Commits what was begun so.
///
/// # Errors
///
/// It may be committed all the same, and not be where it should be.
pub(super) fn commit(session: &Session, durability: Durability) -> Result<(), StoreError> {
    let warnings = session.warnings();
    session.finish("COMMIT")?;
    if durability == Durability::RemoteApply && session.warnings() != warnings {
        return Err(StoreError::Unavailable(
            "the wait for the synchronous standby was cancelled: the change is on one server alone".into(),
        ));
    }
    Ok(())
}

/// Is there a second server that a commit waits for, where it is to be on two?
pub(super) fn check_durability(
    connection: &Connection<'_>,
    durability: Durability,
) -> Result<(), StoreError> {
    let asked = "SELECT current_setting('synchronous_standby_names') <> ''";
    if durability == Durability::Local || connection.one(asked, (), |row| row.get(0))? {
        return Ok(());
    }
    Err(StoreError::Refused(
        "store.durability is \"remote_apply\", and the server waits for no standby: set synchronous_standby_names there, or store.durability = \"local\""
            .into(),
    ))
}

/// A transaction of its own for what is no command; says which commit it left, if it took a sequence.
pub(super) fn transaction<T>(
    session: &Session,
    durability: Durability,
    clock: &Clock,
    actor: &Actor,
    work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
) -> Result<(T, Option<Commit>), StoreError> {
    begin(session, durability)?;
    let connection = session.connection();
    check_durability(&connection, durability)?;
    let before = sequence::current(&connection)?;
    let now = clock.of_database(self::time(&connection)?);
    let (taken, time) = (Cell::new(before), time::advance(&connection, clock, before, Some(now))?);
    let done = work(&Transaction::new(connection, &taken, actor, &time))?;
    let commit = (taken.get() != before).then(|| Commit { sequence: taken.get(), nonce: nonce() });
    if let Some(commit) = commit {
        history::leave(&connection, commit)?;
        notify(session)?;
    }
    // An aborted transaction would end without an error.
    session.fault().map_or(Ok(()), Err)?;
    self::commit(session, durability)?;
    Ok((done, commit))
}

/// On a standby that was promoted the last heartbeats may be lost, and a gateway that is cut off may go on for as long as its lease was: each counts as
/// heard of when the first change is made there. Asked once in a session, which ends with its server.
pub(super) fn renew_leases(connection: &Connection<'_>, now: UnixTime) -> Result<(), StoreError> {
    let is_promoted = connection.change(
        "UPDATE ds_gateway SET timeline = current_timeline() WHERE timeline <> current_timeline()",
        (),
    )? > 0;
    if is_promoted {
        connection.write("UPDATE gateways SET seen_at = ?1 WHERE seen_at < ?1", [now.0])?;
    }
    Ok(())
}

/// A random number that no other history has at the same sequence.
pub(super) fn nonce() -> i64 {
    fastrand::i64(1..)
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
    let time = Time { now, lived: Lived(0), issue_time: now, wall: now, shared: now };
    new_store::fill(&Transaction::new(connection, &taken, &actor, &time), 0, &[])?;
    history::leave(&connection, Commit { sequence: taken.get(), nonce: nonce() })?;
    session.finish("COMMIT")?;
    Ok(true)
}

/// Goes on behind everything that was given out before the database was restored, or a standby promoted that had not seen all of it, with a
/// cutoff on everybody and every key revoked that is noted here as such. Gateways that run write back what they know.
pub(super) fn resume(
    session: &Session,
    durability: Durability,
    clock: &Clock,
    notes: &Notes,
) -> Result<(), StoreError> {
    let (known, revoked) = (notes.latest()?.sequence, notes.revoked_keys()?);
    let actor = Actor::operator("ds-gateway", "run --restored");
    transaction(session, durability, clock, &actor, |transaction| {
        let number = after_restore::resume(transaction, known, &revoked)?.sequence;
        history::note_fork(transaction, Fork { number, parted: 0, known: number - 1 })
    })?;
    log::warn!(
        "the store was restored: a key that was revoked after the backup was made is valid again, unless this machine's state folder notes it: \
         `ds-gateway key list` shows the keys, `ds-gateway revoke key KID --replace` revokes one"
    );
    Ok(())
}

/// Revokes the keys that are noted as revoked and that the database has forgotten, or never had.
pub(super) fn revoke_forgotten(
    session: &Session,
    durability: Durability,
    clock: &Clock,
    notes: &Notes,
) -> Result<(), StoreError> {
    let forgotten = notes.forgotten_keys(&session.connection())?;
    if forgotten.is_empty() {
        return Ok(());
    }
    let actor = Actor::operator("ds-gateway", "start");
    let revoke = |transaction: &Transaction<'_>| keys::revoke_known(transaction, &forgotten);
    let (revoked, _) = transaction(session, durability, clock, &actor, revoke)?;
    log::warn!(
        "keys that this machine's state folder notes as revoked are revoked again: {}",
        revoked.join(", ")
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

/// Which store it is, whatever server or backup it comes from, if its schema is the one that this program reads and writes.
pub(super) fn check_schema(session: &Session) -> Result<String, StoreError> {
    let connection = session.connection();
    match schema_of(&connection)? {
        None => Err(StoreError::Missing),
        Some(SCHEMA) => connection.one("SELECT id FROM ds_gateway", (), |row| row.get(0)),
        Some(found) if found > SCHEMA => Err(StoreError::Newer { found, known: SCHEMA }),
        Some(found) => Err(StoreError::Older { found, needed: SCHEMA }),
    }
}

/// A connection that may read everything, to a store of the schema that this program reads.
pub(super) fn opened(
    settings: &PostgresSettings,
    name: &'static str,
    told: impl FnMut() + Send + 'static,
) -> Result<Session, StoreError> {
    opened_for(settings, Purpose::new(name), told)
}

/// The same, for what takes another time than usual.
pub(super) fn opened_for(
    settings: &PostgresSettings,
    purpose: Purpose,
    told: impl FnMut() + Send + 'static,
) -> Result<Session, StoreError> {
    // A start reads millions of rows by one statement; a server that says nothing is given up by the session.
    let purpose = Purpose { statement_timeout: Duration::ZERO, ..purpose };
    let session = Session::open(settings, purpose, told)?;
    check_schema(&session)?;
    Ok(session)
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

/// Which schema the store has, and which store it is: one row.
const CREATE: &str = "CREATE TABLE ds_gateway (
    schema BIGINT NOT NULL,
    id TEXT NOT NULL DEFAULT gen_random_uuid(),
    timeline TEXT NOT NULL DEFAULT ''
)";

/// The schema that this program reads and writes.
const SCHEMA: u32 = 1;

/// One script a schema version, in order; a released one is never changed.
const MIGRATIONS: [&str; SCHEMA as usize] = [include_str!("schema/1.sql")];

/// `ds-gw` and a number, since the locks of a database are everybody's who uses it.
const LOCK: i64 = 0x64_73_2d_67_77_00_01;

const CHANNEL: &str = "ds_gateway";
