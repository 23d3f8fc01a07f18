//! What failed entries that stay pending carry, in the file.

mod sql;

use super::SqliteLog;
use super::codec::{id, key};
use crate::FailedEntry;
use crate::{Error, Lane, Subscription};

// === impl SqliteLog ===

impl SqliteLog {
    pub(super) async fn put_failures(
        &self,
        sub: &Subscription,
        failures: &[FailedEntry],
    ) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        for failure in failures {
            let mut values = vec![
                sub.lanes.base().as_str().into(),
                sub.group.as_str().into(),
                failure.lane.as_str().into(),
                key(failure.id).into(),
            ];
            let statement = match &failure.text {
                Some(text) => {
                    values.push(text.as_str().into());
                    sql::KEEP.with(values)
                }
                None => sql::FORGET.with(values),
            };
            tx.execute(statement).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    pub(super) async fn all_failures(&self, sub: &Subscription) -> Result<Vec<FailedEntry>, Error> {
        let values = vec![sub.lanes.base().as_str().into(), sub.group.as_str().into()];
        let mut failures = Vec::new();
        for row in self.db.query(sql::ALL.with(values)).await? {
            let lane: String = row.get(0)?;
            let text = Some(row.get(2)?);
            if let Some(lane) = Lane::parse(&lane) {
                let id = id(row.get(1)?);
                failures.push(FailedEntry { lane, id, text });
            }
        }
        Ok(failures)
    }
}
