//! Where a store is copied to.

use super::outcome::CopyError;
use crate::config::StorePlace;
use crate::store::error::StoreError;
use crate::store::postgres::copy::PostgresTarget;
use crate::store::sql::connection::Connection;
use crate::store::sqlite::copy::SqliteTarget;

/// A place of one of the engines.
pub(super) enum Target {
    Sqlite(SqliteTarget),
    Postgres(Box<PostgresTarget>),
}

/// What an unfinished copy says of itself.
pub(super) struct Note {
    /// What is copied, as messages name it.
    pub(super) source: String,
    /// What state the source was in.
    pub(super) state: [u8; 32],
    /// Whether it may be equal to the source as far as it goes.
    pub(super) is_sound: bool,
}

impl Target {
    /// Opens the place; also what it says of an unfinished copy in it.
    pub(super) fn open(place: &StorePlace, is_store: bool) -> Result<(Self, Option<Note>), CopyError> {
        let opened = match place {
            StorePlace::Sqlite(path) => SqliteTarget::open(path, is_store)
                .map(|found| found.map(|(target, is_unfinished)| (Self::Sqlite(target), is_unfinished))),
            StorePlace::Postgres(settings) => PostgresTarget::open(settings).map(|found| {
                found.map(|(target, is_unfinished)| (Self::Postgres(Box::new(target)), is_unfinished))
            }),
        };
        let (target, is_unfinished) = opened.map_err(CopyError::Target)?.ok_or(CopyError::Occupied)?;
        let note = is_unfinished.then(|| target.note()).transpose().map_err(CopyError::Target)?;
        Ok((target, note))
    }

    /// Refuses a source for which this is no place.
    pub(super) fn check_place(&self, source: &Connection<'_>) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(target) => target.check_place(source),
            Self::Postgres(_) => Ok(()),
        }
    }

    pub(super) fn connection(&self) -> Connection<'_> {
        match self {
            Self::Sqlite(target) => target.connection(),
            Self::Postgres(target) => target.connection(),
        }
    }

    /// Writes in one transaction.
    pub(super) fn write(&self, write: impl FnOnce() -> Result<(), StoreError>) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(target) => target.begin(),
            Self::Postgres(target) => target.begin(),
        }?;
        // After an error the target is dropped, and with it what was begun.
        write()?;
        match self {
            Self::Sqlite(target) => target.commit(),
            Self::Postgres(target) => target.commit(),
        }
    }

    /// Makes the tables of an empty place, with that note.
    pub(super) fn begin(&self, note: &Note) -> Result<(), StoreError> {
        self.write(|| {
            match self {
                Self::Sqlite(target) => target.make_tables(),
                Self::Postgres(target) => target.make_tables(),
            }?;
            self.connection().write(
                "INSERT INTO ds_gateway_copy (source, state, sound) VALUES (?1, ?2, ?3)",
                (&note.source, note.state, note.is_sound),
            )
        })
    }

    /// Begins again from the first row.
    pub(super) fn begin_again(&self, note: &Note) -> Result<(), StoreError> {
        self.write(|| {
            match self {
                Self::Sqlite(target) => target.clear(),
                Self::Postgres(target) => target.clear(),
            }?;
            self.connection()
                .write("UPDATE ds_gateway_copy SET state = ?1, sound = ?2", (note.state, note.is_sound))
        })
    }

    /// Notes that it is not equal to the source: nothing of it is believed any more.
    pub(super) fn distrust(&self) -> Result<(), StoreError> {
        self.write(|| self.connection().write("UPDATE ds_gateway_copy SET sound = ?1", [false]))
    }

    fn note(&self) -> Result<Note, StoreError> {
        self.connection().one("SELECT source, state, sound FROM ds_gateway_copy", (), |row| {
            Ok(Note { source: row.get(0)?, state: row.get(1)?, is_sound: row.get(2)? })
        })
    }

    /// How many rows go with one statement, and what it says before the values of an id.
    pub(super) const fn inserting(&self) -> (usize, &'static str) {
        match self {
            Self::Sqlite(_) => (1, ""),
            // A statement takes a round trip's share of the server's time, whatever its rows.
            Self::Postgres(_) => (64, "OVERRIDING SYSTEM VALUE"),
        }
    }

    /// Makes a store of it, whose ids go on behind these.
    pub(super) fn finish(self, issued: &[(&str, i64)]) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(target) => target.finish(issued),
            Self::Postgres(target) => target.finish(issued),
        }
    }
}
