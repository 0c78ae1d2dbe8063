//! The file: how it is created, opened and migrated, and the settings of a connection.
//!
//! WAL with `synchronous=FULL`: a transaction that was acknowledged is on the disk. Only [`Opening::Run`]
//! migrates; a file of something else, or of a newer schema, is never written to.

use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::{AccessFlags, faccessat};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::connection::of;
use super::wal::{Wal, identity};
use crate::auth::time::{Lived, UnixTime};
use crate::store::beside::beside;
use crate::store::beside::{latest_commit, revoked_keys};
use crate::store::command::{Actor, KeyRecord};
use crate::store::error::StoreError;
use crate::store::records::StoredTime;
use crate::store::sql::transaction::{Time, Transaction};
use crate::store::sql::{after_restore, audit, keys, new_store, sequence, skeletons, time};

/// Who opens the store, and so what may be done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// The gateway: migrates an older schema.
    Run,
    /// The gateway that takes over from one that runs: migrates only what that one can go on with.
    Successor,
    /// The gateway, with a store that was restored from a backup or copied: revokes every token that was issued so
    /// far, and goes on at a sequence that was never given out.
    Restored,
    /// The command line beside it: leaves the schema alone.
    Command,
    /// The same, to find out whether the gateway could open it: checks all of it, as the gateway does.
    Look,
}

impl Opening {
    /// Is it the gateway's, which brings the store and what lies beside it up to date?
    pub(in crate::store) const fn is_start(self) -> bool {
        matches!(self, Self::Run | Self::Successor | Self::Restored)
    }
}

/// Where the store is. Connections are opened from it, one for each thread that needs one.
#[derive(Clone, Debug)]
pub(super) struct DatabaseFile {
    path: PathBuf,
    /// Device and inode of the file that was opened.
    identity: (u64, u64),
    checkpoints: Checkpoints,
}

/// A file that was opened.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: DatabaseFile,
    /// Whether nothing is left to be checked: a command trusts the gateway to have done it.
    pub(super) is_checked: bool,
}

/// When a connection moves what is in the log into the file: one place does, so that nobody else waits for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Checkpoints {
    /// When it is closed and no other connection is open, in whatever process.
    AtClose,
    /// Then too, and after a commit that leaves so many pages in the log.
    After(u32),
    /// Never, not even then.
    Never,
}

impl DatabaseFile {
    /// Creates the store with a cutoff on everybody: nothing minted before it is trusted. Harmless when two
    /// processes do it at once.
    pub(super) fn create(path: &Path, now: UnixTime) -> Result<Self, StoreError> {
        let database = Self::made(path)?;
        let (known, revoked) = (latest_commit::read(path)?.sequence, revoked_keys::read(path)?);
        let mut connection = database.connect()?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if schema_of(&transaction)? == 0 {
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            migrate(&transaction, 0, now)?;
            let (actor, taken) = (Actor::operator("ds-gateway", "start"), Cell::new(0));
            let time = Time { now, lived: Lived(0), issue_time: now, wall: now, shared: now };
            // What lies beside it is of the one that was here before.
            new_store::fill(&Transaction::new(of(&transaction), &taken, &actor, &time), known, &revoked)?;
            sequence::set(&of(&transaction), taken.get())?;
            transaction.commit()?;
        }
        // The name of a new file is durable only once its folder is.
        if let Some(folder) = path.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(database)
    }

