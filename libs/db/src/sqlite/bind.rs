//! Our values as SQLite's, and back.

use rusqlite::types::{ToSqlOutput, Value as Stored, ValueRef as Borrowed};
use rusqlite::{CachedStatement, Connection, ToSql};

use crate::insert::Form;
use crate::sql::{Call, Kind};
use crate::{Result, Row, Rows, Statement, Value, ValueRef};

impl ToSql for ValueRef<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Null => ToSqlOutput::Owned(Stored::Null),
            Self::Bool(it) => ToSqlOutput::Owned(Stored::Integer(i64::from(*it))),
            Self::Int(it) => ToSqlOutput::Owned(Stored::Integer(*it)),
            Self::Float(it) => ToSqlOutput::Owned(Stored::Real(*it)),
            Self::Text(it) | Self::Json(it) => ToSqlOutput::Borrowed(Borrowed::Text(it.as_bytes())),
            Self::Bytes(it) => ToSqlOutput::Borrowed(Borrowed::Blob(it)),
            Self::Uuid(it) => ToSqlOutput::Borrowed(Borrowed::Blob(it.as_bytes())),
            Self::Time(it) => ToSqlOutput::Owned(Stored::Integer(*it)),
        })
    }
}

/// Runs a statement once, or once a row; returns the rows it changed.
pub(super) fn execute(connection: &Connection, statement: &Statement) -> Result<u64> {
    match &statement.0 {
        Kind::Insert(rows) => insert_rows(connection, rows),
        Kind::Sql(call) => {
            let mut changed = 0;
            each_row(connection, call, |prepared| {
                changed += count(prepared.raw_execute()?);
                Ok(())
            })?;
            Ok(changed)
        }
    }
}

/// Runs a statement once, or once a row, and gathers the rows it answers.
pub(super) fn query(connection: &Connection, statement: Statement) -> Result<Vec<Row>> {
    let mut answer = Vec::new();
    each_row(connection, &statement.into_call()?, |prepared| {
        gather(prepared, &mut answer)
    })?;
    Ok(answer)
}

fn insert_rows(connection: &Connection, rows: &Rows) -> Result<u64> {
    let insert = rows.insert();
    let mut prepared = connection.prepare_cached(insert.text(Form::Row))?;
    let mut changed = 0;
    for row in 0..rows.len() {
        for column in 0..insert.columns().len() {
            prepared.raw_bind_parameter(column + 1, rows.cell(row, column).value())?;
        }
        changed += count(prepared.raw_execute()?);
    }
    Ok(changed)
}

fn each_row(
    connection: &Connection,
    call: &Call,
    mut run: impl FnMut(&mut CachedStatement<'_>) -> Result<()>,
) -> Result<()> {
    let mut prepared = connection.prepare_cached(call.sql.sqlite)?;
    for (index, value) in call.values.iter().enumerate() {
        prepared.raw_bind_parameter(call.columns.len() + index + 1, value.borrow())?;
    }
    for row in 0..call.row_count().unwrap_or(1) {
        for (index, column) in call.columns.iter().enumerate() {
            prepared.raw_bind_parameter(index + 1, column.get(row))?;
        }
        run(&mut prepared)?;
    }
    Ok(())
}

fn gather(prepared: &mut CachedStatement<'_>, answer: &mut Vec<Row>) -> Result<()> {
    let width = prepared.column_count();
    let mut rows = prepared.raw_query();
    while let Some(row) = rows.next()? {
        let mut values = Vec::with_capacity(width);
        for index in 0..width {
            values.push(decode(row.get_ref(index)?));
        }
        answer.push(Row(values));
    }
    Ok(())
}

fn decode(value: Borrowed<'_>) -> Value {
    match value {
        Borrowed::Null => Value::Null,
        Borrowed::Integer(it) => Value::Int(it),
        Borrowed::Real(it) => Value::Float(it),
        Borrowed::Text(it) => Value::Text(String::from_utf8_lossy(it).into_owned()),
        Borrowed::Blob(it) => Value::Bytes(it.to_vec().into()),
    }
}

fn count(changed: usize) -> u64 {
    u64::try_from(changed).unwrap_or(u64::MAX)
}
