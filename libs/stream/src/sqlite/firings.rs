//! Last moments of jobs, beside the streams in a SQLite file.

mod sql;

use async_trait::async_trait;
use ratebox_db::migrate;
use ratebox_kit::Timestamp;

use super::codec::encode;
use super::{SqliteLog, text};
use crate::cron::Firings;
use crate::entry::fields_to_append;
use crate::{Append, Error, StreamName};

#[async_trait]
impl Firings for SqliteLog {
    async fn begin(
        &self,
        stream: &StreamName,
        job: &str,
        first: Timestamp,
    ) -> Result<Timestamp, Error> {
        migrate(&self.db, sql::OWNER, sql::MIGRATIONS).await?;
        let first_ms = first.as_millisecond();
        let begin = sql::BEGIN.with(vec![text(stream), job.into(), first_ms.into()]);
        let mut tx = self.db.begin().await?;
        let rows = tx.query(begin).await?;
        tx.commit().await?;
        let last_ms = rows.first().map_or(Ok(first_ms), |row| row.get(0))?;
        Ok(Timestamp::from_millisecond(last_ms).unwrap_or(first))
    }

    async fn fire(&self, job: &str, moment: Timestamp, append: &Append) -> Result<bool, Error> {
        let values = vec![
            text(&append.stream),
            job.into(),
            moment.as_millisecond().into(),
        ];
        let mut tx = self.db.begin().await?;
        if tx.execute(sql::FIRE.with(values)).await? == 0 {
            tx.rollback().await?;
            return Ok(false);
        }
        let fields = vec![encode(fields_to_append(append))];
        self.push(&mut tx, vec![append.stream.to_string()], fields)
            .await?;
        tx.commit().await?;
        self.appended.notify_waiters();
        Ok(true)
    }
}
