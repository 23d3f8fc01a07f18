//! One value on its way into or out of a database.

use bytes::Bytes;
use ratebox_kit::Timestamp;
use uuid::Uuid;

/// A value of any type that both databases keep.
///
/// SQLite has fewer types: a UUID is kept as 16 bytes, a time as integer microseconds since 1970
/// (so that times compare as numbers), JSON as text, a boolean as 0 or 1.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// SQL `NULL`.
    Null,
    /// A truth value.
    Bool(bool),
    /// Any integer type.
    Int(i64),
    /// Any floating point type.
    Float(f64),
    /// Text.
    Text(String),
    /// Binary data.
    Bytes(Bytes),
    /// A UUID.
    Uuid(Uuid),
    /// A time, to the microsecond.
    Time(Timestamp),
    /// JSON text.
    Json(String),
}

macro_rules! from {
    ($($kind:ty => |$it:ident| $value:expr),+ $(,)?) => {
        $(impl From<$kind> for Value {
            fn from($it: $kind) -> Self {
                $value
            }
        })+
    };
}

from! {
    bool => |it| Self::Bool(it),
    i64 => |it| Self::Int(it),
    i32 => |it| Self::Int(it.into()),
    i16 => |it| Self::Int(it.into()),
    u32 => |it| Self::Int(it.into()),
    u16 => |it| Self::Int(it.into()),
    usize => |it| Self::Int(i64::try_from(it).unwrap_or(i64::MAX)),
    u64 => |it| Self::Int(i64::try_from(it).unwrap_or(i64::MAX)),
    f64 => |it| Self::Float(it),
    &str => |it| Self::Text(it.to_owned()),
    String => |it| Self::Text(it),
    Bytes => |it| Self::Bytes(it),
    Vec<u8> => |it| Self::Bytes(it.into()),
    Uuid => |it| Self::Uuid(it),
    Timestamp => |it| Self::Time(it),
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(it: Option<T>) -> Self {
        it.map_or(Self::Null, Into::into)
    }
}
