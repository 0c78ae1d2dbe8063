//! A SQLite file that a store is copied into. Until the copy is complete its application id is another one, so that nobody opens it as a
//! store.

use std::fs::File;
use std::path::{Path, PathBuf};

use rusqlite::Connection as Database;
use rusqlite::config::DbConfig;

use super::LOG_PAGES;
use super::connection::of;
use super::file::{
    APPLICATION_ID, Checkpoints, DatabaseFile, UNFINISHED_COPY_ID, check_application, migrate,
};
use crate::auth::time::UnixTime;
use crate::store::beside::latest_commit::{Commit, LatestCommit};
use crate::store::beside::{latest_commit, revoked_keys};
use crate::store::error::StoreError;
use crate::store::sql::connection::Connection;
use crate::store::sql::{keys, sequence, tables};

/// The file. Nobody else can use it until this is dropped.
pub(in crate::store) struct SqliteTarget {
    path: PathBuf,
    database: Database,
    /// Whether it will be opened where it lies, and not kept as a single file.
    is_store: bool,
}

/// The highest id that a store gave out in that table, whether or not its row is still there.
pub(in crate::store) fn issued_id(connection: &Connection<'_>, table: &str) -> Result<i64, StoreError> {
    let found =
        connection.find("SELECT seq FROM sqlite_sequence WHERE name = ?1", [table], |row| row.get(0))?;
    Ok(found.unwrap_or(0))
}

impl SqliteTarget {
    /// Opens the file, made where it is not there; whether an unfinished copy is in it. `None`: a store is in it.
    pub(in crate::store) fn open(path: &Path, is_store: bool) -> Result<Option<(Self, bool)>, StoreError> {
        let is_unfinished = match std::fs::metadata(path) {
            Ok(found) if found.len() > 0 => match check_application(path) {
                Ok(()) => return Ok(None),
                Err(StoreError::UnfinishedCopy(_)) => true,
                Err(StoreError::Missing) => false,
                Err(error) => return Err(error),
            },
            _ => false,
        };
        let database = DatabaseFile::made(path)?.with(Checkpoints::After(LOG_PAGES)).connect()?;
        // Counts are copied as they are.
        database.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
        // Two copies into one file would be in each other's way.
        let _: String = database.query_row("PRAGMA locking_mode = EXCLUSIVE", [], |row| row.get(0))?;
        database.execute_batch("BEGIN IMMEDIATE; COMMIT")?;
        Ok(Some((Self { path: path.to_owned(), database, is_store }, is_unfinished)))
    }

    /// What lies beside the place of the file must not know more than the store that is to be copied there: it would be refused afterwards.
    pub(in crate::store) fn check_place(&self, source: &Connection<'_>) -> Result<(), StoreError> {
        if !self.is_store {
            return Ok(());
        }
        let (known, found) = (latest_commit::read(&self.path)?.sequence, sequence::current(source)?);
        if found < known {
            return Err(StoreError::Rewound { found, known });
        }
        let revoked = keys::revoked(source)?;
        let noted = revoked_keys::read(&self.path)?;
        let forgotten =
            noted.iter().find(|key| !revoked.iter().any(|known| known.fingerprint == key.fingerprint));
        forgotten.map_or(Ok(()), |key| Err(StoreError::KeyForgotten(key.kid.clone())))
    }

    pub(in crate::store) fn connection(&self) -> Connection<'_> {
        of(&self.database)
    }

    pub(in crate::store) fn begin(&self) -> Result<(), StoreError> {
        Ok(self.database.execute_batch("BEGIN IMMEDIATE")?)
    }

    pub(in crate::store) fn commit(&self) -> Result<(), StoreError> {
        Ok(self.database.execute_batch("COMMIT")?)
    }

    /// Makes the tables, without rows, and the table that says what is copied; in the running transaction.
    pub(in crate::store) fn make_tables(&self) -> Result<(), StoreError> {
        self.database.pragma_update(None, "application_id", UNFINISHED_COPY_ID)?;
        migrate(&self.database, 0, UnixTime(0))?;
        self.clear()?;
        Ok(self.database.execute_batch(
            "CREATE TABLE ds_gateway_copy (source TEXT NOT NULL, state BLOB NOT NULL, sound INTEGER NOT NULL) STRICT",
        )?)
    }

    /// Empties the tables, in the running transaction.
    pub(in crate::store) fn clear(&self) -> Result<(), StoreError> {
        tables::all()
            .try_for_each(|table| self.connection().write(&format!("DELETE FROM {}", table.name), ()))
    }

    /// Makes a store of it, whose ids go on behind these.
    pub(in crate::store) fn finish(self, issued: &[(&str, i64)]) -> Result<(), StoreError> {
        let connection = self.connection();
        self.begin()?;
        for (table, id) in issued {
            connection.write("DELETE FROM sqlite_sequence WHERE name = ?1", [*table])?;
            connection.write("INSERT INTO sqlite_sequence (name, seq) VALUES (?1, ?2)", (*table, *id))?;
        }
        self.database.execute_batch("DROP TABLE ds_gateway_copy")?;
        self.database.pragma_update(None, "application_id", APPLICATION_ID)?;
        self.commit()?;
        let (last, revoked) = (sequence::current(&connection)?, keys::revoked(&connection)?);
        if self.is_store {
            LatestCommit::beside(&self.path).record(Commit { sequence: last, nonce: 0 });
            if !revoked.is_empty() {
                revoked_keys::add(&self.path, &revoked);
            }
        } else {
            // So that there is one file, whatever becomes of those beside it.
            let mode = "PRAGMA journal_mode = DELETE";
            let found: String = self.database.query_row(mode, [], |row| row.get(0))?;
            if found != "delete" {
                return Err(StoreError::Failed(format!("journal mode is {found}, not delete")));
            }
        }
        let Self { path, database, .. } = self;
        database.close().map_err(|(_, error)| error)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        Ok(File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_and_column_of_the_schema_is_copied() {
        let folder = tempfile::tempdir().unwrap();
        let database =
            DatabaseFile::create(&folder.path().join("s.db"), UnixTime(1)).unwrap().connect().unwrap();
        let sql = "SELECT master.name || '|' || (SELECT group_concat(name) FROM (SELECT name FROM pragma_table_info(master.name) ORDER BY name))
                   FROM sqlite_master AS master WHERE type = 'table' AND name NOT IN ('gateways', 'sqlite_sequence')";
        let mut found = of(&database).all(sql, (), |row| row.get::<String>(0)).unwrap();
        let mut copied: Vec<String> = tables::all().map(tables::Table::described).collect();
        found.sort();
        copied.sort();
        assert_eq!(found, copied);
    }
}
