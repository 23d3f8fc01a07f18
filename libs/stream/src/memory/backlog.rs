//! Backlogs in memory.

use async_trait::async_trait;

use super::MemoryLog;
use crate::backlog::{Backlog, Backlogs, LaneBacklog, SAMPLE_MAX};
use crate::{Error, Rooms, Subscription};

#[async_trait]
impl Backlogs for MemoryLog {
    async fn backlog(&self, sub: &Subscription) -> Result<Backlog, Error> {
        let rooms = self.rooms(sub, usize::MAX).await?;
        let now_ms = self.now_ms();
        let state = self.state();
        let mut backlog = Backlog {
            in_rooms: rooms.iter().map(|room| room.waiting).sum(),
            delayed: state
                .delayed
                .get(sub.lanes.delayed())
                .map_or(0, |it| it.len() as u64),
            ..Backlog::default()
        };
        for (lane, name) in sub.lanes.iter() {
            let found = state.streams.get(name);
            let found = found.and_then(|it| Some((it, it.groups.get(&sub.group)?)));
            let Some((stream, group)) = found else {
                continue;
            };
            let unread = stream.entries.range(group.last_delivered.next()..).count();
            backlog.members = backlog.members.max(group.consumers.len() as u64);
            backlog.lanes.push(LaneBacklog {
                lane,
                unread: unread as u64,
                is_exact: true,
                pending: group.pending.len() as u64,
                oldest: stream.owed_from(group),
                pending_ids: group.pending.keys().copied().take(SAMPLE_MAX).collect(),
                now_ms,
            });
        }
        Ok(backlog)
    }
}
