//! Rows for an [`Insert`](crate::Insert), cell after cell.
//!
//! Cells lie in pages of a fixed number, each with the texts and bytes of its cells: a row costs no
//! allocation of its own, and no buffer grows to the size of the batch.

use std::fmt;

use uuid::Uuid;

use crate::ValueRef;

/// Cells of a page.
const PAGE: usize = 256;

/// Rows, one after the other.
#[derive(Clone, Default)]
pub struct Rows {
    pages: Vec<Page>,
}

#[derive(Clone, Default)]
struct Page {
    cells: Vec<Cell>,
    buffer: Vec<u8>,
}

/// A value, or where its bytes are in the page's buffer.
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

// === impl Rows ===

impl Rows {
    /// Adds the next cell.
    pub fn push<'a>(&mut self, value: impl Into<ValueRef<'a>>) -> &mut Self {
        self.page().push(value.into());
        self
    }

    /// Adds a cell of JSON text, or `NULL`.
    pub fn push_json(&mut self, text: Option<&str>) -> &mut Self {
        self.push(text.map_or(ValueRef::Null, ValueRef::Json))
    }

    /// Adds a cell of bytes that are written straight into the buffer.
    pub fn push_bytes(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> &mut Self {
        let page = self.page();
        let start = page.buffer.len();
        write(&mut page.buffer);
        let end = page.buffer.len();
        page.cells.push(Cell::Bytes(Span { start, end }));
        self
    }

    /// Cells, not rows.
    pub fn len(&self) -> usize {
        let full = self.pages.len().saturating_sub(1) * PAGE;
        self.pages.last().map_or(0, |last| full + last.cells.len())
    }

    /// True when there is no cell.
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// The page that takes the next cell.
    fn page(&mut self) -> &mut Page {
        if self.len().is_multiple_of(PAGE) {
            self.pages.push(Page::default());
        }
        let last = self.pages.len() - 1;
        &mut self.pages[last]
    }

    pub(crate) fn get(&self, index: usize) -> ValueRef<'_> {
        self.pages
            .get(index / PAGE)
            .map_or(ValueRef::Null, |page| page.get(index % PAGE))
    }
}

// === impl Page ===

impl Page {
    fn push(&mut self, value: ValueRef<'_>) {
        let cell = match value {
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
    }

    fn keep(&mut self, bytes: &[u8]) -> Span {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(bytes);
        Span {
            start,
            end: self.buffer.len(),
        }
    }

    fn get(&self, index: usize) -> ValueRef<'_> {
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
        write!(f, "{} cells", self.len())
    }
}
