//! Requests that were accepted and have no verdict yet.

use bytes::Bytes;
use ratebox_db::{Column, Row, Sql};
use ratebox_kit::Timestamp;
use uuid::Uuid;

use crate::{Result, Store};

/// An accepted request without a terminal state, with what was published for it.
#[derive(Clone, Debug)]
pub struct Unfinished {
    /// The request, which is its message id.
    pub id: Uuid,
    /// The envelope as published.
    pub body: Bytes,
}

const BEFORE: Sql = Sql {
    postgres: "SELECT id, body FROM validation_requests
        WHERE body IS NOT NULL AND lane = $1 AND accepted_at < $2
          AND (republished_at IS NULL OR republished_at < $2)
        ORDER BY accepted_at LIMIT $3",
    sqlite: "SELECT id, body FROM validation_requests
        WHERE body IS NOT NULL AND lane = ?1 AND accepted_at < ?2
          AND (republished_at IS NULL OR republished_at < ?2)
        ORDER BY accepted_at LIMIT ?3",
};

const REPUBLISHED: Sql = Sql {
    postgres: "UPDATE validation_requests SET republished_at = $2 WHERE id = ANY($1::uuid[])",
    sqlite: "UPDATE validation_requests SET republished_at = ?2 WHERE id = ?1",
};

pub(crate) const STATEMENTS: &[Sql] = &[BEFORE, REPUBLISHED];

impl Store {
    /// Requests of a lane that were last published before `time` and are not finished.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn unfinished_before(
        &self,
        lane: &str,
        time: Timestamp,
        max: i64,
    ) -> Result<Vec<Unfinished>> {
        let values = vec![lane.into(), time.into(), max.into()];
        let rows = self.db().query(BEFORE.with(values)).await?;
        rows.iter().map(read).collect()
    }

    /// Remembers that these requests were published again now.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn mark_republished(&self, requests: Vec<Uuid>) -> Result<()> {
        let now = self.clock().now();
        let statement = REPUBLISHED.rows(vec![Column::Uuid(requests)], vec![now.into()])?;
        self.db().execute(statement).await?;
        Ok(())
    }
}

fn read(row: &Row) -> Result<Unfinished> {
    Ok(Unfinished {
        id: row.get(0)?,
        body: row.get(1)?,
    })
}
