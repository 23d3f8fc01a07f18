//! Rows for an [`Insert`], cell after cell.
//!
//! A cell is written as PostgreSQL reads it, and is not looked at again. Cells lie in pages of some
//! rows: a row costs no allocation of its own, and no buffer grows to the size of the batch. What all
//! rows have in common is kept once.

use std::fmt;

use crate::wire::{Cell, Misfit, Wire};
use crate::{Error, Insert, Result, Statement, ValueRef};

/// A page with so many bytes takes no more rows.
const PAGE: usize = 16 * 1024;

/// New rows of one table.
#[derive(Clone)]
pub struct Rows {
    insert: &'static Insert,
    pages: Vec<Page>,
    /// Rows that are complete.
    complete: usize,
    /// The column of the next cell, those in common left out.
    column: usize,
    /// Of the last columns, once for all rows.
    alike: Page,
    is_misfit: bool,
}

#[derive(Clone, Default)]
struct Page {
    /// Rows on the pages before it.
    rows_before: usize,
    bytes: Vec<u8>,
    /// Where each cell begins.
    starts: Vec<u32>,
}

// === impl Rows ===

impl Rows {
    pub(crate) fn new(insert: &'static Insert) -> Self {
        Self {
            insert,
            pages: Vec::new(),
            complete: 0,
            column: 0,
            alike: Page::default(),
            is_misfit: false,
        }
    }

    /// Adds the next cell; the columns that are [alike](Insert::alike) are left out.
    pub fn push<'a>(&mut self, value: impl Into<ValueRef<'a>>) -> &mut Self {
        if self.column == 0 {
            self.begin_row();
        }
        let wire = self.insert.wire(self.column);
        self.column += 1;
        if self.column == self.width() {
            (self.complete, self.column) = (self.complete + 1, 0);
        }
        if let Some(page) = self.pages.last_mut() {
            self.is_misfit |= page.push(wire, value.into()).is_err();
        }
        self
    }

    fn begin_row(&mut self) {
        let rows_before = self.complete;
        let next = match self.pages.last() {
            Some(page) if page.bytes.len() < PAGE => return,
            Some(full) => full.next(),
            None => Page::default(),
        };
        self.pages.push(Page {
            rows_before,
            ..next
        });
    }

    /// Adds a cell of JSON text, or `NULL`.
    pub fn push_json(&mut self, text: Option<&str>) -> &mut Self {
        self.push(text.map_or(ValueRef::Null, ValueRef::Json))
    }

    /// Adds the next cell that all rows have in common.
    pub fn push_alike<'a>(&mut self, value: impl Into<ValueRef<'a>>) -> &mut Self {
        let column = self.width() + self.alike.starts.len();
        let wire = self.insert.wire(column);
        self.is_misfit |= self.alike.push(wire, value.into()).is_err();
        self
    }

    /// The statement that adds these rows.
    ///
    /// # Errors
    /// [`Error::Shape`] when the last row, or what all have in common, is not complete; [`Error::Value`]
    /// when a value is not of its column's type, or beyond its limits.
    pub fn into_statement(self) -> Result<Statement> {
        let width = self.width();
        let alike = self.insert.columns().len() - width;
        let has_alike = self.is_empty() || self.alike.starts.len() == alike;
        if self.column != 0 || !has_alike {
            return Err(Error::Shape);
        }
        if self.is_misfit {
            return Err(Error::Value {
                code: "client.encode".to_owned(),
            });
        }
        Ok(Statement::insert(self))
    }

    /// Complete rows, not cells.
    pub fn len(&self) -> usize {
        self.complete
    }

    /// True when there is no row.
    pub fn is_empty(&self) -> bool {
        self.complete == 0 && self.column == 0
    }

    pub(crate) fn insert(&self) -> &'static Insert {
        self.insert
    }

    /// Columns that may differ.
    fn width(&self) -> usize {
        self.insert.differing()
    }

    /// A cell of any column.
    pub(crate) fn cell(&self, row: usize, column: usize) -> Cell<'_> {
        let sized = match column.checked_sub(self.width()) {
            Some(place) => self.alike.cells(place, 1),
            None => self.own(row, column, 1),
        };
        let wire = self.insert.wire(column);
        Cell { wire, sized }
    }

    /// All that differs in a row, and then what it has in common with the others.
    pub(crate) fn row(&self, row: usize) -> [&[u8]; 2] {
        [self.own(row, 0, self.width()), &self.alike.bytes]
    }

    /// So many cells of a row that may differ.
    fn own(&self, row: usize, column: usize, count: usize) -> &[u8] {
        let after = self.pages.partition_point(|page| page.rows_before <= row);
        let page = after.checked_sub(1).and_then(|at| self.pages.get(at));
        page.map_or(&[], |page| {
            page.cells((row - page.rows_before) * self.width() + column, count)
        })
    }

    /// Bytes of all cells, those in common counted once.
    pub(crate) fn bytes(&self) -> usize {
        self.pages.iter().map(|page| page.bytes.len()).sum()
    }
}

// === impl Page ===

impl Page {
    /// An empty page with the room that this one needed: the rows of a batch are much alike.
    fn next(&self) -> Self {
        Self {
            rows_before: 0,
            bytes: Vec::with_capacity(self.bytes.len() + self.bytes.len() / 8),
            starts: Vec::with_capacity(self.starts.len()),
        }
    }

    fn push(&mut self, wire: Wire, value: ValueRef<'_>) -> std::result::Result<(), Misfit> {
        let start = u32::try_from(self.bytes.len()).map_err(|_| Misfit)?;
        self.starts.push(start);
        wire.put(value, &mut self.bytes)
    }

    /// So many cells from one on, with their lengths.
    fn cells(&self, from: usize, count: usize) -> &[u8] {
        let start = |cell: usize| {
            let start = self
                .starts
                .get(cell)
                .and_then(|at| usize::try_from(*at).ok());
            start.unwrap_or(self.bytes.len())
        };
        self.bytes
            .get(start(from)..start(from + count))
            .unwrap_or_default()
    }
}

impl fmt::Debug for Rows {
    /// Values may be personal data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows of {}", self.len(), self.insert.table())
    }
}
