//! Requests that were accepted and have no verdict yet.

use std::time::Duration;

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

/// Rows that lie so far ahead were written while a clock was wrong: they count as old, or what the
/// bus lost of them would wait until that time. Two machines' clocks are never so far apart.
const AHEAD: Duration = Duration::from_secs(60);

// Two halves, so that each walks the index from its own end and stops at the limit.
const BEFORE: Sql = Sql {
    postgres: "SELECT id, body FROM (
          SELECT id, body FROM validation_requests
          WHERE body IS NOT NULL AND lane = $1 AND accepted_at < $2
            AND (republished_at IS NULL OR republished_at < $2 OR republished_at > $4)
          ORDER BY accepted_at LIMIT $3) AS past
        UNION ALL SELECT id, body FROM (
          SELECT id, body FROM validation_requests
          WHERE body IS NOT NULL AND lane = $1 AND accepted_at > $4
            AND (republished_at IS NULL OR republished_at < $2 OR republished_at > $4)
          ORDER BY accepted_at LIMIT $3) AS ahead
        LIMIT $3",
    sqlite: "SELECT id, body FROM (
          SELECT id, body FROM validation_requests
          WHERE body IS NOT NULL AND lane = ?1 AND accepted_at < ?2
            AND (republished_at IS NULL OR republished_at < ?2 OR republished_at > ?4)
          ORDER BY accepted_at LIMIT ?3) AS past
        UNION ALL SELECT id, body FROM (
          SELECT id, body FROM validation_requests
          WHERE body IS NOT NULL AND lane = ?1 AND accepted_at > ?4
            AND (republished_at IS NULL OR republished_at < ?2 OR republished_at > ?4)
          ORDER BY accepted_at LIMIT ?3) AS ahead
        LIMIT ?3",
};

const REPUBLISHED: Sql = Sql {
    postgres: "UPDATE validation_requests SET republished_at = $2 WHERE id = ANY($1::uuid[])",
    sqlite: "UPDATE validation_requests SET republished_at = ?2 WHERE id = ?1",
};

pub(crate) const STATEMENTS: &[Sql] = &[BEFORE, REPUBLISHED];

impl Store {
    /// Requests of a lane that were last published before `time` and are not finished; those whose
    /// time lies ahead of the clock count as old.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn unfinished_before(
        &self,
        lane: &str,
        time: Timestamp,
        max: i64,
    ) -> Result<Vec<Unfinished>> {
        let now = self.clock().now();
        let ahead = now.max(time).checked_add(AHEAD).unwrap_or(Timestamp::MAX);
        let values = vec![lane.into(), time.into(), max.into(), ahead.into()];
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
