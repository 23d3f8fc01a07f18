//! Backlogs on the server, a script a lane.

use async_trait::async_trait;
use ratebox_valkey::Error as ValkeyError;
use redis::Value;

use super::{RedisLog, error, reply};
use crate::backlog::{Backlog, Backlogs, LaneBacklog, SAMPLE_MAX};
use crate::{EntryId, Error, Lane, Rooms, Subscription};

/// Rooms of a lane that a measurement counts.
const ROOMS_MAX: usize = 1_000;

fn lane_backlog(lane: Lane, answer: Value) -> Result<(LaneBacklog, u64), ValkeyError> {
    let parts: [Value; 7] = reply::array(answer)?
        .try_into()
        .map_err(|_| ValkeyError::answer("a backlog"))?;
    let [unread, exact, pending, first, now_ms, members, ids] = parts;
    let pending_ids = reply::ids(ids)?;
    let first: Option<EntryId> = reply::text(first)?.parse().ok();
    let backlog = LaneBacklog {
        lane,
        unread: reply::number(&unread)?,
        is_exact: reply::number(&exact)? == 1,
        pending: reply::number(&pending)?,
        oldest: pending_ids.iter().copied().chain(first).min(),
        pending_ids,
        now_ms: reply::number(&now_ms)?,
    };
    Ok((backlog, reply::number(&members)?))
}

#[async_trait]
impl Backlogs for RedisLog {
    async fn backlog(&self, sub: &Subscription) -> Result<Backlog, Error> {
        let mut backlog = Backlog::default();
        for (lane, stream) in sub.lanes.iter() {
            let call = self.scripts.backlog.call().key(stream.as_str());
            let call = call.arg(sub.group.as_str()).arg(SAMPLE_MAX);
            let answer = self.valkey.run(&call).await;
            let (on_lane, members) = answer
                .and_then(|answer| lane_backlog(lane, answer))
                .map_err(error)?;
            backlog.lanes.push(on_lane);
            backlog.members = members.max(backlog.members);
        }
        let mut delayed = redis::cmd("ZCARD");
        delayed.arg(sub.lanes.delayed().as_str());
        let delayed = self.valkey.query(&delayed).await;
        backlog.delayed = delayed.and_then(|it| reply::number(&it)).map_err(error)?;
        let rooms = self.rooms(sub, ROOMS_MAX).await?;
        backlog.in_rooms = rooms.iter().map(|room| room.waiting).sum();
        Ok(backlog)
    }
}
