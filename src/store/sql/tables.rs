//! The tables of a store as a copy sees them: every row, whatever it means.
//!
//! Left out is `gateways`: those that run on the one store do not run on the other.

use super::connection::Connection;
use super::value::{Row, ToValue, Value};
use crate::store::error::StoreError;

/// A table, and the order in which it is read.
pub(in crate::store) struct Table {
    /// Its name.
    pub(in crate::store) name: &'static str,
    /// Its columns; those of the key come first.
    columns: &'static [(&'static str, Kind)],
    /// How many of them are the key.
    key: usize,
}

/// What a column holds.
#[derive(Clone, Copy)]
enum Kind {
    Integer,
    /// 0 or 1 in SQLite.
    Boolean,
    Text,
    Bytes,
}

use Kind::{Boolean, Bytes, Integer, Text};

/// All of them. The ids of `audit` and `user_changes` are given out by the database.
pub(in crate::store) const TABLES: [Table; 14] = [
    Table { name: "sequence", key: 1, columns: &[("id", Integer), ("number", Integer), ("wanted", Integer)] },
    Table {
        name: "clock",
        key: 1,
        columns: &[
            ("id", Integer),
            ("lived", Integer),
            ("floor", Integer),
            ("expired_below", Integer),
            ("forgettable", Integer),
            ("retention", Integer),
        ],
    },
    Table { name: "hours", key: 1, columns: &[("lived", Integer), ("number", Integer)] },
    Table {
        name: "keys",
        key: 1,
        columns: &[
            ("kid", Text),
            ("fingerprint", Bytes),
            ("recorded_at", Integer),
            ("revoked_at", Integer),
            ("number", Integer),
            ("signs_from", Integer),
            ("activation", Integer),
            ("ends_at", Integer),
        ],
    },
    Table {
        name: "marks",
        key: 2,
        columns: &[
            ("kind", Text),
            ("name", Text),
            ("number", Integer),
            ("second", Integer),
            ("closed", Boolean),
            ("lived", Integer),
            ("reason", Text),
        ],
    },
    Table {
        name: "users",
        key: 1,
        columns: &[
            ("name", Text),
            ("folded", Text),
            ("email", Text),
            ("organization", Text),
            ("phc", Text),
            ("disabled", Boolean),
            ("credential_version", Integer),
            ("created_at", Integer),
            ("updated_at", Integer),
            ("number", Integer),
            ("imported", Bytes),
            ("source", Text),
            ("remembered_at", Integer),
            ("remembered_number", Integer),
        ],
    },
    Table { name: "skeletons", key: 2, columns: &[("skeleton", Text), ("name", Text)] },
    Table {
        name: "known_sources",
        key: 2,
        columns: &[("\"user\"", Text), ("source", Text), ("lived", Integer)],
    },
    Table { name: "unlocks", key: 1, columns: &[("\"user\"", Text), ("count", Integer)] },
    Table {
        name: "user_changes",
        key: 1,
        columns: &[
            ("id", Integer),
            ("change", Integer),
            ("kind", Text),
            ("name", Text),
            ("begun_at", Integer),
        ],
    },
    Table {
        name: "revoked_tokens",
        key: 1,
        columns: &[
            ("token_id", Bytes),
            ("keep", Integer),
            ("dated", Boolean),
            ("\"user\"", Text),
            ("number", Integer),
            ("lived", Integer),
        ],
    },
    Table { name: "revocation_counts", key: 1, columns: &[("\"user\"", Text), ("tokens", Integer)] },
    Table {
        name: "audit",
        key: 1,
        columns: &[
            ("id", Integer),
            ("number", Integer),
            ("at", Integer),
            ("lived", Integer),
            ("actor", Text),
            ("action", Text),
            ("subject", Text),
            ("token_id", Text),
            ("origin", Text),
            ("count", Integer),
            ("claimed", Text),
            ("operator", Boolean),
            ("expires", Integer),
            ("kid", Text),
            ("changes", Text),
        ],
    },
    Table {
        name: "audit_shares",
        key: 3,
        columns: &[("operator", Boolean), ("actor", Text), ("action", Text), ("size", Integer)],
    },
];

