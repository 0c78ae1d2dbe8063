//! The file: how it is created, opened, migrated and read whole.
//!
//! WAL with `synchronous=FULL`: a transaction that was acknowledged is on the disk. Only [`Store::open`]
//! with [`Opening::Run`] migrates; an unknown or newer file is never touched.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::revocations::revoked_token_of;
use rusqlite::{Connection, ErrorCode, OpenFlags, Row, TransactionBehavior};

use crate::auth::keys::Fingerprint;
use crate::auth::revocation::{Account, Mark, Standing, Subject};
use crate::auth::time::UnixTime;

/// Why the store could not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// There is no file.
    Missing,
    /// The file is something else, or damaged.
    NotAStore(String),
    /// Written by a newer version of this program.
    Newer {
        /// The schema found in the file.
        found: u32,
    },
    /// Written by an older version; `run` brings it up to date.
    Older {
        /// The schema found in the file.
        found: u32,
    },
    /// The operating system refuses access.
    NotPermitted(String),
    /// Another process holds it, or the queue is full: waiting mends it.
    Busy,
    /// The file at this path is another one than was opened, or gone: what is written would be lost.
    Replaced,
    /// The disk takes or gives no more: full, or failing.
    Disk(String),
    /// Anything else that SQLite says.
    Failed(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("the store does not exist"),
            Self::NotAStore(detail) => write!(
                f,
                "the file is not a store of ds-gateway, or is damaged ({detail}); restore it from a backup"
            ),
            Self::Newer { found } => write!(
                f,
                "the store has schema {found}, this program knows up to {SCHEMA}; use the newer program"
            ),
            Self::Older { found } => write!(
                f,
                "the store has schema {found}, this program needs {SCHEMA}; `ds-gateway run` migrates it"
            ),
            Self::NotPermitted(detail) => write!(
                f,
                "access to the store is refused ({detail}); it, -wal and -shm beside it, and their folder must be of the \
                 user that the gateway runs as"
            ),
            Self::Busy => f.write_str("the store is busy"),
            Self::Replaced => f.write_str(
                "the file of the store was removed or replaced while it was open: put it back or restart",
            ),
            Self::Disk(detail) => {
                write!(
                    f,
                    "the disk under the store is full, or failing ({detail}): free some space, or look at its log"
                )
            }
            Self::Failed(detail) => write!(f, "the store failed: {detail}"),
        }
    }
}

