//! The operator's side of the log in memory.

use std::time::Duration;

use async_trait::async_trait;

use super::MemoryLog;
use super::state::{Group, Stream};
use crate::{
    Admin, ConsumerInfo, ConsumerName, Delayed, Entry, EntryId, Error, FLOOR_SCAN_MAX, GroupInfo,
    GroupName, Lane, LaneFloor, Retention, StreamInfo, StreamName, Subscription, Trimmed,
};

#[async_trait]
impl Admin for MemoryLog {
    async fn info(&self, stream: &StreamName) -> Result<Option<StreamInfo>, Error> {
        let now_ms = self.now_ms();
        let state = self.state();
        Ok(state.streams.get(stream).map(|stream| StreamInfo {
            length: stream.entries.len() as u64,
            appended: stream.appended,
            first: stream.entries.keys().next().copied(),
            last: stream.last,
            groups: stream
                .groups
                .iter()
                .map(|(name, group)| group_info(name, group, stream, now_ms))
                .collect(),
        }))
    }

    async fn floor(&self, sub: &Subscription) -> Result<Vec<LaneFloor>, Error> {
        let state = self.state();
        let waiting = state.delayed.get(sub.lanes.delayed());
        let ours: Vec<(Lane, EntryId)> = waiting
            .into_iter()
            .flatten()
            .filter(|waiting| waiting.group == sub.group)
            .map(|waiting| (waiting.lane, waiting.first_entry))
            .collect();
        let floor = |(lane, name): (Lane, &StreamName)| {
            let stream = state.streams.get(name);
            let group = stream.and_then(|stream| stream.groups.get(&sub.group));
            let owed = stream
                .zip(group)
                .and_then(|(stream, group)| stream.owed_from(group));
            let delayed = ours
                .iter()
                .filter(|(one, _)| *one == lane)
                .map(|(_, id)| *id);
            let exact = owed.into_iter().chain(delayed).min();
            let is_crowded = state
                .lobbies
                .get(name)
                .is_some_and(|lobby| !lobby.is_empty());
            let post = state.posts.get(sub.lanes.base());
            let is_scheduled = post.is_some_and(|post| post.holds(lane));
            let owed_from = if ours.len() > FLOOR_SCAN_MAX || is_crowded || is_scheduled {
                Some(EntryId::MIN)
            } else {
                exact
            };
            LaneFloor {
                lane,
                stream: name.clone(),
                owed_from,
            }
        };
        Ok(sub.lanes.iter().map(floor).collect())
    }

    async fn trim_but(
        &self,
        stream: &StreamName,
        retention: Retention,
        ignored: &[GroupName],
    ) -> Result<Trimmed, Error> {
        let now_ms = self.now_ms();
        let mut state = self.state();
        let stream = state.streams.get_mut(stream);
        Ok(stream.map_or_else(Trimmed::default, |stream| {
            trim(stream, retention, ignored, now_ms)
        }))
    }

    async fn bytes(&self, stream: &StreamName) -> Result<u64, Error> {
        let state = self.state();
        let entries = state.streams.get(stream).into_iter();
        let fields = entries.flat_map(|stream| stream.entries.values().flatten());
        Ok(fields
            .map(|(name, value)| (name.len() + value.len()) as u64)
            .sum())
    }

    async fn make_group(
        &self,
        stream: &StreamName,
        group: &GroupName,
        from: EntryId,
    ) -> Result<bool, Error> {
        let mut state = self.state();
        let groups = &mut state.stream_mut(stream).groups;
        if groups.contains_key(group) {
            return Ok(false);
        }
        let made = Group {
            last_delivered: from.before(),
            ..Group::default()
        };
        groups.insert(group.clone(), made);
        Ok(true)
    }

    async fn peek(
        &self,
        stream: &StreamName,
        from: EntryId,
        max: usize,
    ) -> Result<Vec<Entry>, Error> {
        Ok(self.state().range(stream, from, max))
    }

    async fn delayed(&self, sub: &Subscription) -> Result<Delayed, Error> {
        let now_ms = self.now_ms();
        let state = self.state();
        let Some(waiting) = state.delayed.get(sub.lanes.delayed()) else {
            return Ok(Delayed::default());
        };
        let next_ms = waiting.iter().map(|waiting| waiting.due_ms).min();
        Ok(Delayed {
            count: waiting.len() as u64,
            next_in: next_ms.map(|due_ms| Duration::from_millis(due_ms.saturating_sub(now_ms))),
        })
    }

    async fn remove_dead_consumers(
        &self,
        sub: &Subscription,
        idle: Duration,
    ) -> Result<Vec<ConsumerName>, Error> {
        let now_ms = self.now_ms();
        let mut state = self.state();
        let mut removed = Vec::new();
        for (_, name) in sub.lanes.iter() {
            let stream = state.streams.get_mut(name);
            let Some(group) = stream.and_then(|stream| stream.groups.get_mut(&sub.group)) else {
                continue;
            };
            let Group {
                pending, consumers, ..
            } = group;
            consumers.retain(|consumer, seen_ms| {
                let is_idle = u128::from(now_ms.saturating_sub(*seen_ms)) >= idle.as_millis();
                let owns = pending.values().any(|pending| pending.owner == *consumer);
                let stays = !is_idle || owns || *consumer == sub.consumer;
                if !stays && !removed.contains(consumer) {
                    removed.push(consumer.clone());
                }
                stays
            });
        }
        Ok(removed)
    }

    async fn loss_window(&self) -> Result<Option<Duration>, Error> {
        Ok(None)
    }

    async fn ping(&self) -> Result<(), Error> {
        Ok(())
    }
}

fn group_info(name: &GroupName, group: &Group, stream: &Stream, now_ms: u64) -> GroupInfo {
    let consumer = |(name, seen_ms): (&ConsumerName, &u64)| ConsumerInfo {
        name: name.clone(),
        pending: group
            .pending
            .values()
            .filter(|pending| pending.owner == *name)
            .count() as u64,
        idle: Duration::from_millis(now_ms.saturating_sub(*seen_ms)),
    };
    GroupInfo {
        name: name.clone(),
        last_delivered: group.last_delivered,
        pending: group.pending.len() as u64,
        oldest_pending: group.pending.keys().next().copied(),
        lag: Some(stream.entries.range(group.last_delivered.next()..).count() as u64),
        consumers: group.consumers.iter().map(consumer).collect(),
    }
}

fn trim(stream: &mut Stream, retention: Retention, ignored: &[GroupName], now_ms: u64) -> Trimmed {
    let owed = stream
        .groups
        .iter()
        .filter(|(name, _)| !ignored.contains(name))
        .filter_map(|(name, group)| stream.owed_from(group).map(|id| (id, name.clone())));
    let floor = owed.min();
    let oldest_ms = retention.max_age.map(|age| {
        let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        now_ms.saturating_sub(age_ms)
    });
    let mut trimmed = Trimmed::default();
    while let Some((id, _)) = stream.entries.first_key_value() {
        let too_old = oldest_ms.is_some_and(|oldest_ms| id.ms < oldest_ms);
        let too_many = retention
            .max_len
            .is_some_and(|max| stream.entries.len() as u64 > max);
        if !too_old && !too_many {
            break;
        }
        if let Some((owed_from, group)) = &floor
            && id >= owed_from
        {
            trimmed.held_by = Some(group.clone());
            break;
        }
        stream.entries.pop_first();
        trimmed.removed += 1;
    }
    trimmed
}
