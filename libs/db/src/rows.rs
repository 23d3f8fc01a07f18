//! Rows for an [`Insert`](crate::Insert), cell after cell.
//!
//! Texts and bytes of all rows lie in one buffer, so a row costs no allocation of its own.

use std::fmt;

use uuid::Uuid;

use crate::ValueRef;

/// Rows, one after the other.
#[derive(Clone, Default)]
pub struct Rows {
    cells: Vec<Cell>,
    buffer: Vec<u8>,
}

/// A value, or the end of its bytes in the buffer: they begin where those of the cell before end.
#[derive(Clone, Copy)]
enum Cell {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Uuid(Uuid),
    /// Microseconds since 1970.
    Time(i64),
    Text(Span),
    Json(Span),
    Bytes(Span),
}

#[derive(Clone, Copy)]
struct Span {
    start: usize,
    end: usize,
}

impl Rows {
    /// No rows, with room for `cells` cells and `bytes` bytes of text.
    pub fn with_capacity(cells: usize, bytes: usize) -> Self {
        Self {
            cells: Vec::with_capacity(cells),
            buffer: Vec::with_capacity(bytes),
        }
    }

    /// Adds the next cell.
    pub fn push<'a>(&mut self, value: impl Into<ValueRef<'a>>) -> &mut Self {
        let cell = match value.into() {
            ValueRef::Null => Cell::Null,
            ValueRef::Bool(it) => Cell::Bool(it),
            ValueRef::Int(it) => Cell::Int(it),
            ValueRef::Float(it) => Cell::Float(it),
            ValueRef::Uuid(it) => Cell::Uuid(it),
            ValueRef::Time(it) => Cell::Time(it),
            ValueRef::Text(it) => Cell::Text(self.keep(it.as_bytes())),
            ValueRef::Json(it) => Cell::Json(self.keep(it.as_bytes())),
            ValueRef::Bytes(it) => Cell::Bytes(self.keep(it)),
        };
        self.cells.push(cell);
        self
    }

    /// Adds a cell of JSON text, or `NULL`.
    pub fn push_json(&mut self, text: Option<&str>) -> &mut Self {
        self.push(text.map_or(ValueRef::Null, ValueRef::Json))
    }

    /// Cells, not rows.
    pub fn len(&self) -> usize {
        self.cells.len()
    }

    /// True when there is no cell.
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    fn keep(&mut self, bytes: &[u8]) -> Span {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(bytes);
        Span {
            start,
            end: self.buffer.len(),
        }
    }

    /// The bytes of all texts.
    pub(crate) fn bytes(&self) -> usize {
        self.buffer.len()
    }

    pub(crate) fn get(&self, index: usize) -> ValueRef<'_> {
        match self.cells.get(index) {
            None | Some(Cell::Null) => ValueRef::Null,
            Some(Cell::Bool(it)) => ValueRef::Bool(*it),
            Some(Cell::Int(it)) => ValueRef::Int(*it),
            Some(Cell::Float(it)) => ValueRef::Float(*it),
            Some(Cell::Uuid(it)) => ValueRef::Uuid(*it),
            Some(Cell::Time(it)) => ValueRef::Time(*it),
            Some(Cell::Text(it)) => ValueRef::Text(self.text(*it)),
            Some(Cell::Json(it)) => ValueRef::Json(self.text(*it)),
            Some(Cell::Bytes(it)) => ValueRef::Bytes(self.slice(*it)),
        }
    }

    fn slice(&self, span: Span) -> &[u8] {
        self.buffer.get(span.start..span.end).unwrap_or_default()
    }

    fn text(&self, span: Span) -> &str {
        std::str::from_utf8(self.slice(span)).unwrap_or_default()
    }
}

impl fmt::Debug for Rows {
    /// Values may be personal data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cells", self.cells.len())
    }
}
