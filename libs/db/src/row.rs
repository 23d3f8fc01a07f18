//! One row of an answer.

use bytes::Bytes;
use ratebox_kit::Timestamp;
use uuid::Uuid;

use crate::{Error, Result, Value};

/// The values of a row, by position.
#[derive(Clone, Debug)]
pub struct Row(pub(crate) Vec<Value>);

impl Row {
    /// The value at `index`, as the type that the caller expects.
    ///
    /// # Errors
    /// [`Error::Column`] when there is no such column or it has another type.
    pub fn get<T: FromValue>(&self, index: usize) -> Result<T> {
        let value = self.0.get(index).ok_or(Error::Column { index })?;
        T::from_value(value).ok_or(Error::Column { index })
    }
}

/// Reads a value as a type; `None` when it is of another type.
pub trait FromValue: Sized {
    /// Reads the value.
    fn from_value(value: &Value) -> Option<Self>;
}

impl FromValue for i64 {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Int(it) => Some(*it),
            Value::Bool(it) => Some(i64::from(*it)),
            _ => None,
        }
    }
}

impl FromValue for u64 {
    fn from_value(value: &Value) -> Option<Self> {
        i64::from_value(value).and_then(|it| u64::try_from(it).ok())
    }
}

impl FromValue for u32 {
    fn from_value(value: &Value) -> Option<Self> {
        i64::from_value(value).and_then(|it| u32::try_from(it).ok())
    }
}

impl FromValue for bool {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Bool(it) => Some(*it),
            Value::Int(it) => Some(*it != 0),
            _ => None,
        }
    }
}

impl FromValue for f64 {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Float(it) => Some(*it),
            #[expect(
                clippy::cast_precision_loss,
                reason = "SQLite gives whole numbers as integers"
            )]
            Value::Int(it) => Some(*it as f64),
            _ => None,
        }
    }
}

impl FromValue for String {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Text(it) | Value::Json(it) => Some(it.clone()),
            _ => None,
        }
    }
}

impl FromValue for Bytes {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Bytes(it) => Some(it.clone()),
            _ => None,
        }
    }
}

impl FromValue for Uuid {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Uuid(it) => Some(*it),
            Value::Bytes(it) => Uuid::from_slice(it).ok(),
            _ => None,
        }
    }
}

impl FromValue for Timestamp {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Time(it) => Some(*it),
            Value::Int(us) => Timestamp::from_microsecond(*us).ok(),
            _ => None,
        }
    }
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::Null => Some(None),
            other => T::from_value(other).map(Some),
        }
    }
}
