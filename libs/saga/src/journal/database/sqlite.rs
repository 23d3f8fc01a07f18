//! A batch on SQLite: statements that run once a row, all in one command to the writer, which
//! commits it together with whatever else waits. Every statement asks for itself whether the
//! process is in order and owns the saga; nothing runs between them, so all get the same answer.

use ratebox_db::{Column, Db};

use super::columns::Batch;
use super::{Outcome, sql};
use crate::{Owner, Result};

/// Writes a batch; [`Outcome::Unclear`] when less was written of sagas that are there than it asks
/// for.
pub(super) async fn write(db: &Db, owner: Owner, batch: Batch) -> Result<Outcome> {
    let wanted = [batch.starts.len(), batch.records.len(), batch.heads.len()];
    let statements = statements(owner.epoch, batch)?;
    let (written, _) = db.run(statements).await?;
    let is_all = |(wanted, written): (&usize, &u64)| *wanted as u64 == *written;
    let mut pairs = wanted.iter().zip(&written);
    let has_starts = pairs.next().is_none_or(is_all);
    let has_rest = pairs.all(is_all);
    Ok(match (has_starts, has_rest) {
        (true, true) => Outcome::Kept,
        (false, true) => Outcome::SomeExist,
        (_, false) => Outcome::Unclear,
    })
}

/// The batch as statements that each database understands. Records come before letters go, heads
/// last: whoever reads along sees no head ahead of its records.
pub(super) fn statements(epoch: i64, batch: Batch) -> Result<Vec<ratebox_db::Statement>> {
    let owner = || vec![epoch.into()];
    Ok(vec![
        sql::START.rows(batch.starts.columns(), owner())?,
        sql::RECORD.rows(batch.records.columns(), owner())?,
        sql::HEAD.rows(batch.heads.columns(), owner())?,
        sql::ANSWERED.rows(vec![Column::Uuid(batch.letters)], owner())?,
        sql::UNREAD.rows(vec![Column::Uuid(batch.ended)], owner())?,
    ])
}
