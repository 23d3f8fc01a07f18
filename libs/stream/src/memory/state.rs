//! Streams, groups and retries as plain data. No time, no waiting: both come from outside.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;

use super::delivery::Post;
use crate::policy::FIELDS_MAX;
use crate::retry::{retry_fields, snooze_fields};
use crate::{
    Claimed, ConsumerName, Entry, EntryId, Error, FieldName, GroupName, Lane, LaneQuota,
    Settlement, StreamName, Subscription,
};

pub(super) type Fields = Vec<(FieldName, Bytes)>;

#[derive(Default)]
pub(super) struct State {
    pub(super) streams: HashMap<StreamName, Stream>,
    pub(super) delayed: HashMap<StreamName, Vec<Waiting>>,
    pub(super) lobbies: HashMap<StreamName, super::rooms::Lobby>,
    pub(super) owners: super::ownership::Owners,
    pub(super) failures: super::failed::Failures,
    pub(super) limits: HashMap<StreamName, (crate::limits::Rules, crate::limits::Usage)>,
    pub(super) posts: HashMap<StreamName, Post>,
}

#[derive(Default)]
pub(super) struct Stream {
    pub(super) entries: BTreeMap<EntryId, Fields>,
    pub(super) last: EntryId,
    pub(super) appended: u64,
    pub(super) groups: BTreeMap<GroupName, Group>,
}

#[derive(Default)]
pub(super) struct Group {
    pub(super) last_delivered: EntryId,
    pub(super) pending: BTreeMap<EntryId, Pending>,
    /// When each member last asked for anything, in milliseconds.
    pub(super) consumers: BTreeMap<ConsumerName, u64>,
}

pub(super) struct Pending {
    pub(super) owner: ConsumerName,
    /// When it was delivered or touched; 0 after it was handed back.
    touched_ms: u64,
    deliveries: u32,
}

pub(super) struct Waiting {
    pub(super) due_ms: u64,
    pub(super) lane: Lane,
    pub(super) group: GroupName,
    pub(super) first_entry: EntryId,
    fields: Fields,
}

// === impl Stream ===

impl Stream {
    pub(super) fn push(&mut self, now_ms: u64, fields: Fields) -> EntryId {
        let id = EntryId::new(now_ms, 0).max(self.last.next());
        self.entries.insert(id, fields);
        self.last = id;
        self.appended += 1;
        id
    }

    pub(super) fn cut_to(&mut self, max_len: u64) {
        while self.entries.len() as u64 > max_len {
            self.entries.pop_first();
        }
    }

    /// The oldest entry that a group still needs.
    pub(super) fn owed_from(&self, group: &Group) -> Option<EntryId> {
        let pending = group.pending.keys().next().copied();
        let undelivered = self
            .entries
            .range(group.last_delivered.next()..)
            .next()
            .map(|(id, _)| *id);
        pending.into_iter().chain(undelivered).min()
    }
}

// === impl State ===

impl State {
    pub(super) fn stream_mut(&mut self, name: &StreamName) -> &mut Stream {
        self.streams.entry(name.clone()).or_default()
    }

    pub(super) fn last_id(&self, name: &StreamName) -> EntryId {
        self.streams
            .get(name)
            .map_or(EntryId::MIN, |stream| stream.last)
    }

    pub(super) fn lose_entry(&mut self, name: &StreamName, id: EntryId) {
        if let Some(stream) = self.streams.get_mut(name) {
            stream.entries.remove(&id);
        }
    }

    pub(super) fn range(&self, name: &StreamName, from: EntryId, max: usize) -> Vec<Entry> {
        let Some(stream) = self.streams.get(name) else {
            return Vec::new();
        };
        let found = stream.entries.range(from..).take(max);
        found
            .map(|(id, fields)| entry(name, Lane::Normal, *id, 0, fields))
            .collect()
    }

