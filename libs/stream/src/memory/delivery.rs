//! The second port in memory: schedule, keys, figures.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use async_trait::async_trait;
use ratebox_kit::{MessageId, Timestamp};

use super::MemoryLog;
use super::state::{Fields, State};
use crate::control::TOO_MANY_ORDERS;
use crate::entry::owned_fields_of;
use crate::policy::FIELDS_MAX;
use crate::{
    Bounds, Dispatch, Dispatcher, Error, Lane, Lanes, Load, ORDERS_MAX, Order, Place, Receipt,
    Scheduled, Sent, When,
};

/// What is kept beside the lanes of one name.
#[derive(Default)]
pub(super) struct Post {
    /// By due time, lane and message id.
    scheduled: BTreeMap<(u64, Lane, String), Fields>,
    /// When a lane's message is due.
    due_ms: HashMap<(Lane, String), u64>,
    /// The first of each key.
    once: HashMap<String, Receipt>,
    /// Until when a key is remembered.
    until_ms: BTreeSet<(u64, String)>,
    /// By name, until when; `None` has no end.
    orders: BTreeMap<String, Option<u64>>,
    /// By message id, until when.
    notes: BTreeMap<String, (u64, String)>,
}

// === impl Post ===

impl Post {
    fn schedule(&mut self, due_ms: u64, lane: Lane, id: &str, fields: Fields) {
        self.unschedule(lane, id);
        self.scheduled.insert((due_ms, lane, id.to_owned()), fields);
        self.due_ms.insert((lane, id.to_owned()), due_ms);
    }

    fn unschedule(&mut self, lane: Lane, id: &str) -> bool {
        let Some(due_ms) = self.due_ms.remove(&(lane, id.to_owned())) else {
            return false;
        };
        let slot = (due_ms, lane, id.to_owned());
        self.scheduled.remove(&slot).is_some()
    }

    /// Drops orders and notes whose time is over.
    fn tidy(&mut self, now_ms: u64) {
        let ends = |until_ms: u64| until_ms <= now_ms;
        self.orders
            .retain(|_, until_ms| !until_ms.is_some_and(ends));
        self.notes.retain(|_, (until_ms, _)| !ends(*until_ms));
    }

    fn take_due(&mut self, now_ms: u64) -> Option<(Lane, Fields)> {
        let first = self.scheduled.first_entry()?;
        if first.key().0 > now_ms {
            return None;
        }
        let ((_, lane, id), fields) = first.remove_entry();
        self.due_ms.remove(&(lane, id));
        Some((lane, fields))
    }

    /// Drops the keys whose window is over, then looks for one.
    fn first_of(&mut self, key: &str, now_ms: u64) -> Option<Receipt> {
        while let Some((until_ms, _)) = self.until_ms.first()
            && *until_ms <= now_ms
            && let Some((_, gone)) = self.until_ms.pop_first()
        {
            self.once.remove(&gone);
        }
        self.once.get(key).cloned()
    }

    /// Whether a message of the lane waits for its time.
    pub(super) fn holds(&self, lane: Lane) -> bool {
        self.scheduled.keys().any(|(_, of, _)| *of == lane)
    }

    fn remember(&mut self, key: &str, until_ms: u64, receipt: &Receipt) {
        self.once.insert(key.to_owned(), receipt.clone());
        self.until_ms.insert((until_ms, key.to_owned()));
    }
}

// === impl State ===

impl State {
    fn post_mut(&mut self, lanes: &Lanes) -> &mut Post {
        self.posts.entry(lanes.base().clone()).or_default()
    }

    pub(super) fn promote_scheduled(&mut self, lanes: &Lanes, max: usize, now_ms: u64) -> usize {
        for promoted in 0..max {
            let post = self.posts.get_mut(lanes.base());
            let Some((lane, fields)) = post.and_then(|post| post.take_due(now_ms)) else {
                return promoted;
            };
            self.stream_mut(lanes.stream(lane)).push(now_ms, fields);
        }
        max
    }

    fn send(&mut self, lanes: &Lanes, dispatch: &Dispatch, now_ms: u64) -> Result<Sent, Error> {
        let fields = owned_fields_of(&dispatch.message);
        if fields.len() > FIELDS_MAX {
            let (fields, max) = (fields.len(), FIELDS_MAX);
            return Err(Error::TooManyFields { fields, max });
        }
        let once = dispatch.dedupe.as_ref();
        if let Some(once) = once
            && let Some(first) = self.post_mut(lanes).first_of(&once.key, now_ms)
        {
            return Ok(Sent::Duplicate(first));
        }
        let due_ms = match dispatch.when {
            When::Now => 0,
            When::After(wait) => now_ms.saturating_add(millis(wait)),
            When::At(due) => u64::try_from(due.as_millisecond()).unwrap_or(0),
        };
        let lane = lanes.existing(dispatch.lane);
        let place = if due_ms > now_ms {
            let post = self.post_mut(lanes);
            post.schedule(due_ms, lane, &dispatch.message.id.0, fields);
            Place::Schedule(timestamp(due_ms))
        } else {
            Place::Stream(self.stream_mut(lanes.stream(lane)).push(now_ms, fields))
        };
        let message_id = dispatch.message.id.clone();
        let receipt = Receipt { message_id, place };
        if let Some(once) = once {
            let until_ms = now_ms.saturating_add(millis(once.window).max(1));
            self.post_mut(lanes).remember(&once.key, until_ms, &receipt);
        }
        Ok(Sent::Accepted(receipt))
    }

