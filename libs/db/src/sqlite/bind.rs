//! Our values as SQLite's, and back.

use rusqlite::types::{ToSqlOutput, Value as Stored, ValueRef};
use rusqlite::{CachedStatement, Connection, ToSql};

use crate::{Result, Row, Statement, Value};

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Null => ToSqlOutput::Owned(Stored::Null),
            Self::Bool(it) => ToSqlOutput::Owned(Stored::Integer(i64::from(*it))),
            Self::Int(it) => ToSqlOutput::Owned(Stored::Integer(*it)),
            Self::Float(it) => ToSqlOutput::Owned(Stored::Real(*it)),
            Self::Text(it) | Self::Json(it) => ToSqlOutput::Borrowed(ValueRef::Text(it.as_bytes())),
            Self::Bytes(it) => ToSqlOutput::Borrowed(ValueRef::Blob(it)),
            Self::Uuid(it) => ToSqlOutput::Borrowed(ValueRef::Blob(it.as_bytes())),
            Self::Time(it) => ToSqlOutput::Owned(Stored::Integer(it.as_microsecond())),
        })
    }
}

/// Runs a statement once, or once a row; returns the rows it changed.
pub(super) fn execute(connection: &Connection, statement: Statement) -> Result<u64> {
    let mut prepared = connection.prepare_cached(statement.sql.sqlite)?;
    let Some(rows) = statement.row_count() else {
        bind(&mut prepared, &statement.values)?;
        return Ok(prepared.raw_execute().map(count)?);
    };
    let mut columns = statement.columns;
    let mut changed = 0;
    for (index, value) in statement.values.iter().enumerate() {
        prepared.raw_bind_parameter(columns.len() + index + 1, value)?;
    }
    for row in 0..rows {
        for (index, column) in columns.iter_mut().enumerate() {
            prepared.raw_bind_parameter(index + 1, column.take(row))?;
        }
        changed += count(prepared.raw_execute()?);
    }
    Ok(changed)
}

/// Runs a statement once, or once a row, and gathers the rows it answers.
pub(super) fn query(connection: &Connection, statement: Statement) -> Result<Vec<Row>> {
    let mut prepared = connection.prepare_cached(statement.sql.sqlite)?;
    let Some(rows) = statement.row_count() else {
        bind(&mut prepared, &statement.values)?;
        return gather(&mut prepared, Vec::new());
    };
    let mut columns = statement.columns;
    let mut answer = Vec::with_capacity(rows);
    for (index, value) in statement.values.iter().enumerate() {
        prepared.raw_bind_parameter(columns.len() + index + 1, value)?;
    }
    for row in 0..rows {
        for (index, column) in columns.iter_mut().enumerate() {
            prepared.raw_bind_parameter(index + 1, column.take(row))?;
        }
        answer = gather(&mut prepared, answer)?;
    }
    Ok(answer)
}

fn bind(prepared: &mut CachedStatement<'_>, values: &[Value]) -> Result<()> {
    for (index, value) in values.iter().enumerate() {
        prepared.raw_bind_parameter(index + 1, value)?;
    }
    Ok(())
}

fn gather(prepared: &mut CachedStatement<'_>, mut answer: Vec<Row>) -> Result<Vec<Row>> {
    let width = prepared.column_count();
    let mut rows = prepared.raw_query();
    while let Some(row) = rows.next()? {
        let mut values = Vec::with_capacity(width);
        for index in 0..width {
            values.push(decode(row.get_ref(index)?));
        }
        answer.push(Row(values));
    }
    Ok(answer)
}

fn decode(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(it) => Value::Int(it),
        ValueRef::Real(it) => Value::Float(it),
        ValueRef::Text(it) => Value::Text(String::from_utf8_lossy(it).into_owned()),
        ValueRef::Blob(it) => Value::Bytes(it.to_vec().into()),
    }
}

fn count(changed: usize) -> u64 {
    u64::try_from(changed).unwrap_or(u64::MAX)
}
