//! Answers kept in a table beside the effects: PostgreSQL or SQLite.

mod sql;

use std::time::Duration;

use async_trait::async_trait;
use ratebox_db::{Db, Migration, Tx, migrate};
use ratebox_kit::{MessageId, PortError, Timestamp};

use crate::Error;
use crate::handler::{Reply, Results};

/// Keeps what messages were answered in the table `handler_results`.
#[derive(Clone, Debug)]
pub struct SqlResults {
    consumer: String,
}

// === impl SqlResults ===

impl SqlResults {
    /// The owner name of the table's migrations.
    pub const OWNER: &'static str = "stream_results";

    /// The table.
    pub const MIGRATIONS: &'static [Migration] = sql::MIGRATIONS;

    /// Every statement, for tests that prepare them.
    pub const STATEMENTS: &'static [ratebox_db::Sql] = sql::STATEMENTS;

    /// Answers of the handlers of `consumer`: the name that its inbox has, too.
    pub fn new(consumer: impl Into<String>) -> Self {
        let consumer = consumer.into();
        Self { consumer }
    }

    /// Makes the table where it is missing.
    ///
    /// # Errors
    /// When the database refuses or is away.
    pub async fn migrate(db: &Db) -> Result<(), Error> {
        migrate(db, Self::OWNER, Self::MIGRATIONS).await?;
        Ok(())
    }

    /// Forgets answers from before `now - window`, the window of the inbox; returns how many.
    ///
    /// # Errors
    /// When the database refuses or is away.
    pub async fn forget(&self, db: &Db, now: Timestamp, window: Duration) -> Result<u64, Error> {
        let before = now.checked_sub(window).unwrap_or(Timestamp::MIN);
        let values = vec![
            self.consumer.as_str().into(),
            before.as_millisecond().into(),
        ];
        Ok(db.execute(sql::FORGET.with(values)).await?)
    }

    async fn try_find(&self, tx: &mut Tx, message: &MessageId) -> Result<Vec<Reply>, ReadError> {
        let values = vec![self.consumer.as_str().into(), message.0.as_str().into()];
        let rows = tx.query(sql::FIND.with(values)).await?;
        rows.iter()
            .map(|row| {
                let headers: String = row.get(1)?;
                Ok(Reply {
                    stream: row.get(0)?,
                    headers: serde_json::from_str(&headers)?,
                    body: row.get(2)?,
                })
            })
            .collect()
    }
}

/// Why a kept answer could not be read.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error(transparent)]
    Db(#[from] ratebox_db::Error),
    #[error("the headers of a kept answer cannot be read")]
    Headers(#[from] serde_json::Error),
}

#[async_trait]
impl Results for SqlResults {
    async fn keep(
        &self,
        tx: &mut Tx,
        message: &MessageId,
        replies: &[Reply],
    ) -> Result<(), PortError> {
        for (number, reply) in replies.iter().enumerate() {
            let headers = serde_json::to_string(&reply.headers);
            let headers = headers.map_err(|error| PortError::new("headers of an answer", error))?;
            let values = vec![
                self.consumer.as_str().into(),
                message.0.as_str().into(),
                i64::try_from(number).unwrap_or(i64::MAX).into(),
                reply.stream.as_str().into(),
                headers.into(),
                reply.body.clone().into(),
            ];
            let kept = tx.execute(sql::KEEP.with(values)).await;
            kept.map_err(|error| PortError::new("could not keep an answer", error))?;
        }
        Ok(())
    }

    async fn find(&self, tx: &mut Tx, message: &MessageId) -> Result<Vec<Reply>, PortError> {
        let found = self.try_find(tx, message).await;
        found.map_err(|error| PortError::new("could not read an answer", error))
    }
}
