//! Rows for an [`Insert`](crate::Insert), cell after cell.
//!
//! Cells lie in pages of a fixed number, each with the texts and bytes of its cells: a row costs no
//! allocation of its own, and no buffer grows to the size of the batch.

use std::fmt;

use bytes::Bytes;
use uuid::Uuid;

use crate::ValueRef;

/// Cells of a page.
const PAGE: usize = 256;
/// Bytes of a cell without text on the wire, with its length; an id takes 16.
const CELL: usize = 12;

/// Rows, one after the other.
#[derive(Clone, Default)]
pub struct Rows {
    pages: Vec<Page>,
}

#[derive(Clone, Default)]
struct Page {
    cells: Vec<Cell>,
    buffer: Vec<u8>,
    shared: Vec<Bytes>,
}

/// A cell as it is encoded: text needs no second look at its characters then.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum RawRef<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Uuid(Uuid),
    /// Microseconds since 1970.
    Time(i64),
    /// UTF-8, JSON as well.
    Text(&'a [u8]),
    Bytes(&'a [u8]),
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
    /// Bytes that are kept where they were made.
    Shared(usize),
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

    /// Adds a cell of bytes without copying them.
    pub fn push_shared(&mut self, bytes: Bytes) -> &mut Self {
        let page = self.page();
        page.cells.push(Cell::Shared(page.shared.len()));
        page.shared.push(bytes);
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

    /// About how many bytes all cells take on the wire: their texts, and what stands around a cell.
    pub(crate) fn encoded_len(&self) -> usize {
        let texts = self.pages.iter().map(Page::text_len).sum::<usize>();
        texts + self.len() * CELL
    }

    /// The page that takes the next cell. A page has the room that the one before it needed: the
    /// rows of a batch are much alike.
    fn page(&mut self) -> &mut Page {
        if self.len().is_multiple_of(PAGE) {
            let next = self.pages.last().map(|full| Page {
                cells: Vec::with_capacity(PAGE),
                buffer: Vec::with_capacity(full.buffer.len() + full.buffer.len() / 8),
                shared: Vec::with_capacity(full.shared.len()),
            });
            self.pages.push(next.unwrap_or_default());
        }
        let last = self.pages.len() - 1;
        &mut self.pages[last]
    }

    pub(crate) fn get(&self, index: usize) -> ValueRef<'_> {
        self.pages
            .get(index / PAGE)
            .map_or(ValueRef::Null, |page| page.get(index % PAGE))
    }

    pub(crate) fn raw(&self, index: usize) -> RawRef<'_> {
        self.pages
            .get(index / PAGE)
            .map_or(RawRef::Null, |page| page.raw(index % PAGE))
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

    fn text_len(&self) -> usize {
        self.buffer.len() + self.shared.iter().map(Bytes::len).sum::<usize>()
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
            Some(Cell::Json(it)) => ValueRef::Json(self.text(*it)),
            _ => self.raw(index).into(),
        }
    }

    fn raw(&self, index: usize) -> RawRef<'_> {
        match self.cells.get(index) {
            None | Some(Cell::Null) => RawRef::Null,
            Some(Cell::Bool(it)) => RawRef::Bool(*it),
            Some(Cell::Int(it)) => RawRef::Int(*it),
            Some(Cell::Float(it)) => RawRef::Float(*it),
            Some(Cell::Uuid(it)) => RawRef::Uuid(*it),
            Some(Cell::Time(it)) => RawRef::Time(*it),
            Some(Cell::Text(it) | Cell::Json(it)) => RawRef::Text(self.slice(*it)),
            Some(Cell::Bytes(it)) => RawRef::Bytes(self.slice(*it)),
            Some(Cell::Shared(place)) => {
                RawRef::Bytes(self.shared.get(*place).map_or(&[], Bytes::as_ref))
            }
        }
    }

    fn slice(&self, span: Span) -> &[u8] {
        self.buffer.get(span.start..span.end).unwrap_or_default()
    }

    fn text(&self, span: Span) -> &str {
        utf8(self.slice(span))
    }
}

/// Only what was a `&str` is ever kept as text.
fn utf8(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

// === impl RawRef ===

impl<'a> From<RawRef<'a>> for ValueRef<'a> {
    fn from(it: RawRef<'a>) -> Self {
        match it {
            RawRef::Null => Self::Null,
            RawRef::Bool(it) => Self::Bool(it),
            RawRef::Int(it) => Self::Int(it),
            RawRef::Float(it) => Self::Float(it),
            RawRef::Uuid(it) => Self::Uuid(it),
            RawRef::Time(it) => Self::Time(it),
            RawRef::Text(it) => Self::Text(utf8(it)),
            RawRef::Bytes(it) => Self::Bytes(it),
        }
    }
}

impl<'a> From<ValueRef<'a>> for RawRef<'a> {
    fn from(it: ValueRef<'a>) -> Self {
        match it {
            ValueRef::Null => Self::Null,
            ValueRef::Bool(it) => Self::Bool(it),
            ValueRef::Int(it) => Self::Int(it),
            ValueRef::Float(it) => Self::Float(it),
            ValueRef::Uuid(it) => Self::Uuid(it),
            ValueRef::Time(it) => Self::Time(it),
            ValueRef::Text(it) | ValueRef::Json(it) => Self::Text(it.as_bytes()),
            ValueRef::Bytes(it) => Self::Bytes(it),
        }
    }
}

impl fmt::Debug for Rows {
    /// Values may be personal data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} cells", self.len())
    }
}
