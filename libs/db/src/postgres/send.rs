//! One statement on its way: prepared first, then sent without waiting for those before it.

use bytes::Bytes;
use deadpool_postgres::Object;
use futures_util::SinkExt as _;
use tokio_postgres::Statement as Prepared;
use tokio_postgres::types::ToSql;

use super::encode::{CopyData, Slice};
use super::params;
use crate::insert::{Form, Insert};
use crate::sql::Kind;
use crate::{Error, Result, Rows, Statement, ValueRef};

/// A statement and what the server calls it; `None` when there is nothing to send.
pub(super) struct Ready<'a> {
    statement: &'a Statement,
    prepared: Option<Prepared>,
}

/// A parameter of an insert: a value, or a column of values.
pub(super) enum Param<'a> {
    Cell(ValueRef<'a>),
    Column(Slice<'a>),
}

impl<'a> Param<'a> {
    pub(super) fn new(insert: &Insert, rows: &'a Rows, column: usize, form: Form) -> Self {
        if form == Form::Row || column >= insert.differing() {
            return Self::Cell(rows.get(column));
        }
        Self::Column(Slice {
            rows,
            column,
            width: insert.columns().len(),
        })
    }

    pub(super) fn as_sql(&self) -> &(dyn ToSql + Sync) {
        match self {
            Self::Cell(cell) => cell,
            Self::Column(column) => column,
        }
    }
}

/// Prepares a statement on this connection, which costs a round trip the first time only.
pub(super) async fn prepare<'a>(client: &Object, statement: &'a Statement) -> Result<Ready<'a>> {
    let text = match &statement.0 {
        Kind::Sql(call) if call.row_count() == Some(0) => None,
        Kind::Sql(call) if call.is_planned_anew => {
            let prepared = Some(client.prepare(call.sql.postgres).await?);
            return Ok(Ready {
                statement,
                prepared,
            });
        }
        Kind::Sql(call) => Some(call.sql.postgres),
        Kind::Insert(_, rows) if rows.is_empty() => None,
        Kind::Insert(insert, rows) => match form(insert, rows) {
            Form::Row => Some(insert.texts().row.as_str()),
            Form::Unnest => Some(insert.texts().unnest.as_str()),
            Form::Copy => Some(insert.texts().copy.as_str()),
        },
    };
    let prepared = match text {
        Some(text) => Some(client.prepare_cached(text).await?),
        None => None,
    };
    Ok(Ready {
        statement,
        prepared,
    })
}

/// Sends it with the first poll; returns the rows it changed.
pub(super) async fn execute(client: &Object, ready: Ready<'_>) -> Result<u64> {
    let Some(prepared) = &ready.prepared else {
        return Ok(0);
    };
    match &ready.statement.0 {
        Kind::Sql(call) => Ok(client.execute(prepared, &params(call)).await?),
        Kind::Insert(insert, rows) => match form(insert, rows) {
            Form::Row => row(client, prepared, rows).await,
            Form::Unnest => unnest(client, prepared, insert, rows).await,
            Form::Copy => copy(client, prepared, insert, rows).await,
        },
    }
}

fn form(insert: &Insert, rows: &Rows) -> Form {
    insert.form(rows.len() / insert.columns().len())
}

async fn row(client: &Object, prepared: &Prepared, rows: &Rows) -> Result<u64> {
    let cells: Vec<_> = (0..rows.len()).map(|index| rows.get(index)).collect();
    let params: Vec<_> = cells.iter().map(|it| it as &(dyn ToSql + Sync)).collect();
    Ok(client.execute(prepared, &params).await?)
}

async fn unnest(client: &Object, prepared: &Prepared, insert: &Insert, rows: &Rows) -> Result<u64> {
    let width = insert.columns().len();
    let params: Vec<_> = (0..width)
        .map(|column| Param::new(insert, rows, column, Form::Unnest))
        .collect();
    let params: Vec<_> = params.iter().map(Param::as_sql).collect();
    Ok(client.execute(prepared, &params).await?)
}

async fn copy(client: &Object, prepared: &Prepared, insert: &Insert, rows: &Rows) -> Result<u64> {
    let sink = client.copy_in::<_, Bytes>(prepared).await?;
    let mut sink = std::pin::pin!(sink);
    for chunk in CopyData::new(rows, insert.columns()) {
        // A sink that is dropped before its end makes the server give the COPY up.
        let chunk = chunk.map_err(|_| Error::Value {
            code: "client.encode".to_owned(),
        })?;
        sink.feed(chunk).await?;
    }
    Ok(sink.finish().await?)
}
