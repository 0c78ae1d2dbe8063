//! A database that a store is copied into. Until the copy is complete no schema is noted, so that nobody opens it as a store.

use super::connect::Purpose;
use super::database;
use super::session::Session;
use crate::config::PostgresSettings;
use crate::store::error::StoreError;
use crate::store::sql::connection::Connection;
use crate::store::sql::tables;

/// The database, with a connection that has its lock for copies.
pub(in crate::store) struct PostgresTarget(Session);

/// The highest id that a store gave out in that table, whether or not its row is still there.
pub(in crate::store) fn issued_id(connection: &Connection<'_>, table: &str) -> Result<i64, StoreError> {
    connection.one(
        &format!("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {table}_id_seq"),
        (),
        |row| row.get(0),
    )
}

/// Lets the running transaction wait for a copy that takes its time.
pub(in crate::store) fn be_patient(connection: &Connection<'_>) -> Result<(), StoreError> {
    connection.write("SET LOCAL idle_in_transaction_session_timeout = 0", ())
}

impl PostgresTarget {
    /// Connects to the database; whether an unfinished copy is in it. `None`: a store is in it.
    pub(in crate::store) fn open(settings: &PostgresSettings) -> Result<Option<(Self, bool)>, StoreError> {
        let session = Session::open(settings, Purpose::new("copy"), || {})?;
        let is_alone = "SELECT pg_try_advisory_lock(?1)";
        if !session.connection().one(is_alone, [LOCK], |row| row.get::<bool>(0))? {
            return Err(StoreError::Locked);
        }
        match database::check_schema(&session) {
            Err(StoreError::Missing) => Ok(Some((Self(session), false))),
            Err(StoreError::UnfinishedCopy(_)) => Ok(Some((Self(session), true))),
            Ok(_) | Err(StoreError::Older { .. } | StoreError::Newer { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(in crate::store) const fn connection(&self) -> Connection<'_> {
        self.0.connection()
    }

    /// Begins a transaction that excludes a gateway which would make a store there.
    pub(in crate::store) fn begin(&self) -> Result<(), StoreError> {
        self.0.begin("BEGIN");
        database::lock(&self.0)
    }

    pub(in crate::store) fn commit(&self) -> Result<(), StoreError> {
        self.0.finish("COMMIT")
    }

    /// Makes the tables, without rows, and the table that says what is copied; in the running transaction.
    pub(in crate::store) fn make_tables(&self) -> Result<(), StoreError> {
        // Also sends what was begun.
        match database::check_schema(&self.0) {
            Err(StoreError::Missing) => {}
            Err(error) => return Err(error),
            Ok(_) => return Err(StoreError::Locked),
        }
        database::make_tables(&self.0)?;
        self.clear()?;
        TRIGGERS.iter().try_for_each(|(table, trigger)| {
            self.0.batch(&format!("ALTER TABLE {table} DISABLE TRIGGER {trigger}"))
        })?;
        self.0.batch("CREATE TABLE ds_gateway_copy (source TEXT NOT NULL, state BYTEA NOT NULL, sound BOOLEAN NOT NULL)")
    }

    /// Empties the tables, in the running transaction.
    pub(in crate::store) fn clear(&self) -> Result<(), StoreError> {
        let names: Vec<&str> = tables::all().map(|table| table.name).collect();
        self.connection().write(&format!("TRUNCATE {}", names.join(", ")), ())
    }

    /// Makes a store of it, whose ids go on behind these.
    pub(in crate::store) fn finish(self, issued: &[(&str, i64)]) -> Result<(), StoreError> {
        self.begin()?;
        let connection = self.connection();
        for (table, id) in issued.iter().filter(|(_, id)| *id > 0) {
            let set = format!("SELECT setval('{table}_id_seq', ?1)");
            let _: i64 = connection.one(&set, [*id], |row| row.get(0))?;
        }
        for (table, trigger) in TRIGGERS {
            connection.write(&format!("ALTER TABLE {table} ENABLE TRIGGER {trigger}"), ())?;
        }
        connection.write("DROP TABLE ds_gateway_copy", ())?;
        database::note_schema(&connection)?;
        self.commit()?;
        // Plans are made for the rows that are there now. Without, they are made a minute later.
        _ = self.0.batch("ANALYZE");
        Ok(())
    }
}

/// What keeps counts exact, which are copied as they are.
const TRIGGERS: [(&str, &str); 3] = [
    ("revoked_tokens", "revoked_token_added"),
    ("revoked_tokens", "revoked_token_deleted"),
    ("audit", "audit_row_deleted"),
];

/// Of a copy into a database, beside the one of all who write.
const LOCK: i64 = 0x64_73_2d_67_77_00_02;
