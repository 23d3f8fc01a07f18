//! Waiting rooms in memory.

use std::collections::{BTreeMap, VecDeque};

use async_trait::async_trait;
use bytes::Bytes;

use super::MemoryLog;
use super::state::State;
use crate::entry::owned_fields;
use crate::rooms::{Door, Entered, Entrant, Room, Rooms};
use crate::{Error, FieldName, StreamName, Subscription};

/// The rooms of a lane: of each owner what waits, and how much of him was let in.
pub(super) type Lobby = BTreeMap<String, (u64, VecDeque<Vec<(FieldName, Bytes)>>)>;

impl State {
    /// How many more entries make the lane no longer short.
    fn room_on(&self, stream: &StreamName, sub: &Subscription, door: Door) -> usize {
        let lag = self.streams.get(stream).map_or(0, |stream| {
            let read = stream
                .groups
                .get(&sub.group)
                .map(|group| group.last_delivered);
            let from = read.map_or(crate::EntryId::MIN, crate::EntryId::next);
            stream.entries.range(from..).count()
        });
        door.window.saturating_sub(lag)
    }

    /// The owner whose turn it is, of those that are not skipped.
    fn next_owner(&self, stream: &StreamName, skip: &[String]) -> Option<String> {
        let waiting = self.lobbies.get(stream)?.iter();
        let waiting = waiting.filter(|(owner, _)| !skip.contains(owner));
        let next = waiting.min_by_key(|(_, (turn, _))| *turn)?;
        Some(next.0.clone())
    }
}

#[async_trait]
impl Rooms for MemoryLog {
    async fn enter(
        &self,
        sub: &Subscription,
        entrants: &[Entrant],
        door: Door,
    ) -> Vec<Result<Entered, Error>> {
        let now_ms = self.now_ms();
        let mut state = self.state();
        let enter = |entrant: &Entrant| {
            let stream = &entrant.append.stream;
            let fields = owned_fields(&entrant.append);
            let room = state.room_on(stream, sub, door);
            let lobby = state.lobbies.entry(stream.clone()).or_default();
            if room > 0 && !lobby.contains_key(&entrant.owner) {
                return Ok(Entered::Lane(state.stream_mut(stream).push(now_ms, fields)));
            }
            let first = lobby.values().map(|(turn, _)| *turn).min().unwrap_or(0);
            let of = lobby.entry(entrant.owner.clone());
            of.or_insert_with(|| (first, VecDeque::new()))
                .1
                .push_back(fields);
            Ok(Entered::Room)
        };
        let entered = entrants.iter().map(enter).collect();
        drop(state);
        self.appended.notify_waiters();
        entered
    }

    async fn admit(
        &self,
        sub: &Subscription,
        door: Door,
        skip: &[String],
        max: usize,
    ) -> Result<usize, Error> {
        let now_ms = self.now_ms();
        let mut state = self.state();
        let mut admitted = 0;
        for (_, stream) in sub.lanes.iter() {
            let mut left = state.room_on(stream, sub, door).min(max - admitted);
            while left > 0
                && let Some(owner) = state.next_owner(stream, skip)
            {
                let lobby = state.lobbies.entry(stream.clone()).or_default();
                let Some((turn, room)) = lobby.get_mut(&owner) else {
                    break;
                };
                let count = door.turn.max(1).min(left).min(room.len());
                *turn += count as u64;
                let messages: Vec<_> = room.drain(..count).collect();
                if room.is_empty() {
                    lobby.remove(&owner);
                }
                for fields in messages {
                    state.stream_mut(stream).push(now_ms, fields);
                }
                (left, admitted) = (left - count, admitted + count);
            }
        }
        drop(state);
        self.appended.notify_waiters();
        Ok(admitted)
    }

    async fn rooms(&self, sub: &Subscription, max: usize) -> Result<Vec<Room>, Error> {
        let state = self.state();
        let mut rooms = Vec::new();
        for (lane, stream) in sub.lanes.iter() {
            let lobby = state.lobbies.get(stream).into_iter().flatten();
            rooms.extend(lobby.take(max).map(|(owner, (_, room))| Room {
                lane,
                owner: owner.clone(),
                waiting: room.len() as u64,
            }));
        }
        Ok(rooms)
    }
}