    /// The file, made where it is not there; only its owner may read it.
    pub(super) fn made(path: &Path) -> Result<Self, StoreError> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        let identity = identity(&file.metadata()?);
        Ok(Self { path: path.to_owned(), identity, checkpoints: Checkpoints::AtClose })
    }

    /// Opens an existing store and checks that it is one, and that it has forgotten nothing.
    pub(super) fn open(path: &Path, opening: Opening, now: UnixTime) -> Result<Opened, StoreError> {
        // A file that was created and never filled does not count.
        if std::fs::metadata(path)?.len() == 0 {
            return Err(StoreError::Missing);
        }
        // SQLite would say only that it cannot open the file; this says why.
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let database = Self {
            path: path.to_owned(),
            identity: identity(&file.metadata()?),
            checkpoints: Checkpoints::AtClose,
        };
        drop(file);
        check_application(path)?;
        let mut connection = database.connect()?;
        let found = schema_of(&connection)?;
        // What is to be written to now is checked now.
        let is_written = opening == Opening::Restored || (opening.is_start() && found < SCHEMA);
        if is_written {
            quick_check(&connection)?;
        }
        match found {
            SCHEMA => {}
            found if found > SCHEMA => return Err(StoreError::Newer { found, known: SCHEMA }),
            found if opening == Opening::Successor && !are_additive(found, &MIGRATIONS) => {
                return Err(StoreError::NeedsRestart { found, needed: SCHEMA });
            }
            found if !opening.is_start() => {
                return Err(StoreError::Older { found, needed: SCHEMA });
            }
            _ => {
                let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                let found = schema_of(&transaction)?;
                migrate(&transaction, found, now)?;
                transaction.commit()?;
            }
        }
        // In this order: the files are never ahead of the store, which may be written to meanwhile.
        let (known, noted) = (latest_commit::read(path)?.sequence, revoked_keys::read(path)?);
        let found = sequence::current(&of(&connection))?;
        let mut revoked = keys::revoked(&of(&connection))?;
        let is_known = |key: &KeyRecord| revoked.iter().any(|known| known.fingerprint == key.fingerprint);
        let forgotten = noted.iter().find(|key| !is_known(key));
        match (opening, forgotten) {
            (Opening::Restored, _) => {
                database.sync(&mut connection)?;
                restored(&mut connection, known, &noted, now)?;
                revoked = keys::revoked(&of(&connection))?;
            }
            _ if found < known => return Err(StoreError::Rewound { found, known }),
            (_, Some(key)) => return Err(StoreError::KeyForgotten(key.kid.clone())),
            _ => {}
        }
        if opening.is_start() {
            revoked_keys::add(path, &revoked);
        }
        Ok(Opened { file: database, is_checked: is_written || opening == Opening::Command })
    }

    /// Makes durable what a reader of the store sees, and says what its log is to be compared with. Asked by the process that
    /// is about to acknowledge something, with a connection that has never committed anything.
    pub(super) fn sync(&self, connection: &mut Connection) -> Result<Wal, StoreError> {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let wal = Wal::sync(&self.path)?;
        transaction.rollback()?;
        Ok(wal)
    }

    /// May this process open the store, and what lies beside it, again? What is open stays so, whatever their modes.
    pub(super) fn check_access(&self) -> Result<(), StoreError> {
        let flags = AccessFlags::R_OK | AccessFlags::W_OK;
        for path in [self.path.clone(), beside(&self.path, "-wal"), beside(&self.path, "-shm")] {
            // By the effective user and its capabilities, without opening: to close one ends SQLite's locks on it.
            let answer = faccessat(AT_FDCWD, &path, flags, AtFlags::AT_EACCESS);
            // Whatever else it is shows elsewhere.
            if let Err(nix::Error::EACCES | nix::Error::EPERM) = answer {
                let name = path.file_name().unwrap_or_default().display();
                return Err(StoreError::NotPermitted(format!("{name} cannot be opened again")));
            }
        }
        Ok(())
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The same file, whose connections will checkpoint like this.
    pub(super) fn with(&self, checkpoints: Checkpoints) -> Self {
        Self { checkpoints, ..self.clone() }
    }

    /// A new connection that only reads.
    pub(super) fn connect_to_read(&self) -> Result<Connection, StoreError> {
        let connection = self.connect()?;
        connection.pragma_update(None, "query_only", true)?;
        Ok(connection)
    }

    /// A new connection with the settings that durability needs.
    pub(super) fn connect(&self) -> Result<Connection, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_handler(Some(wait_for_lock))?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
        if mode != "wal" {
            return Err(StoreError::Failed(format!("journal mode is {mode}, not wal")));
        }
        connection.pragma_update(None, "synchronous", "FULL")?;
        // No file is made on a disk that may be full.
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        let (pages, never) = match self.checkpoints {
            Checkpoints::AtClose => (0, false),
            Checkpoints::After(pages) => (pages, false),
            Checkpoints::Never => (0, true),
        };
        connection.pragma_update(None, "wal_autocheckpoint", pages)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, never)?;
        // A plan does not depend on what is bound: each is the one that the test of plans has seen, and made once. Otherwise
        // a statement with a bound LIMIT would be prepared again at each use.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        Ok(connection)
    }

    /// Is the file still the one that was opened? A connection would not notice.
    pub(super) fn check_in_place(&self) -> Result<(), StoreError> {
        match std::fs::metadata(&self.path) {
            Ok(metadata) if identity(&metadata) == self.identity => Ok(()),
            Ok(_) => Err(StoreError::Replaced),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(StoreError::Replaced),
            Err(error) => Err(error.into()),
        }
    }
}

/// Looks at the file before anything is set: what is not ours stays as it is.
pub(super) fn check_application(path: &Path) -> Result<(), StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let reader = Connection::open_with_flags(path, flags)?;
    let application: i32 = reader.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    let is_blank = "SELECT NOT EXISTS (SELECT 1 FROM sqlite_master)";
    if application == 0 && reader.query_row(is_blank, [], |row| row.get(0))? {
        // A creation that did not come far, on a full disk for instance.
        return Err(StoreError::Missing);
    }
    if application == UNFINISHED_COPY_ID {
        let source = "SELECT source FROM ds_gateway_copy";
        return Err(StoreError::UnfinishedCopy(reader.query_row(source, [], |row| row.get(0))?));
    }
    if application != APPLICATION_ID {
        return Err(StoreError::Foreign(format!("its application id is {application:#x}")));
    }
    Ok(())
}