/// Beside [`TABLES`]: how far the audit trail is counted, which is written last.
pub(in crate::store) const COUNTED: Table = Table {
    name: "audit_counted",
    key: 1,
    columns: &[("id", Integer), ("through", Integer), ("clients", Integer), ("operators", Integer)],
};

/// The tables whose ids the database gives out, none twice.
pub(in crate::store) const NUMBERED: [&str; 2] = ["audit", "user_changes"];

/// Every table that is copied, in the order in which it is.
pub(in crate::store) fn all() -> impl Iterator<Item = &'static Table> {
    TABLES.iter().chain(std::iter::once(&COUNTED))
}

/// A row of a table. It may hold a password's hash, so it cannot be shown.
#[derive(PartialEq, Eq)]
pub(in crate::store) struct Record(Vec<Owned>);

#[derive(Clone, PartialEq, Eq)]
enum Owned {
    Null,
    Integer(i64),
    Boolean(bool),
    Text(Box<str>),
    Bytes(Box<[u8]>),
}

impl ToValue for Owned {
    fn to_value(&self) -> Value<'_> {
        match self {
            Self::Null => Value::Null,
            Self::Integer(number) => Value::Integer(*number),
            Self::Boolean(is) => Value::Boolean(*is),
            Self::Text(text) => Value::Text(text),
            Self::Bytes(bytes) => Value::Bytes(bytes),
        }
    }
}

impl Record {
    /// The values that follow one another, each as bytes that no other value has.
    pub(in crate::store) fn feed(&self, mut take: impl FnMut(&[u8])) {
        for value in &self.0 {
            match value {
                Owned::Null => take(&[0]),
                Owned::Integer(number) => {
                    take(&[1]);
                    take(&number.to_be_bytes());
                }
                Owned::Boolean(is) => take(&[2, u8::from(*is)]),
                Owned::Text(text) => {
                    take(&[3]);
                    take(&(text.len() as u64).to_be_bytes());
                    take(text.as_bytes());
                }
                Owned::Bytes(bytes) => {
                    take(&[4]);
                    take(&(bytes.len() as u64).to_be_bytes());
                    take(bytes);
                }
            }
        }
    }
}

impl Table {
    /// Its columns, as a statement names them.
    fn list(&self) -> String {
        let names: Vec<&str> = self.columns.iter().map(|(name, _)| *name).collect();
        names.join(", ")
    }

    fn key_list(&self) -> String {
        let names: Vec<&str> = self.columns.iter().take(self.key).map(|(name, _)| *name).collect();
        names.join(", ")
    }

    /// `TABLE|COLUMN,COLUMN`, the columns in the order of their names.
    #[cfg(test)]
    pub(in crate::store) fn described(&self) -> String {
        let mut columns: Vec<&str> = self.columns.iter().map(|(name, _)| name.trim_matches('"')).collect();
        columns.sort_unstable();
        format!("{}|{}", self.name, columns.join(","))
    }

    /// How many rows it has.
    pub(in crate::store) fn count(&self, connection: &Connection<'_>) -> Result<u64, StoreError> {
        connection.one(&format!("SELECT count(*) FROM {}", self.name), (), |row| row.get(0))
    }

    /// At most `limit` rows behind that one, in the order of the key.
    pub(in crate::store) fn page(
        &self,
        connection: &Connection<'_>,
        after: Option<&Record>,
        limit: usize,
    ) -> Result<Vec<Record>, StoreError> {
        let (list, name, key) = (self.list(), self.name, self.key_list());
        let mut values: Vec<Value<'_>> =
            after.iter().flat_map(|record| record.0.iter().take(self.key)).map(ToValue::to_value).collect();
        let behind = if values.is_empty() {
            String::new()
        } else {
            format!(" WHERE ({key}) > ({})", numbered(1, self.key))
        };
        let limit = limit as u64;
        values.push(limit.to_value());
        let statement = format!("SELECT {list} FROM {name}{behind} ORDER BY {key} LIMIT ?{}", values.len());
        let mut found = Vec::new();
        connection.0.query(&statement, &values, &mut |row| {
            found.push(self.record(row)?);
            Ok(())
        })?;
        Ok(found)
    }

