//! Limits in the file: one row a stream, changed under the writer's lock.

use std::time::Duration;

use async_trait::async_trait;
use ratebox_db::Tx;

use super::{SqliteLog, sql, text};
use crate::limits::{self, Ask, AtWork, Limit, Limits, Moment, Permits, Rules, Scope, Usage};
use crate::{Error, Subscription};

type Row = (Rules, Usage);

impl SqliteLog {
    async fn limits(&self, tx: &mut Tx, sub: &Subscription) -> Result<Row, Error> {
        let rows = tx
            .query(sql::LIMITS.with(vec![text(sub.lanes.base())]))
            .await?;
        let Some(row) = rows.first() else {
            return Ok(Row::default());
        };
        let kept: String = row.get(0)?;
        serde_json::from_str(&kept).map_err(|_| Error::refused("limits that nobody can read"))
    }

    async fn keep_limits(&self, mut tx: Tx, sub: &Subscription, row: &Row) -> Result<(), Error> {
        let kept = serde_json::to_string(row).map_err(|_| Error::refused("limits"))?;
        let values = vec![text(sub.lanes.base()), kept.into()];
        tx.execute(sql::KEEP_LIMITS.with(values)).await?;
        tx.commit().await?;
        Ok(())
    }
}

#[async_trait]
impl Limits for SqliteLog {
    async fn set_limit(
        &self,
        sub: &Subscription,
        scope: &Scope,
        limit: Limit,
    ) -> Result<(), Error> {
        limits::check(limit)?;
        let mut tx = self.db.begin().await?;
        let mut row = self.limits(&mut tx, sub).await?;
        if limit == Limit::default() {
            row.0.remove(scope);
        } else {
            row.0.insert(scope.clone(), limit);
        }
        self.keep_limits(tx, sub, &row).await
    }

    async fn rules(&self, sub: &Subscription) -> Result<Rules, Error> {
        let mut tx = self.db.begin().await?;
        let (rules, _) = self.limits(&mut tx, sub).await?;
        tx.rollback().await?;
        Ok(rules)
    }

    async fn acquire(
        &self,
        sub: &Subscription,
        asks: &[Ask],
        at_work: &AtWork,
        lease: Duration,
    ) -> Result<Vec<Permits>, Error> {
        let mut tx = self.db.begin().await?;
        let mut row = self.limits(&mut tx, sub).await?;
        let (rules, usage) = &mut row;
        let now_ms = u64::try_from(self.now_ms()).unwrap_or(0);
        let member = sub.consumer.as_str();
        usage.forget(rules, now_ms);
        let permits = usage.acquire(
            rules,
            asks,
            at_work,
            &Moment {
                member,
                now_ms,
                lease,
            },
        );
        self.keep_limits(tx, sub, &row).await?;
        Ok(permits)
    }

    async fn renew(
        &self,
        sub: &Subscription,
        at_work: &AtWork,
        lease: Duration,
    ) -> Result<(), Error> {
        self.acquire(sub, &[], at_work, lease).await.map(drop)
    }
}
