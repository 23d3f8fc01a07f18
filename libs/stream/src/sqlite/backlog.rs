//! Backlogs in the file.

use async_trait::async_trait;

use super::codec::id;
use super::{SqliteLog, first, group_key, sql, text};
use crate::backlog::{Backlog, Backlogs, LaneBacklog, SAMPLE_MAX};
use crate::{EntryId, Error, Rooms, Subscription};

/// Rooms of a lane that a measurement counts.
const ROOMS_MAX: usize = 1_000;

fn count(of: i64) -> u64 {
    u64::try_from(of).unwrap_or(0)
}

#[async_trait]
impl Backlogs for SqliteLog {
    async fn backlog(&self, sub: &Subscription) -> Result<Backlog, Error> {
        let mut backlog = Backlog::default();
        for (lane, stream) in sub.lanes.iter() {
            let rows = self
                .db
                .query(sql::BEHIND.with(group_key(stream, sub)))
                .await?;
            let Some(row) = rows.first() else {
                continue;
            };
            let (unread, pending): (i64, i64) = (row.get(0)?, row.get(1)?);
            let (fresh, members): (Option<i64>, i64) = (row.get(2)?, row.get(3)?);
            let mut values = group_key(stream, sub);
            values.push(SAMPLE_MAX.into());
            let mut pending_ids: Vec<EntryId> = Vec::new();
            for row in self.db.query(sql::PENDING_IDS.with(values)).await? {
                pending_ids.push(id(row.get(0)?));
            }
            backlog.members = backlog.members.max(count(members));
            backlog.lanes.push(LaneBacklog {
                lane,
                unread: count(unread),
                is_exact: true,
                pending: count(pending),
                oldest: pending_ids.iter().copied().chain(fresh.map(id)).min(),
                pending_ids,
                now_ms: count(self.now_ms()),
            });
        }
        let delayed = sql::DELAYED_COUNT.with(vec![text(sub.lanes.delayed())]);
        backlog.delayed = count(first(&self.db.query(delayed).await?, 0)?);
        let rooms = self.rooms(sub, ROOMS_MAX).await?;
        backlog.in_rooms = rooms.iter().map(|room| room.waiting).sum();
        Ok(backlog)
    }
}