    /// The last row in the order of the key.
    pub(in crate::store) fn last(&self, connection: &Connection<'_>) -> Result<Option<Record>, StoreError> {
        let order: Vec<String> =
            self.columns.iter().take(self.key).map(|(name, _)| format!("{name} DESC")).collect();
        let statement =
            format!("SELECT {} FROM {} ORDER BY {} LIMIT 1", self.list(), self.name, order.join(", "));
        connection.find(&statement, (), |row| self.record(row))
    }

    fn record(&self, row: &Row<'_>) -> Result<Record, StoreError> {
        let value = |(index, (name, kind)): (usize, &(&str, Kind))| {
            let value = match (row.0.column(index), kind) {
                (Some(Value::Null), _) => Some(Owned::Null),
                (Some(Value::Integer(number)), Integer) => Some(Owned::Integer(number)),
                (Some(Value::Integer(number @ (0 | 1))), Boolean) => Some(Owned::Boolean(number == 1)),
                (Some(Value::Boolean(is)), Boolean) => Some(Owned::Boolean(is)),
                // A text of PostgreSQL has no byte 0: both sides have what it is written as there.
                (Some(Value::Text(text)), Text) if text.contains('\0') => {
                    Some(Owned::Text(text.replace('\0', "\u{fffd}").into()))
                }
                (Some(Value::Text(text)), Text) => Some(Owned::Text(text.into())),
                (Some(Value::Bytes(bytes)), Bytes) => Some(Owned::Bytes(bytes.into())),
                _ => None,
            };
            value.ok_or_else(|| {
                StoreError::Damaged(format!("a row of {} has another kind of value in {name}", self.name))
            })
        };
        self.columns.iter().enumerate().map(value).collect::<Result<_, _>>().map(Record)
    }

    /// Writes rows as they are, so many with each statement. `overriding` is what the engine wants said before the values of an id that it
    /// gives out itself.
    pub(in crate::store) fn insert(
        &self,
        connection: &Connection<'_>,
        records: &[Record],
        together: usize,
        overriding: &str,
    ) -> Result<(), StoreError> {
        let overriding = if NUMBERED.contains(&self.name) { overriding } else { "" };
        let front = format!("INSERT INTO {} ({}) {overriding} VALUES ", self.name, self.list());
        let width = self.columns.len();
        let statement = |rows: usize| {
            let rows: Vec<String> =
                (0..rows).map(|row| format!("({})", numbered(1 + row * width, width))).collect();
            front.clone() + &rows.join(", ")
        };
        let write = |statement: &str, records: &[Record]| {
            let values: Vec<Value<'_>> =
                records.iter().flat_map(|record| &record.0).map(ToValue::to_value).collect();
            connection.0.write(statement, &values)
        };
        let (many, one) = (statement(together), statement(1));
        for records in records.chunks(together) {
            if records.len() == together {
                write(&many, records)?;
            } else {
                records.chunks(1).try_for_each(|record| write(&one, record))?;
            }
        }
        Ok(())
    }
}

/// `?3, ?4`: so many parameters from that one on.
fn numbered(first: usize, count: usize) -> String {
    let parameters: Vec<String> = (first..first + count).map(|number| format!("?{number}")).collect();
    parameters.join(", ")
}

/// The highest id of a table whose ids the database gives out, and that is there.
pub(in crate::store) fn highest_id(connection: &Connection<'_>, table: &str) -> Result<i64, StoreError> {
    connection.one(&format!("SELECT coalesce(max(id), 0) FROM {table}"), (), |row| row.get(0))
}
