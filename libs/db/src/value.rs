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
    /// Binary data; out of PostgreSQL also whatever is none of the others (a date, an array, a time
    /// without end), in the form in which the server sends it.
    Bytes(Bytes),
    /// A UUID.
    Uuid(Uuid),
    /// A time, to the microsecond.
    Time(Timestamp),
    /// JSON text.
    Json(String),
}

/// A value that is borrowed from where it lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ValueRef<'a> {
    /// SQL `NULL`.
    Null,
    /// A truth value.
    Bool(bool),
    /// Any integer type.
    Int(i64),
    /// Any floating point type.
    Float(f64),
    /// Text.
    Text(&'a str),
    /// Binary data.
    Bytes(&'a [u8]),
    /// A UUID.
    Uuid(Uuid),
    /// A time in microseconds since 1970.
    Time(i64),
    /// JSON text.
    Json(&'a str),
}

impl Value {
    pub(crate) fn borrow(&self) -> ValueRef<'_> {
        match self {
            Self::Null => ValueRef::Null,
            Self::Bool(it) => ValueRef::Bool(*it),
            Self::Int(it) => ValueRef::Int(*it),
            Self::Float(it) => ValueRef::Float(*it),
            Self::Text(it) => ValueRef::Text(it),
            Self::Bytes(it) => ValueRef::Bytes(it),
            Self::Uuid(it) => ValueRef::Uuid(*it),
            Self::Time(it) => ValueRef::Time(it.as_microsecond()),
            Self::Json(it) => ValueRef::Json(it),
        }
    }
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

macro_rules! borrow {
    ($($kind:ty => |$it:ident| $value:expr),+ $(,)?) => {
        $(impl<'a> From<$kind> for ValueRef<'a> {
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

borrow! {
    bool => |it| Self::Bool(it),
    i64 => |it| Self::Int(it),
    u32 => |it| Self::Int(it.into()),
    u16 => |it| Self::Int(it.into()),
    usize => |it| Self::Int(i64::try_from(it).unwrap_or(i64::MAX)),
    u64 => |it| Self::Int(i64::try_from(it).unwrap_or(i64::MAX)),
    f64 => |it| Self::Float(it),
    &'a str => |it| Self::Text(it),
    &'a [u8] => |it| Self::Bytes(it),
    Uuid => |it| Self::Uuid(it),
    Timestamp => |it| Self::Time(it.as_microsecond()),
}

impl<'a, T: Into<ValueRef<'a>>> From<Option<T>> for ValueRef<'a> {
    fn from(it: Option<T>) -> Self {
        it.map_or(Self::Null, Into::into)
    }
}
