//! New rows of one table: how what is only ever added travels.
//!
//! PostgreSQL takes many rows by binary COPY, which fills whole pages at a time; fewer rows go by
//! `unnest`, because every COPY costs a round trip of its own, and a single row by plain `VALUES`.
//! Columns that hold the same in all rows go as one value with `unnest`: each array is taken apart
//! by a function and a store of its own.
//! SQLite runs a prepared `INSERT` once a row.
//! Small inserts of one transaction into different tables travel as one statement.

use std::fmt::Write as _;
use std::sync::OnceLock;

use crate::Rows;
use crate::wire::Wire;

/// From this many rows on COPY is cheaper than `unnest`. Inserts that go as one statement are so by
/// fewer messages: the tables of a verdict, 22 rows each, took 1.3 ms of PostgreSQL's CPU joined and
/// 1.6 by COPY, 64 rows 3.4 and 3.2.
const COPY_MIN: usize = 48;

/// A column: its name, and its type as PostgreSQL calls it.
pub type ColumnType = (&'static str, &'static str);

/// What becomes of a row whose key exists.
#[derive(Clone, Copy, Debug)]
pub enum Conflict {
    /// The statement fails with [`crate::Error::Exists`].
    Fail,
    /// The row that exists stays.
    Skip,
    /// The row that exists is changed: what follows `ON CONFLICT`, the same in both dialects.
    Update(&'static str),
}

/// An insert into one table. Kept as a static beside the function that runs it.
#[derive(Debug)]
pub struct Insert {
    table: &'static str,
    columns: &'static [ColumnType],
    conflict: Conflict,
    /// So many of the last columns hold the same in all rows.
    alike: usize,
    made: OnceLock<Made>,
}

/// What follows from the columns: the three forms, and how values are written.
#[derive(Debug)]
struct Made {
    /// One row; both dialects understand it.
    row: String,
    /// Any number of rows, each column an array.
    unnest: String,
    copy: String,
    wires: Vec<Wire>,
}

/// How rows travel to PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Row,
    Unnest,
    Copy,
}

impl Insert {
    /// An insert into `table` that fills `columns` in this order.
    pub const fn new(
        table: &'static str,
        columns: &'static [ColumnType],
        conflict: Conflict,
    ) -> Self {
        Self {
            table,
            columns,
            conflict,
            alike: 0,
            made: OnceLock::new(),
        }
    }

    /// Its last `count` columns hold the same in all rows of one statement
    /// ([`Rows::push_alike`]). At least one column must be left.
    pub const fn alike(mut self, count: usize) -> Self {
        assert!(count < self.columns.len());
        self.alike = count;
        self
    }

    /// Rows for it: none yet.
    pub fn rows(&'static self) -> Rows {
        Rows::new(self)
    }

    /// So many of the first columns may differ from row to row.
    pub(crate) fn differing(&self) -> usize {
        self.columns.len() - self.alike
    }

    /// Whether it adds every row or fails: then nobody needs to count.
    pub(crate) fn adds_all(&self) -> bool {
        matches!(self.conflict, Conflict::Fail)
    }

