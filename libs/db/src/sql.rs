//! A statement in both dialects, and a statement with its values.

use crate::{Column, Dialect, Error, Result, Rows, Value};

/// One statement as both databases write it. Kept as a constant beside the function that runs it.
#[derive(Clone, Copy, Debug)]
pub struct Sql {
    /// With `$1`, `$2`, … as parameters.
    pub postgres: &'static str,
    /// With `?1`, `?2`, … as parameters.
    pub sqlite: &'static str,
}

impl Sql {
    /// The same text for both; only for statements without parameters, which the two databases
    /// write differently.
    pub const fn both(text: &'static str) -> Self {
        Self {
            postgres: text,
            sqlite: text,
        }
    }

    /// The text for a dialect.
    pub fn text(&self, dialect: Dialect) -> &'static str {
        match dialect {
            Dialect::Postgres => self.postgres,
            Dialect::Sqlite => self.sqlite,
        }
    }

    /// The statement with one set of values.
    pub fn with(self, values: Vec<Value>) -> Statement {
        Statement::call(self, Vec::new(), values)
    }

    /// The statement for many rows. PostgreSQL gets each column as an array (`$1`, `$2`, …), then
    /// `values` as further parameters; SQLite runs it once a row with the row's values first,
    /// then `values`.
    ///
    /// # Errors
    /// [`Error::Shape`] when the columns differ in length.
    pub fn rows(self, columns: Vec<Column>, values: Vec<Value>) -> Result<Statement> {
        let rows = columns.first().map_or(0, Column::len);
        if columns.iter().any(|column| column.len() != rows) {
            return Err(Error::Shape);
        }
        Ok(Statement::call(self, columns, values))
    }

    /// The statement with several lists of different lengths. For PostgreSQL alone, which gets
    /// each column as an array (`$1`, `$2`, …), then `values` as further parameters; SQLite has
    /// no arrays.
    pub fn arrays(self, columns: Vec<Column>, values: Vec<Value>) -> Statement {
        Statement::call(self, columns, values)
    }
}

/// A statement with its values, ready to run.
#[derive(Clone, Debug)]
pub struct Statement(pub(crate) Kind);

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Sql(Call),
    Insert(Rows),
}

/// A statement of our own words.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) sql: Sql,
    pub(crate) columns: Vec<Column>,
    pub(crate) values: Vec<Value>,
    pub(crate) is_planned_anew: bool,
}

impl Statement {
    fn call(sql: Sql, columns: Vec<Column>, values: Vec<Value>) -> Self {
        Self(Kind::Sql(Call {
            sql,
            columns,
            values,
            is_planned_anew: false,
        }))
    }

    /// PostgreSQL plans it each time, for one more round trip: for a table that is now empty and now
    /// large, of which a plan that was kept would read all. On SQLite it makes no difference.
    pub fn planned_anew(mut self) -> Self {
        if let Kind::Sql(call) = &mut self.0 {
            call.is_planned_anew = true;
        }
        self
    }

    pub(crate) fn insert(rows: Rows) -> Self {
        Self(Kind::Insert(rows))
    }

    /// The statement as one that may answer rows, which an insert never does.
    pub(crate) fn into_call(self) -> Result<Call> {
        match self.0 {
            Kind::Sql(call) => Ok(call),
            Kind::Insert(..) => Err(Error::Shape),
        }
    }
}

impl Call {
    /// Rows that it carries; `None` for a statement with one set of values.
    pub(crate) fn row_count(&self) -> Option<usize> {
        self.columns.first().map(Column::len)
    }
}

impl From<Sql> for Statement {
    fn from(sql: Sql) -> Self {
        sql.with(Vec::new())
    }
}