impl std::error::Error for StoreError {}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        // SQLite's messages name tables and files, never values.
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy,
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => Self::NotAStore(error.to_string()),
            Some(ErrorCode::PermissionDenied | ErrorCode::ReadOnly | ErrorCode::CannotOpen) => {
                Self::NotPermitted(error.to_string())
            }
            Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure) => Self::Disk(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            io::ErrorKind::PermissionDenied => Self::NotPermitted(error.to_string()),
            io::ErrorKind::StorageFull => Self::Disk(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// Who opens the store, and so what may be done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// The gateway: migrates an older schema.
    Run,
    /// The command line beside it: leaves the schema alone.
    Command,
}

/// Where the store lies. Connections are opened from it, one for each thread that needs one.
#[derive(Clone, Debug)]
pub struct Store {
    path: PathBuf,
    /// Device and inode of the file that was opened.
    file: (u64, u64),
}

impl Store {
    /// Is there a store at `path`? A file that was created but never filled does not count.
    pub fn exists(path: &Path) -> Result<bool, StoreError> {
        match std::fs::metadata(path) {
            Ok(metadata) => Ok(metadata.len() > 0),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Creates the store with a mark on everybody: nothing minted before it is trusted. Harmless when two
    /// processes do it at once.
    pub fn create(path: &Path, now: UnixTime) -> Result<Self, StoreError> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        let store = Self { path: path.to_owned(), file: identity(&file.metadata()?) };
        drop(file);
        let mut connection = store.connect()?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if schema_of(&transaction)? == 0 {
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            migrate(&transaction, 0)?;
            let number = next_number(&transaction)?;
            set_mark(&transaction, &Subject::Everybody, number, now, false)?;
            transaction.commit()?;
        }
        // The name of a new file is durable only once its folder is.
        if let Some(folder) = path.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(store)
    }

    /// Opens an existing store and checks that it is one.
    pub fn open(path: &Path, opening: Opening) -> Result<Self, StoreError> {
        if !Self::exists(path)? {
            return Err(StoreError::Missing);
        }
        // SQLite would say only that it cannot open the file; this says why.
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let store = Self { path: path.to_owned(), file: identity(&file.metadata()?) };
        drop(file);
        // Looked at before anything is set: what is not ours stays as it is.
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let reader = Connection::open_with_flags(path, flags)?;
        let application: i32 = reader.query_row("PRAGMA application_id", [], |row| row.get(0))?;
        let is_blank = "SELECT NOT EXISTS (SELECT 1 FROM sqlite_master)";
        if application == 0 && reader.query_row(is_blank, [], |row| row.get(0))? {
            // A creation that did not come far, on a full disk for instance.
            return Err(StoreError::Missing);
        }
        drop(reader);
        if application != APPLICATION_ID {
            let detail = format!("its application id is {application:#x}");
            return Err(StoreError::NotAStore(detail));
        }
        let mut connection = store.connect()?;
        match schema_of(&connection)? {
            SCHEMA => {}
            found if found > SCHEMA => return Err(StoreError::Newer { found }),
            found if opening == Opening::Command => return Err(StoreError::Older { found }),
            _ => {
                let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                let found = schema_of(&transaction)?;
                migrate(&transaction, found)?;
                transaction.commit()?;
            }
        }
        if opening == Opening::Run {
            quick_check(&connection)?;
        }
        Ok(store)
    }

    /// A new connection with the settings that durability needs.
    pub fn connect(&self) -> Result<Connection, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
        if mode != "wal" {
            return Err(StoreError::Failed(format!("journal mode is {mode}, not wal")));
        }
        connection.pragma_update(None, "synchronous", "FULL")?;
        Ok(connection)
    }

    /// Is the file still the one that was opened? A connection would not notice.
    pub fn check_in_place(&self) -> Result<(), StoreError> {
        match std::fs::metadata(&self.path) {
            Ok(metadata) if identity(&metadata) == self.file => Ok(()),
            Ok(_) => Err(StoreError::Replaced),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(StoreError::Replaced),
            Err(error) => Err(error.into()),
        }
    }

    /// Runs `change` as one transaction on a connection of its own: for the command line.
    pub fn transact<T>(
        &self,
        change: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut connection = self.connect()?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let value = change(&transaction)?;
        transaction.commit()?;
        Ok(value)
    }
}

/// Reads all that the gate needs, as of one moment.
pub fn load(connection: &mut Connection) -> Result<Standing, StoreError> {
    let mut standing = Standing::default();
    read_changes(connection, 0, &mut standing)?;
    Ok(standing)
}

/// Reads all that changed after transaction `after` into `standing`, as of one moment.
pub fn read_changes(
    connection: &mut Connection,
    after: u64,
    standing: &mut Standing,
) -> Result<(), StoreError> {
    let snapshot = connection.transaction()?;
    let mut marks =
        snapshot.prepare_cached("SELECT kind, name, number, second, closed FROM marks WHERE number > ?1")?;
    for row in marks.query_map([after], mark_of)? {
        let (subject, mark) = row?.ok_or_else(unknown_kind)?;
        standing.raise(subject, mark);
    }
    // A whole table is read in its own order, which is far quicker than in another.
    let (tokens, keys) = if after == 0 {
        ("SELECT token_id, keep, dated FROM revoked_tokens WHERE ?1 = 0", "?1 = 0")
    } else {
        ("SELECT token_id, keep, dated FROM revoked_tokens WHERE number > ?1", "number > ?1")
    };
    let mut tokens = snapshot.prepare_cached(tokens)?;
    let mut portion = Vec::with_capacity(PORTION);
    for token in tokens.query_map([after], revoked_token_of)? {
        portion.push(token?);
        if portion.len() == PORTION {
            standing.revoke_tokens(portion.drain(..));
        }
    }
    standing.revoke_tokens(portion);
    let keys = format!("SELECT fingerprint FROM keys WHERE revoked_at IS NOT NULL AND {keys}");
    let mut keys = snapshot.prepare_cached(&keys)?;
    for key in keys.query_map([after], |row| row.get(0))? {
        standing.revoke_key(Fingerprint(key?));
    }
    // After the marks: a closed one makes its user unknown, and a disabled user's row says what it is.
    let mut users = snapshot.prepare_cached("SELECT name, disabled FROM users WHERE number > ?1")?;
    for row in users.query_map([after], |row| Ok((row.get::<_, Box<str>>(0)?, row.get(1)?)))? {
        let (name, disabled) = row?;
        standing.know(name, if disabled { Account::Disabled } else { Account::Enabled });
    }
    let mut latest = snapshot.prepare_cached("SELECT coalesce(max(at), 0) FROM audit")?;
    standing.saw(UnixTime(latest.query_row([], |row| row.get(0))?));
    standing.reached(current_number(&snapshot)?);
    Ok(())
}

/// The latest second that the store knows of: time was there once, whatever the clock says now.
pub fn high_water(connection: &Connection) -> Result<UnixTime, StoreError> {
    let latest = "SELECT max((SELECT coalesce(max(second), 0) FROM marks),
                             (SELECT coalesce(max(at), 0) FROM audit))";
    Ok(UnixTime(connection.query_row(latest, [], |row| row.get(0))?))
}

