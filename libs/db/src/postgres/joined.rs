//! Inserts that depend on nothing of one another, as one statement: one message to the server and
//! one answer, instead of one each and `BEGIN` and `COMMIT` around them. What a lone request costs
//! is mostly such messages.
//!
//! The first insert is done before all others, whose order nobody knows: two transactions that add
//! the same rows to the first table wait for each other there, and hold nothing else meanwhile.

use std::fmt::Write as _;

use deadpool_postgres::Object;

use super::send::Param;
use crate::insert::{Form, Insert};
use crate::sql::Kind;
use crate::{Error, Result, Rows, Statement};

/// Parameters that one message can carry.
const PARAMS_MAX: usize = 65_535;

/// Several inserts on their way.
pub(super) struct Joined<'a> {
    parts: Vec<Part<'a>>,
    statements: usize,
}

/// An insert that has rows.
struct Part<'a> {
    /// Its place among the statements.
    place: usize,
    insert: &'static Insert,
    rows: &'a Rows,
    form: Form,
}

impl Part<'_> {
    /// Counts are taken in their order, and what is not counted is done after them.
    fn is_counted(&self, number: usize) -> bool {
        number == 0 || !self.insert.adds_all()
    }
}

impl<'a> Joined<'a> {
    /// The statements as one; `None` when they are better sent one by one.
    pub(super) fn new(statements: &'a [Statement]) -> Option<Self> {
        let mut parts = Vec::with_capacity(statements.len());
        let mut params = 0;
        for (place, statement) in statements.iter().enumerate() {
            let Kind::Insert(rows) = &statement.0 else {
                return None;
            };
            if rows.is_empty() {
                continue;
            }
            let insert = rows.insert();
            let form = insert.form(rows.len());
            // One statement sees no row of another: two for one table could not tell a row of the
            // first from one that was there before.
            let has_table = |part: &Part<'_>| part.insert.table() == insert.table();
            if form == Form::Copy || parts.iter().any(has_table) {
                return None;
            }
            params += insert.columns().len();
            parts.push(Part {
                place,
                insert,
                rows,
                form,
            });
        }
        (!parts.is_empty() && params <= PARAMS_MAX).then_some(Self {
            parts,
            statements: statements.len(),
        })
    }

    /// Runs it; it is a transaction of its own, committed when this returns. Returns the rows that
    /// each statement changed.
    pub(super) async fn run(self, client: &Object) -> Result<Vec<u64>> {
        let prepared = client.prepare_cached(&self.text()).await?;
        let params = self.params();
        let params: Vec<_> = params.iter().map(Param::as_sql).collect();
        let row = client.query_one(&prepared, &params).await?;
        let mut counts = vec![0; self.statements];
        let mut columns = 0;
        for (number, part) in self.parts.iter().enumerate() {
            counts[part.place] = if part.is_counted(number) {
                let count: i64 = row.try_get(columns)?;
                columns += 1;
                u64::try_from(count).map_err(|_| Error::Shape)?
            } else {
                part.rows.len() as u64
            };
        }
        Ok(counts)
    }

    /// `WITH s0 AS (INSERT … RETURNING 1), s1 AS (INSERT …), s2 AS (INSERT … ON CONFLICT … RETURNING 1), …
    /// SELECT (SELECT count(*) FROM s0), (SELECT count(*) FROM s2), …`
    fn text(&self) -> String {
        let (mut with, mut counts) = (String::with_capacity(2048), String::new());
        let mut params = 0;
        for (number, part) in self.parts.iter().enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            let _ = write!(with, "{comma}s{number} AS (");
            part.insert.write(part.form, params, &mut with);
            if part.is_counted(number) {
                with.push_str(" RETURNING 1");
                let comma = if counts.is_empty() { "" } else { ", " };
                let _ = write!(counts, "{comma}(SELECT count(*) FROM s{number})");
            }
            with.push(')');
            params += part.insert.columns().len();
        }
        format!("WITH {with} SELECT {counts}")
    }

    fn params(&self) -> Vec<Param<'a>> {
        let mut params = Vec::new();
        for part in &self.parts {
            let param = |column| Param::new(part.rows, column, part.form);
            params.extend((0..part.insert.columns().len()).map(param));
        }
        params
    }
}