    fn load(&self, lanes: &Lanes, lane: Lane) -> Load {
        let post = self.posts.get(lanes.base());
        let mut load = Load {
            scheduled: post.map_or(0, |post| post.scheduled.len() as u64),
            ..Load::default()
        };
        let Some(stream) = self.streams.get(lanes.stream(lane)) else {
            return load;
        };
        let of_entry = |fields: &Fields| -> usize {
            let sizes = fields.iter().map(|(name, value)| name.len() + value.len());
            sizes.sum()
        };
        load.bytes = stream.entries.values().map(of_entry).sum::<usize>() as u64;
        let owed = stream.groups.values().map(|group| {
            let fresh = stream.entries.range(group.last_delivered.next()..);
            fresh.count() + group.pending.len()
        });
        load.depth = owed.max().unwrap_or(stream.entries.len()) as u64;
        load
    }
}

#[async_trait]
impl Dispatcher for MemoryLog {
    async fn send(&self, lanes: &Lanes, dispatches: &[Dispatch]) -> Vec<Result<Sent, Error>> {
        let now_ms = self.now_ms();
        let mut state = self.state();
        let send = |dispatch| state.send(lanes, dispatch, now_ms);
        let sent = dispatches.iter().map(send).collect();
        drop(state);
        self.appended.notify_waiters();
        sent
    }

    async fn scheduled(
        &self,
        lanes: &Lanes,
        skip: usize,
        max: usize,
    ) -> Result<Vec<Scheduled>, Error> {
        let state = self.state();
        let post = state.posts.get(lanes.base());
        let waiting = post.into_iter().flat_map(|post| post.scheduled.keys());
        let scheduled = |(due_ms, lane, id): &(u64, Lane, String)| Scheduled {
            message_id: MessageId(id.clone()),
            lane: *lane,
            due: timestamp(*due_ms),
        };
        Ok(waiting.skip(skip).take(max).map(scheduled).collect())
    }

    async fn unschedule(&self, lanes: &Lanes, message_id: &str) -> Result<bool, Error> {
        let mut state = self.state();
        let post = state.post_mut(lanes);
        let removed = lanes
            .iter()
            .map(|(lane, _)| post.unschedule(lane, message_id));
        Ok(removed.fold(false, |any, one| any | one))
    }

    async fn load(&self, lanes: &Lanes, lane: Lane, _limits: &Bounds) -> Result<Load, Error> {
        Ok(self.state().load(lanes, lane))
    }

    async fn order(&self, lanes: &Lanes, name: &str, time: Option<Duration>) -> Result<(), Error> {
        let now_ms = self.now_ms();
        let mut state = self.state();
        let post = state.post_mut(lanes);
        post.tidy(now_ms);
        if post.orders.len() >= ORDERS_MAX && !post.orders.contains_key(name) {
            return Err(Error::refused(TOO_MANY_ORDERS));
        }
        let until_ms = time.map(|time| now_ms.saturating_add(millis(time)));
        post.orders.insert(name.to_owned(), until_ms);
        Ok(())
    }

    async fn withdraw(&self, lanes: &Lanes, name: &str) -> Result<bool, Error> {
        let now_ms = self.now_ms();
        let mut state = self.state();
        let post = state.post_mut(lanes);
        post.tidy(now_ms);
        Ok(post.orders.remove(name).is_some())
    }

    async fn orders(&self, lanes: &Lanes) -> Result<Vec<Order>, Error> {
        let now_ms = self.now_ms();
        let mut state = self.state();
        let post = state.post_mut(lanes);
        post.tidy(now_ms);
        let order = |(name, until_ms): (&String, &Option<u64>)| Order {
            name: name.clone(),
            left: until_ms.map(|until_ms| Duration::from_millis(until_ms - now_ms)),
        };
        Ok(post.orders.iter().map(order).collect())
    }

    async fn note(
        &self,
        lanes: &Lanes,
        message_id: &str,
        value: &str,
        keep: Duration,
    ) -> Result<(), Error> {
        let now_ms = self.now_ms();
        let mut state = self.state();
        let post = state.post_mut(lanes);
        post.tidy(now_ms);
        let note = (now_ms.saturating_add(millis(keep).max(1)), value.to_owned());
        post.notes.insert(message_id.to_owned(), note);
        Ok(())
    }

    async fn noted(&self, lanes: &Lanes, message_id: &str) -> Result<Option<String>, Error> {
        let now_ms = self.now_ms();
        let mut state = self.state();
        let post = state.post_mut(lanes);
        post.tidy(now_ms);
        Ok(post.notes.get(message_id).map(|(_, value)| value.clone()))
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn timestamp(ms: u64) -> Timestamp {
    let ms = i64::try_from(ms).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX)
}