    pub(super) fn read(
        &mut self,
        sub: &Subscription,
        quota: LaneQuota,
        now_ms: u64,
    ) -> Result<Vec<Entry>, Error> {
        let name = sub.lanes.stream(quota.lane);
        let (stream, group) = self.group_mut(name, sub)?;
        group.consumers.insert(sub.consumer.clone(), now_ms);
        let fresh = stream.range(group.last_delivered.next()..).take(quota.max);
        let entries: Vec<Entry> = fresh
            .map(|(id, fields)| entry(name, quota.lane, *id, 1, fields))
            .collect();
        for entry in &entries {
            let owner = sub.consumer.clone();
            group.pending.insert(
                entry.id,
                Pending {
                    owner,
                    touched_ms: now_ms,
                    deliveries: 1,
                },
            );
            group.last_delivered = entry.id;
        }
        Ok(entries)
    }

    pub(super) fn claim_idle(
        &mut self,
        sub: &Subscription,
        lane: Lane,
        cursor: EntryId,
        idle: Duration,
        max: usize,
        now_ms: u64,
    ) -> Result<Claimed, Error> {
        let idle_ms = u64::try_from(idle.as_millis()).unwrap_or(u64::MAX);
        let name = sub.lanes.stream(lane);
        let (stream, group) = self.group_mut(name, sub)?;
        group.consumers.insert(sub.consumer.clone(), now_ms);
        let mut claimed = Claimed::default();
        let mut taken = Vec::new();
        for (id, pending) in group.pending.range_mut(cursor..) {
            if now_ms.saturating_sub(pending.touched_ms) < idle_ms {
                continue;
            }
            if taken.len() == max {
                claimed.next = *id;
                break;
            }
            taken.push(*id);
            if let Some(fields) = stream.get(id) {
                pending.owner = sub.consumer.clone();
                pending.touched_ms = now_ms;
                pending.deliveries += 1;
                claimed
                    .entries
                    .push(entry(name, lane, *id, pending.deliveries, fields));
            } else {
                claimed.vanished.push(*id);
            }
        }
        Ok(claimed)
    }

    pub(super) fn claim_own(
        &mut self,
        sub: &Subscription,
        lane: Lane,
        wanted: impl Fn(&EntryId) -> bool,
        max: usize,
        now_ms: u64,
    ) -> Result<Claimed, Error> {
        let name = sub.lanes.stream(lane);
        let (stream, group) = self.group_mut(name, sub)?;
        let mut claimed = Claimed::default();
        let own = group
            .pending
            .iter_mut()
            .filter(|(id, pending)| pending.owner == sub.consumer && wanted(id));
        for (id, pending) in own.take(max) {
            if let Some(fields) = stream.get(id) {
                pending.touched_ms = now_ms;
                claimed
                    .entries
                    .push(entry(name, lane, *id, pending.deliveries, fields));
            } else {
                claimed.vanished.push(*id);
            }
        }
        Ok(claimed)
    }

    /// False when another took or settled the entry. One that is nowhere any more is not lost to
    /// others: its holder has the last copy.
    pub(super) fn touch(
        &mut self,
        sub: &Subscription,
        lane: Lane,
        id: EntryId,
        now_ms: u64,
    ) -> bool {
        match self.own_pending(sub, lane, id) {
            Some(pending) => {
                pending.touched_ms = now_ms;
                true
            }
            None => self.is_gone(sub, lane, id),
        }
    }

    pub(super) fn settle(
        &mut self,
        sub: &Subscription,
        settlement: &Settlement<'_>,
        now_ms: u64,
    ) -> Result<(), Error> {
        match settlement {
            Settlement::Ack { lane, id } => {
                if let Ok((_, group)) = self.group_mut(sub.lanes.stream(*lane), sub) {
                    group.pending.remove(id);
                }
            }
            Settlement::Delay {
                entry,
                wait,
                failed_at,
            } => {
                let fields = retry_fields(entry, &sub.group, *failed_at);
                self.delay(sub, entry, *wait, fields, now_ms)?;
            }
            Settlement::Snooze { entry, wait } => {
                let fields = snooze_fields(entry, &sub.group);
                self.delay(sub, entry, *wait, fields, now_ms)?;
            }
            Settlement::Bury { entry, view } => {
                if self.take_own(sub, entry)
                    && let Some(view) = view
                {
                    let fields = crate::entry::owned_fields(view);
                    self.stream_mut(&view.stream).push(now_ms, fields);
                }
            }
            Settlement::Release {
                lane,
                id,
                deliveries,
                to: _,
            } => {
                if let Some(pending) = self.own_pending(sub, *lane, *id) {
                    pending.touched_ms = 0;
                    pending.deliveries = deliveries.saturating_sub(1);
                }
            }
        }
        Ok(())
    }