/// Revokes every token that was issued so far: revocations of some of them are forgotten. Keys that are known to have been
/// revoked are revoked again.
fn restored(
    connection: &mut Connection,
    known: u64,
    revoked: &[KeyRecord],
    now: UnixTime,
) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let actor = Actor::operator("ds-gateway", "run --restored");
    let StoredTime { lived, floor, .. } = time::read(&of(&transaction))?;
    let time = Time { now: now.max(floor), lived, issue_time: now, wall: now, shared: now };
    let taken = Cell::new(sequence::current(&of(&transaction))?);
    let running = Transaction::new(of(&transaction), &taken, &actor, &time);
    let resumed = after_restore::resume(&running, known, revoked)?;
    sequence::set(&of(&transaction), taken.get())?;
    transaction.commit()?;
    for kid in resumed.revoked_keys {
        log::warn!("the key {kid:?} stays revoked: the store's -revoked-keys file names it");
    }
    log::warn!(
        "the store was restored: a key that was revoked after the copy was made, and is not in the store's -revoked-keys file, is valid again: `ds-gateway key list` shows the keys, `ds-gateway revoke key KID --replace` revokes one"
    );
    Ok(())
}

fn schema_of(connection: &Connection) -> Result<u32, StoreError> {
    Ok(connection.query_row("PRAGMA user_version", [], |row| row.get(0))?)
}

pub(super) fn migrate(connection: &Connection, found: u32, now: UnixTime) -> Result<(), StoreError> {
    for (version, Migration { script, .. }) in
        (1..).zip(MIGRATIONS).skip_while(|(version, _)| *version <= found)
    {
        connection.execute_batch(script)?;
        connection.pragma_update(None, "user_version", version)?;
    }
    if found < 2 {
        // Not past the last thing that happened: a floor that is too low holds nothing up.
        let latest = audit::latest(&of(connection))?;
        time::set_floor(&of(connection), if latest.0 > 0 { now.min(latest) } else { now })?;
    }
    if found < 5 {
        skeletons::remember_all(&of(connection))?;
    }
    Ok(())
}

/// Is the schema one that this program reads, or migrates from?
pub(super) fn check_schema(connection: &Connection) -> Result<(), StoreError> {
    match schema_of(connection)? {
        found if found > SCHEMA => Err(StoreError::Newer { found, known: SCHEMA }),
        0 => Err(StoreError::Damaged("it has no schema".into())),
        _ => Ok(()),
    }
}

pub(super) fn quick_check(connection: &Connection) -> Result<(), StoreError> {
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict == "ok" { Ok(()) } else { Err(StoreError::Damaged(verdict.replace('\n', "; "))) }
}

/// `DSGW`, so that `file` and we can tell the store from any other SQLite file.
pub(super) const APPLICATION_ID: i32 = i32::from_be_bytes(*b"DSGW");

/// `DSGC`: a copy that is not finished, which no program takes for a store.
pub(super) const UNFINISHED_COPY_ID: i32 = i32::from_be_bytes(*b"DSGC");

/// Waits for another process that has the store's lock. At short intervals, so that one which takes it again and again, as
/// an import does, cannot keep others from it for long: SQLite's own wait grows to a tenth of a second.
fn wait_for_lock(attempts: i32) -> bool {
    thread::sleep(LOCK_INTERVAL);
    attempts < LOCK_ATTEMPTS
}

/// How often a connection asks again for the lock that another process has.
const LOCK_INTERVAL: Duration = Duration::from_millis(1);

/// How many times: about two seconds in all.
const LOCK_ATTEMPTS: i32 = 1900;

/// More statements than a connection ever prepares, so that none is prepared twice.
const STATEMENTS: usize = 96;

/// The schema that this program reads and writes.
const SCHEMA: u32 = 6;

/// A script that makes a schema version out of the one before.
struct Migration {
    script: &'static str,
    /// Can a process of the version before go on beside it? Then it only adds what that one need not know of.
    is_additive: bool,
}

/// One a schema version, in order; a released one is never changed.
const MIGRATIONS: [Migration; SCHEMA as usize] = [
    Migration { script: include_str!("schema/1.sql"), is_additive: false },
    Migration { script: include_str!("schema/2.sql"), is_additive: false },
    Migration { script: include_str!("schema/3.sql"), is_additive: false },
    Migration { script: include_str!("schema/4.sql"), is_additive: false },
    Migration { script: include_str!("schema/5.sql"), is_additive: false },
    // A process that does not read when a key signs would sign with another one.
    Migration { script: include_str!("schema/6.sql"), is_additive: false },
];

/// Can a process of the schema `found` go on beside all migrations from there?
fn are_additive(found: u32, migrations: &[Migration]) -> bool {
    migrations.iter().skip(found as usize).all(|migration| migration.is_additive)
}

#[cfg(test)]
mod tests;