    pub(crate) fn table(&self) -> &'static str {
        self.table
    }

    pub(crate) fn columns(&self) -> &'static [ColumnType] {
        self.columns
    }

    pub(crate) fn form(&self, rows: usize) -> Form {
        match (rows, self.conflict) {
            (0 | 1, _) => Form::Row,
            (COPY_MIN.., Conflict::Fail) => Form::Copy,
            _ => Form::Unnest,
        }
    }

    /// What the server is told in this form.
    pub(crate) fn text(&self, form: Form) -> &str {
        let made = self.made();
        match form {
            Form::Row => &made.row,
            Form::Unnest => &made.unnest,
            Form::Copy => &made.copy,
        }
    }

    /// How the values of a column are written; one beyond the last takes none.
    pub(crate) fn wire(&self, column: usize) -> Wire {
        let wires = &self.made().wires;
        wires.get(column).copied().unwrap_or(Wire::Text)
    }

    fn made(&self) -> &Made {
        self.made.get_or_init(|| {
            let text = |form| {
                let mut out = String::new();
                self.write(form, 0, &mut out);
                out
            };
            Made {
                row: text(Form::Row),
                unnest: text(Form::Unnest),
                copy: text(Form::Copy),
                wires: self.columns.iter().map(|(_, it)| Wire::of(it)).collect(),
            }
        })
    }

    /// Writes a form of it whose parameters are numbered from `after` + 1 on.
    pub(crate) fn write(&self, form: Form, after: usize, out: &mut String) {
        let columns = self.columns;
        out.push_str(if form == Form::Copy {
            "COPY "
        } else {
            "INSERT INTO "
        });
        out.push_str(self.table);
        out.push_str(" (");
        list(out, columns, |out, (name, _)| out.push_str(name));
        match form {
            Form::Copy => return out.push_str(") FROM STDIN (FORMAT binary)"),
            Form::Row => {
                out.push_str(") VALUES (");
                let mut number = after;
                list(out, columns, |out, _| parameter(out, &mut number));
                out.push(')');
            }
            Form::Unnest => self.write_unnest(after, out),
        }
        match self.conflict {
            Conflict::Fail => {}
            Conflict::Skip => out.push_str(" ON CONFLICT DO NOTHING"),
            Conflict::Update(change) => {
                let _ = write!(out, " ON CONFLICT {change}");
            }
        }
    }

    /// `) SELECT it.*, $3::text FROM unnest($1::uuid[], $2::int[]) it`
    fn write_unnest(&self, after: usize, out: &mut String) {
        let (differing, alike) = self.columns.split_at(self.differing());
        out.push_str(") SELECT it.*");
        let mut number = after + differing.len();
        for (_, kind) in alike {
            out.push_str(", ");
            parameter(out, &mut number);
            let _ = write!(out, "::{kind}");
        }
        out.push_str(" FROM unnest(");
        let mut number = after;
        list(out, differing, |out, (_, kind)| {
            parameter(out, &mut number);
            let _ = write!(out, "::{kind}[]");
        });
        out.push_str(") it");
    }
}

fn parameter(out: &mut String, number: &mut usize) {
    *number += 1;
    let _ = write!(out, "${number}");
}

fn list(out: &mut String, columns: &[ColumnType], mut write: impl FnMut(&mut String, &ColumnType)) {
    for (number, column) in columns.iter().enumerate() {
        if number > 0 {
            out.push_str(", ");
        }
        write(out, column);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_an_insert_name_the_same_columns() {
        static INSERT: Insert = Insert::new(
            "t",
            &[("id", "uuid"), ("no", "int")],
            Conflict::Update("(id) DO UPDATE SET no = excluded.no"),
        );
        assert_eq!(
            INSERT.text(Form::Row),
            "INSERT INTO t (id, no) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET no = excluded.no"
        );
        assert_eq!(
            INSERT.text(Form::Unnest),
            "INSERT INTO t (id, no) SELECT it.* FROM unnest($1::uuid[], $2::int[]) it \
             ON CONFLICT (id) DO UPDATE SET no = excluded.no"
        );
        assert_eq!(
            INSERT.text(Form::Copy),
            "COPY t (id, no) FROM STDIN (FORMAT binary)"
        );
    }

    #[test]
    fn what_all_rows_have_in_common_goes_once_and_must_be_so() {
        static INSERT: Insert = Insert::new(
            "t",
            &[("id", "int"), ("no", "int"), ("who", "text")],
            Conflict::Fail,
        )
        .alike(1);
        assert_eq!(
            INSERT.text(Form::Unnest),
            "INSERT INTO t (id, no, who) SELECT it.*, $3::text \
             FROM unnest($1::int[], $2::int[]) it"
        );
        assert!(INSERT.text(Form::Row).ends_with("VALUES ($1, $2, $3)"));
        let mut rows = INSERT.rows();
        rows.push(1_i64).push(2_i64);
        assert!(matches!(
            rows.clone().into_statement(),
            Err(crate::Error::Shape)
        ));
        rows.push_alike("a");
        assert!(rows.clone().into_statement().is_ok());
        rows.push_alike("b");
        assert!(matches!(rows.into_statement(), Err(crate::Error::Shape)));
    }

    #[test]
    fn only_rows_that_may_not_exist_go_by_copy() {
        static PLAIN: Insert = Insert::new("t", &[("id", "uuid")], Conflict::Fail);
        static SKIP: Insert = Insert::new("t", &[("id", "uuid")], Conflict::Skip);
        let forms = |insert: &Insert| [1, 47, 48].map(|rows| insert.form(rows));
        assert_eq!(forms(&PLAIN), [Form::Row, Form::Unnest, Form::Copy]);
        assert_eq!(forms(&SKIP), [Form::Row, Form::Unnest, Form::Unnest]);
    }
}
