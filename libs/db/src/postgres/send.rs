//! One statement on its way: prepared first, then sent without waiting for those before it.

use bytes::Bytes;
use deadpool_postgres::Object;
use futures_util::SinkExt as _;
use tokio_postgres::Statement as Prepared;
use tokio_postgres::types::ToSql;

use super::encode::{CopyData, Slice};
use super::params;
use crate::insert::Form;
use crate::sql::{Call, Kind};
use crate::wire::Cell;
use crate::{Error, Result, Rows, Statement};

/// A statement and what the server calls it; `None` when there is nothing to send.
pub(super) struct Ready<'a> {
    statement: &'a Statement,
    prepared: Option<Prepared>,
}

/// A parameter of an insert: a value, or a column of values.
pub(super) enum Param<'a> {
    Cell(Cell<'a>),
    Column(Slice<'a>),
}

impl<'a> Param<'a> {
    pub(super) fn new(rows: &'a Rows, column: usize, form: Form) -> Self {
        if form == Form::Row || column >= rows.insert().differing() {
            return Self::Cell(rows.cell(0, column));
        }
        Self::Column(Slice { rows, column })
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
        Kind::Sql(call) => {
            let prepared = Some(prepare_call(client, call).await?);
            return Ok(Ready {
                statement,
                prepared,
            });
        }
        Kind::Insert(rows) if rows.is_empty() => None,
        Kind::Insert(rows) => Some(rows.insert().text(form(rows))),
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

/// Prepares a statement of our own words: once on this connection, or each time where a plan that was
/// kept would hurt.
pub(super) async fn prepare_call(
    client: &Object,
    call: &Call,
) -> std::result::Result<Prepared, tokio_postgres::Error> {
    if call.is_planned_anew {
        client.prepare(call.sql.postgres).await
    } else {
        client.prepare_cached(call.sql.postgres).await
    }
}

/// Sends it with the first poll; returns the rows it changed.
pub(super) async fn execute(client: &Object, ready: Ready<'_>) -> Result<u64> {
    let Some(prepared) = &ready.prepared else {
        return Ok(0);
    };
    match &ready.statement.0 {
        Kind::Sql(call) => Ok(client.execute(prepared, &params(call)).await?),
        Kind::Insert(rows) => match form(rows) {
            Form::Copy => copy(client, prepared, rows).await,
            form => insert(client, prepared, rows, form).await,
        },
    }
}

fn form(rows: &Rows) -> Form {
    rows.insert().form(rows.len())
}

async fn insert(client: &Object, prepared: &Prepared, rows: &Rows, form: Form) -> Result<u64> {
    let columns = 0..rows.insert().columns().len();
    let params: Vec<_> = columns.map(|it| Param::new(rows, it, form)).collect();
    let params: Vec<_> = params.iter().map(Param::as_sql).collect();
    Ok(client.execute(prepared, &params).await?)
}

async fn copy(client: &Object, prepared: &Prepared, rows: &Rows) -> Result<u64> {
    let sink = client.copy_in::<_, Bytes>(prepared).await?;
    let mut sink = std::pin::pin!(sink);
    for chunk in CopyData::new(rows) {
        // A sink that is dropped before its end makes the server give the COPY up.
        let chunk = chunk.map_err(|_| Error::Value {
            code: "client.encode".to_owned(),
        })?;
        sink.feed(chunk).await?;
    }
    Ok(sink.finish().await?)
}
