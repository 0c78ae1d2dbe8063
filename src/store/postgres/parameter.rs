//! The store's values as the driver sends and receives them.

use std::error::Error;

use tokio_postgres::Row as DatabaseRow;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use crate::store::sql::value::{Columns, Value};

/// A parameter that outlives the statement's caller.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Parameter {
    Null,
    Integer(i64),
    TooLarge(u64),
    Boolean(bool),
    Text(Box<str>),
    Bytes(Box<[u8]>),
}

/// Without the value, which may be a password's hash.
impl std::fmt::Debug for Parameter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Parameter")
    }
}

impl From<&Value<'_>> for Parameter {
    fn from(value: &Value<'_>) -> Self {
        match *value {
            Value::Null => Self::Null,
            Value::Integer(number) => Self::Integer(number),
            Value::TooLarge(number) => Self::TooLarge(number),
            Value::Boolean(is) => Self::Boolean(is),
            Value::Text(text) => Self::Text(text.into()),
            Value::Bytes(bytes) => Self::Bytes(bytes.into()),
        }
    }
}

impl ToSql for Parameter {
    fn to_sql(&self, of: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Integer(number) if *of == Type::INT4 => i32::try_from(*number)?.to_sql(of, out),
            Self::Integer(number) if *of == Type::INT8 => number.to_sql(of, out),
            Self::TooLarge(number) => i64::try_from(*number)?.to_sql(of, out),
            Self::Boolean(is) if *of == Type::BOOL => is.to_sql(of, out),
            // A text has no byte 0 there, unlike a text in SQLite: it is shown as what stands for what cannot be shown.
            Self::Text(text) if *of == Type::TEXT && text.contains('\0') => {
                text.replace('\0', "\u{fffd}").to_sql(of, out)
            }
            Self::Text(text) if *of == Type::TEXT => text.to_sql(of, out),
            Self::Bytes(bytes) if *of == Type::BYTEA => bytes.as_ref().to_sql(of, out),
            _ => Err(format!("a parameter is not of the type {of}").into()),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

impl Columns for DatabaseRow {
    fn column(&self, index: usize) -> Option<Value<'_>> {
        let of = self.columns().get(index)?.type_();
        let null = |value: Option<_>| Some(value.unwrap_or(Value::Null));
        match *of {
            Type::INT8 => null(self.try_get::<_, Option<i64>>(index).ok()?.map(Value::Integer)),
            Type::INT4 => {
                null(self.try_get::<_, Option<i32>>(index).ok()?.map(|number| Value::Integer(number.into())))
            }
            Type::BOOL => null(self.try_get::<_, Option<bool>>(index).ok()?.map(Value::Boolean)),
            Type::TEXT => null(self.try_get::<_, Option<&str>>(index).ok()?.map(Value::Text)),
            Type::BYTEA => null(self.try_get::<_, Option<&[u8]>>(index).ok()?.map(Value::Bytes)),
            _ => None,
        }
    }
}
