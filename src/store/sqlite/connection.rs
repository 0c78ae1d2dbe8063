//! The statements of the store on a connection to a SQLite file.

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection as Database, Row as DatabaseRow, Statement, ToSql};

use crate::store::error::StoreError;
use crate::store::sql::connection::{Connection, EachRow, Statements};
use crate::store::sql::value::{Columns, Row, Value};

/// A connection, as statements see it.
pub(super) const fn of(database: &Database) -> Connection<'_> {
    Connection(database)
}

impl Statements for Database {
    fn query(&self, statement: &str, parameters: &[Value<'_>], each: EachRow<'_>) -> Result<(), StoreError> {
        let mut statement = self.prepare_cached(statement)?;
        bind(&mut statement, parameters)?;
        let mut rows = statement.raw_query();
        while let Some(row) = rows.next()? {
            each(&Row(row))?;
        }
        Ok(())
    }

    fn change(&self, statement: &str, parameters: &[Value<'_>]) -> Result<usize, StoreError> {
        let mut statement = self.prepare_cached(statement)?;
        bind(&mut statement, parameters)?;
        Ok(statement.raw_execute()?)
    }
}

fn bind(statement: &mut Statement<'_>, parameters: &[Value<'_>]) -> Result<(), StoreError> {
    for (index, parameter) in (1..).zip(parameters) {
        statement.raw_bind_parameter(index, parameter)?;
    }
    Ok(())
}

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match *self {
            Self::Null => ValueRef::Null,
            Self::Integer(number) => ValueRef::Integer(number),
            Self::TooLarge(number) => {
                return i64::try_from(number)
                    .map(ToSqlOutput::from)
                    .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()));
            }
            Self::Boolean(is) => ValueRef::Integer(is.into()),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

impl Columns for DatabaseRow<'_> {
    fn column(&self, index: usize) -> Option<Value<'_>> {
        Some(match self.get_ref(index).ok()? {
            ValueRef::Null => Value::Null,
            ValueRef::Integer(number) => Value::Integer(number),
            ValueRef::Text(text) => Value::Text(std::str::from_utf8(text).ok()?),
            ValueRef::Blob(bytes) => Value::Bytes(bytes),
            ValueRef::Real(_) => return None,
        })
    }
}
