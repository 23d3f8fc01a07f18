//! A batch on SQLite: statements that run once a row, all in one command to the writer, which
//! commits it together with whatever else waits. Every statement asks for itself whether the
//! process is in order and owns the saga; nothing runs between them, so all get the same answer.

use ratebox_db::{Column, Db};

use super::columns::Batch;
use super::{Outcome, sql};
use crate::{Owner, Result};

/// Writes a batch; [`Outcome::Unclear`] when less was written than it asks for.
pub(super) async fn write(db: &Db, owner: Owner, batch: Batch) -> Result<Outcome> {
    let wanted = [batch.starts.len(), batch.records.len(), batch.heads.len()];
    let statements = statements(owner.epoch, batch)?;
    let (written, _) = db.run(statements).await?;
    let is_all = wanted.iter().zip(&written).all(|(a, b)| *a as u64 == *b);
    Ok(if is_all {
        Outcome::Kept
    } else {
        Outcome::Unclear
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