/// The number of the last transaction.
pub fn current_number(connection: &Connection) -> Result<u64, StoreError> {
    let mut statement = connection.prepare_cached("SELECT number FROM sequence")?;
    Ok(statement.query_row([], |row| row.get(0))?)
}

/// That number, and the one that somebody waits for.
pub(super) fn current_and_wanted(connection: &Connection) -> Result<(u64, u64), StoreError> {
    let mut statement = connection.prepare_cached("SELECT number, wanted FROM sequence")?;
    Ok(statement.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?)
}

/// Takes the next number for the running transaction.
pub(super) fn next_number(connection: &Connection) -> Result<u64, StoreError> {
    let mut statement =
        connection.prepare_cached("UPDATE sequence SET number = number + 1 RETURNING number")?;
    Ok(statement.query_row([], |row| row.get(0))?)
}

/// Sets a mark; its second never goes back.
pub(super) fn set_mark(
    connection: &Connection,
    subject: &Subject,
    number: u64,
    now: UnixTime,
    closed: bool,
) -> Result<(), StoreError> {
    let (kind, name) = row_of(subject);
    let mut statement = connection.prepare_cached(
        "INSERT INTO marks (kind, name, number, second, closed) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (kind, name) DO UPDATE SET
           number = excluded.number, second = max(second, excluded.second), closed = excluded.closed",
    )?;
    statement.execute((kind, name, number, now.0, closed))?;
    Ok(())
}

/// The marks that concern a user of an organization.
pub(super) fn marks_on(
    connection: &Connection,
    user: &str,
    organization: &str,
) -> Result<Vec<(Subject, Mark)>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT kind, name, number, second, closed FROM marks
         WHERE (kind, name) IN (VALUES ('everybody', ''), ('user', ?1), ('organization', ?2))",
    )?;
    let rows = statement.query_map([user, organization], mark_of)?;
    rows.map(|row| row?.ok_or_else(unknown_kind)).collect()
}

/// `None` for a kind of mark that this program does not know.
fn mark_of(row: &Row<'_>) -> rusqlite::Result<Option<(Subject, Mark)>> {
    let kind: String = row.get(0)?;
    let name: Box<str> = row.get(1)?;
    let subject = match kind.as_str() {
        "everybody" => Subject::Everybody,
        "user" => Subject::User(name),
        "organization" => Subject::Organization(name),
        _ => return Ok(None),
    };
    let mark = Mark { number: row.get(2)?, second: UnixTime(row.get(3)?), closed: row.get(4)? };
    Ok(Some((subject, mark)))
}

fn unknown_kind() -> StoreError {
    StoreError::NotAStore("unknown kind of mark".into())
}

fn row_of(subject: &Subject) -> (&'static str, &str) {
    match subject {
        Subject::Everybody => ("everybody", ""),
        Subject::User(name) => ("user", name),
        Subject::Organization(name) => ("organization", name),
    }
}

