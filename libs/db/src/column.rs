//! Many values of one column: how many rows travel in one statement.
//!
//! PostgreSQL takes each column as one array parameter (`unnest($1::uuid[], …)`); SQLite runs a
//! prepared statement once a row.

use bytes::Bytes;
use ratebox_kit::Timestamp;
use uuid::Uuid;

use crate::ValueRef;

/// The values of one column, top to bottom.
#[derive(Clone, Debug)]
pub enum Column {
    /// UUIDs.
    Uuid(Vec<Uuid>),
    /// Integers of any width.
    Int(Vec<i64>),
    /// Floating point numbers.
    Float(Vec<f64>),
    /// Truth values.
    Bool(Vec<bool>),
    /// Text.
    Text(Vec<String>),
    /// Text or `NULL`.
    MaybeText(Vec<Option<String>>),
    /// JSON text or `NULL`.
    Json(Vec<Option<String>>),
    /// Times.
    Time(Vec<Timestamp>),
    /// Times or `NULL`.
    MaybeTime(Vec<Option<Timestamp>>),
    /// Binary data.
    Bytes(Vec<Bytes>),
}

impl Column {
    /// Number of rows.
    pub fn len(&self) -> usize {
        match self {
            Self::Uuid(it) => it.len(),
            Self::Int(it) => it.len(),
            Self::Float(it) => it.len(),
            Self::Bool(it) => it.len(),
            Self::Text(it) => it.len(),
            Self::MaybeText(it) | Self::Json(it) => it.len(),
            Self::Time(it) => it.len(),
            Self::MaybeTime(it) => it.len(),
            Self::Bytes(it) => it.len(),
        }
    }

    /// True when there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value in row `row`; `Null` past its end.
    pub(crate) fn get(&self, row: usize) -> ValueRef<'_> {
        match self {
            Self::Uuid(it) => it.get(row).copied().into(),
            Self::Int(it) => it.get(row).copied().into(),
            Self::Float(it) => it.get(row).copied().into(),
            Self::Bool(it) => it.get(row).copied().into(),
            Self::Text(it) => it.get(row).map(String::as_str).into(),
            Self::MaybeText(it) => it.get(row).and_then(Option::as_deref).into(),
            Self::Json(it) => match it.get(row) {
                Some(Some(json)) => ValueRef::Json(json),
                _ => ValueRef::Null,
            },
            Self::Time(it) => it.get(row).copied().into(),
            Self::MaybeTime(it) => it.get(row).copied().flatten().into(),
            Self::Bytes(it) => it.get(row).map(AsRef::as_ref).into(),
        }
    }
}
