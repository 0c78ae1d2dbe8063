//! What goes into a statement and comes out of a row.

use crate::store::error::StoreError;

/// A value of a column or a parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::store) enum Value<'v> {
    /// None.
    Null,
    /// A number.
    Integer(i64),
    /// A number that is too large for a column.
    TooLarge(u64),
    /// A truth value; SQLite keeps 0 or 1.
    Boolean(bool),
    /// A text.
    Text(&'v str),
    /// Bytes.
    Bytes(&'v [u8]),
}

/// Anything that can be a parameter.
pub(in crate::store) trait ToValue {
    /// As a value.
    fn to_value(&self) -> Value<'_>;
}

/// Anything that can be read from a column.
pub(in crate::store) trait FromValue: Sized {
    /// From its value; `None` if it is of another kind or out of range.
    fn from_value(value: Value<'_>) -> Option<Self>;
}

impl<T: ToValue + ?Sized> ToValue for &T {
    fn to_value(&self) -> Value<'_> {
        (**self).to_value()
    }
}

impl<T: ToValue> ToValue for Option<T> {
    fn to_value(&self) -> Value<'_> {
        self.as_ref().map_or(Value::Null, ToValue::to_value)
    }
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Null => Some(None),
            value => T::from_value(value).map(Some),
        }
    }
}

impl ToValue for str {
    fn to_value(&self) -> Value<'_> {
        Value::Text(self)
    }
}

impl ToValue for String {
    fn to_value(&self) -> Value<'_> {
        Value::Text(self)
    }
}

impl ToValue for Box<str> {
    fn to_value(&self) -> Value<'_> {
        Value::Text(self)
    }
}

impl FromValue for String {
    fn from_value(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Text(text) => Some(text.to_owned()),
            _ => None,
        }
    }
}

impl FromValue for Box<str> {
    fn from_value(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Text(text) => Some(text.into()),
            _ => None,
        }
    }
}

impl<const N: usize> ToValue for [u8; N] {
    fn to_value(&self) -> Value<'_> {
        Value::Bytes(self)
    }
}

impl<const N: usize> FromValue for [u8; N] {
    fn from_value(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Bytes(bytes) => bytes.try_into().ok(),
            _ => None,
        }
    }
}

impl ToValue for bool {
    fn to_value(&self) -> Value<'_> {
        Value::Boolean(*self)
    }
}

impl FromValue for bool {
    fn from_value(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Boolean(is) => Some(is),
            Value::Integer(number) => Some(number != 0),
            _ => None,
        }
    }
}

macro_rules! integers {
    ($($integer:ty),*) => {$(
        impl ToValue for $integer {
            fn to_value(&self) -> Value<'_> {
                i64::try_from(*self).map_or_else(|_| Value::TooLarge(*self as u64), Value::Integer)
            }
        }

        impl FromValue for $integer {
            fn from_value(value: Value<'_>) -> Option<Self> {
                match value {
                    Value::Integer(number) => number.try_into().ok(),
                    _ => None,
                }
            }
        }
    )*};
}

integers!(i64, u32, u64, usize);

/// The parameters of a statement, in their order: an array of one kind, or a tuple.
pub(in crate::store) trait Parameters {
    /// As values.
    fn values(&self) -> Vec<Value<'_>>;
}

impl<T: ToValue, const N: usize> Parameters for [T; N] {
    fn values(&self) -> Vec<Value<'_>> {
        self.iter().map(ToValue::to_value).collect()
    }
}

impl Parameters for () {
    fn values(&self) -> Vec<Value<'_>> {
        Vec::new()
    }
}

macro_rules! tuples {
    ($($name:ident)*) => {
        impl<$($name: ToValue),*> Parameters for ($($name,)*) {
            fn values(&self) -> Vec<Value<'_>> {
                #[allow(non_snake_case)]
                let ($($name,)*) = self;
                vec![$($name.to_value()),*]
            }
        }
    };
}

tuples!(A);
tuples!(A B);
tuples!(A B C);
tuples!(A B C D);
tuples!(A B C D E);
tuples!(A B C D E F);
tuples!(A B C D E F G);
tuples!(A B C D E F G H);
tuples!(A B C D E F G H I);
tuples!(A B C D E F G H I J);
tuples!(A B C D E F G H I J K);
tuples!(A B C D E F G H I J K L);
tuples!(A B C D E F G H I J K L M);
tuples!(A B C D E F G H I J K L M N);

/// A row that was found.
pub(in crate::store) struct Row<'r>(pub(in crate::store) &'r dyn Columns);

/// The columns of a row, as an engine has them.
pub(in crate::store) trait Columns {
    /// The value of one of them, from 0; `None` if there is none, or it is of a kind that no statement of ours asks for.
    fn column(&self, index: usize) -> Option<Value<'_>>;
}

impl Row<'_> {
    /// What a column holds.
    ///
    /// # Errors
    ///
    /// The column holds something else: a row that no program of ours has written.
    pub(in crate::store) fn get<T: FromValue>(&self, index: usize) -> Result<T, StoreError> {
        self.0
            .column(index)
            .and_then(T::from_value)
            .ok_or_else(|| StoreError::Damaged(format!("column {index} of a row is not what it should be")))
    }

    /// The text of a column, as it lies there; empty where it holds something else.
    pub(in crate::store) fn text(&self, index: usize) -> &str {
        match self.0.column(index) {
            Some(Value::Text(text)) => text,
            _ => "",
        }
    }
}