fn identity(metadata: &std::fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn schema_of(connection: &Connection) -> Result<u32, StoreError> {
    Ok(connection.query_row("PRAGMA user_version", [], |row| row.get(0))?)
}

fn migrate(connection: &Connection, found: u32) -> Result<(), StoreError> {
    for (version, script) in (1..).zip(MIGRATIONS).skip_while(|(version, _)| *version <= found) {
        connection.execute_batch(script)?;
        connection.pragma_update(None, "user_version", version)?;
    }
    Ok(())
}

fn quick_check(connection: &Connection) -> Result<(), StoreError> {
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict == "ok" { Ok(()) } else { Err(StoreError::NotAStore(verdict.replace('\n', "; "))) }
}

/// `DSGW`, so that `file` and we can tell the store from any other SQLite file.
const APPLICATION_ID: i32 = i32::from_be_bytes(*b"DSGW");

/// Revoked tokens that are taken in at once.
const PORTION: usize = 1 << 16;

/// How long a writer waits for another process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// The schema that this program reads and writes.
const SCHEMA: u32 = 1;

/// One script a schema version, in order; a released one is never changed.
const MIGRATIONS: [&str; SCHEMA as usize] = [include_str!("schema/1.sql")];

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn a_new_store_begins_with_a_mark_on_everybody() {
        let folder = folder();
        let store = Store::create(&folder.path().join("s.db"), UnixTime(1000)).unwrap();
        let standing = load(&mut store.connect().unwrap()).unwrap();
        assert_eq!(standing.number(), 1);
        let first = Mark { number: 1, second: UnixTime(1000), closed: false };
        assert_eq!(marks_on(&store.connect().unwrap(), "x", "y"), Ok(vec![(Subject::Everybody, first)]));
        // Creating again changes nothing.
        Store::create(&folder.path().join("s.db"), UnixTime(2000)).unwrap();
        assert_eq!(marks_on(&store.connect().unwrap(), "x", "y"), Ok(vec![(Subject::Everybody, first)]));
    }

    #[test]
    fn only_a_store_is_opened() {
        let folder = folder();
        let path = folder.path().join("s.db");
        let opened = |path: &Path| Store::open(path, Opening::Run).map(drop);
        assert_eq!(opened(&path), Err(StoreError::Missing));
        std::fs::write(&path, "").unwrap();
        assert_eq!(opened(&path), Err(StoreError::Missing));
        std::fs::write(&path, "not a database at all, but long enough to be looked at").unwrap();
        assert!(matches!(opened(&path), Err(StoreError::NotAStore(_))));
        std::fs::remove_file(&path).unwrap();
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
        assert!(matches!(opened(&path), Err(StoreError::NotAStore(_))));
    }

    #[test]
    fn a_newer_schema_is_left_alone() {
        let folder = folder();
        let path = folder.path().join("s.db");
        let store = Store::create(&path, UnixTime(0)).unwrap();
        store.connect().unwrap().pragma_update(None, "user_version", SCHEMA + 1).unwrap();
        let error = Store::open(&path, Opening::Run).unwrap_err();
        assert_eq!(error, StoreError::Newer { found: SCHEMA + 1 });
    }

    #[test]
    fn a_damaged_store_is_refused() {
        let folder = folder();
        let path = folder.path().join("s.db");
        Store::create(&path, UnixTime(0)).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        for byte in bytes.iter_mut().skip(4096).take(100) {
            *byte = 0xff;
        }
        std::fs::write(&path, bytes).unwrap();
        assert!(matches!(Store::open(&path, Opening::Run), Err(StoreError::NotAStore(_))));
    }

    #[test]
    fn a_file_that_was_replaced_is_noticed() {
        let folder = folder();
        let path = folder.path().join("s.db");
        let store = Store::create(&path, UnixTime(0)).unwrap();
        assert_eq!(store.check_in_place(), Ok(()));
        std::fs::rename(&path, folder.path().join("away.db")).unwrap();
        assert_eq!(store.check_in_place(), Err(StoreError::Replaced));
        Store::create(&path, UnixTime(0)).unwrap();
        assert_eq!(store.check_in_place(), Err(StoreError::Replaced));
        std::fs::rename(folder.path().join("away.db"), &path).unwrap();
        assert_eq!(store.check_in_place(), Ok(()));
    }

    #[test]
    fn a_change_that_fails_leaves_nothing_behind() {
        let folder = folder();
        let store = Store::create(&folder.path().join("s.db"), UnixTime(0)).unwrap();
        let outcome: Result<(), _> = store.transact(|connection| {
            next_number(connection)?;
            Err(StoreError::Busy)
        });
        assert_eq!(outcome, Err(StoreError::Busy));
        assert_eq!(current_number(&store.connect().unwrap()), Ok(1));
    }
}