    fn delay(
        &mut self,
        sub: &Subscription,
        entry: &Entry,
        wait: Duration,
        fields: Fields,
        now_ms: u64,
    ) -> Result<(), Error> {
        if entry.fields.len() > FIELDS_MAX {
            let (fields, max) = (entry.fields.len(), FIELDS_MAX);
            return Err(Error::TooManyFields { fields, max });
        }
        if self.take_own(sub, entry) || self.is_gone(sub, entry.lane, entry.id) {
            let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            let waiting = Waiting {
                due_ms: now_ms.saturating_add(wait_ms),
                lane: entry.lane,
                group: sub.group.clone(),
                first_entry: entry.first_entry(),
                fields,
            };
            let set = sub.lanes.delayed().clone();
            self.delayed.entry(set).or_default().push(waiting);
        }
        Ok(())
    }

    pub(super) fn promote(&mut self, sub: &Subscription, max: usize, now_ms: u64) -> usize {
        let retries = self.promote_retries(sub, max, now_ms);
        retries + self.promote_scheduled(&sub.lanes, max - retries, now_ms)
    }

    fn promote_retries(&mut self, sub: &Subscription, max: usize, now_ms: u64) -> usize {
        let Some(waiting) = self.delayed.get_mut(sub.lanes.delayed()) else {
            return 0;
        };
        waiting.sort_by_key(|waiting| waiting.due_ms);
        let due = waiting
            .iter()
            .take(max)
            .take_while(|one| one.due_ms <= now_ms)
            .count();
        let due: Vec<Waiting> = waiting.drain(..due).collect();
        let count = due.len();
        for one in due {
            self.stream_mut(sub.lanes.stream(one.lane))
                .push(now_ms, one.fields);
        }
        count
    }

    /// The entries of the stream beside the group, so that both can be used at once.
    fn group_mut(
        &mut self,
        name: &StreamName,
        sub: &Subscription,
    ) -> Result<(&BTreeMap<EntryId, Fields>, &mut Group), Error> {
        let missing = || Error::NoGroup {
            stream: name.clone(),
            group: sub.group.clone(),
        };
        let stream = self.streams.get_mut(name).ok_or_else(missing)?;
        let group = stream.groups.get_mut(&sub.group).ok_or_else(missing)?;
        Ok((&stream.entries, group))
    }

    fn own_pending(&mut self, sub: &Subscription, lane: Lane, id: EntryId) -> Option<&mut Pending> {
        let (_, group) = self.group_mut(sub.lanes.stream(lane), sub).ok()?;
        group
            .pending
            .get_mut(&id)
            .filter(|pending| pending.owner == sub.consumer)
    }

    /// Acknowledges an entry if it is this consumer's.
    fn take_own(&mut self, sub: &Subscription, entry: &Entry) -> bool {
        if self.own_pending(sub, entry.lane, entry.id).is_none() {
            return false;
        }
        match self.group_mut(sub.lanes.stream(entry.lane), sub) {
            Ok((_, group)) => group.pending.remove(&entry.id).is_some(),
            Err(_) => false,
        }
    }

    /// Nobody owns it and the stream lost it: what the consumer holds is the last copy.
    fn is_gone(&mut self, sub: &Subscription, lane: Lane, id: EntryId) -> bool {
        match self.group_mut(sub.lanes.stream(lane), sub) {
            Ok((entries, group)) => !group.pending.contains_key(&id) && !entries.contains_key(&id),
            Err(_) => true,
        }
    }
}

fn entry(stream: &StreamName, lane: Lane, id: EntryId, deliveries: u32, fields: &Fields) -> Entry {
    Entry {
        stream: stream.clone(),
        lane,
        id,
        deliveries,
        fields: fields.clone(),
    }
}
