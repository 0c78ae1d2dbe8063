//! A connection to a database, as statements see it.

use super::value::{Parameters, Row, Value};
use crate::store::error::StoreError;

/// Takes the rows that are found, one after the other.
pub(in crate::store) type EachRow<'e> = &'e mut dyn FnMut(&Row<'_>) -> Result<(), StoreError>;

/// What an engine does with a statement.
pub(in crate::store) trait Statements {
    /// Runs a query and hands each row to `each`; an error from there ends it.
    fn query(&self, statement: &str, parameters: &[Value<'_>], each: EachRow<'_>) -> Result<(), StoreError>;

    /// Runs a change; says how many rows it was about.
    fn change(&self, statement: &str, parameters: &[Value<'_>]) -> Result<usize, StoreError>;

    /// Runs a change of which nobody needs to know how many rows it was about: it is made before whatever is asked next, and an error of it
    /// may be that of the next statement or of the commit.
    fn write(&self, statement: &str, parameters: &[Value<'_>]) -> Result<(), StoreError> {
        self.change(statement, parameters).map(drop)
    }
}

/// A connection to a database, inside a transaction or a connection.
#[derive(Clone, Copy)]
pub struct Connection<'c>(pub(in crate::store) &'c dyn Statements);

impl<'c> Connection<'c> {
    /// The one row that a query finds.
    pub(in crate::store) fn one<T>(
        self,
        statement: &str,
        parameters: impl Parameters,
        read: impl FnMut(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let found = self.find(statement, parameters, read)?;
        found.ok_or_else(|| StoreError::Damaged("a row that is always there is missing".into()))
    }

    /// The row that a query finds, if it does.
    pub(in crate::store) fn find<T>(
        self,
        statement: &str,
        parameters: impl Parameters,
        mut read: impl FnMut(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        let mut found = None;
        self.each(statement, parameters, |row| {
            if found.is_none() {
                found = Some(read(row)?);
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// All rows that a query finds.
    pub(in crate::store) fn all<T>(
        self,
        statement: &str,
        parameters: impl Parameters,
        mut read: impl FnMut(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let mut found = Vec::new();
        self.each(statement, parameters, |row| {
            found.push(read(row)?);
            Ok(())
        })?;
        Ok(found)
    }

    /// Hands each row that a query finds to `each`.
    pub(in crate::store) fn each(
        self,
        statement: &str,
        parameters: impl Parameters,
        mut each: impl FnMut(&Row<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.0.query(statement, &parameters.values(), &mut each)
    }

    /// Changes rows; says how many it were.
    pub(in crate::store) fn change(
        self,
        statement: &str,
        parameters: impl Parameters,
    ) -> Result<usize, StoreError> {
        self.0.change(statement, &parameters.values())
    }

    /// Changes rows, however many.
    pub(in crate::store) fn write(
        self,
        statement: &str,
        parameters: impl Parameters,
    ) -> Result<(), StoreError> {
        self.0.write(statement, &parameters.values())
    }
}
