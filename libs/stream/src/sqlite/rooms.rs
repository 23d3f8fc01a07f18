//! Waiting rooms in the file: a row for each message that waits, and one for each owner's turn.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use bytes::Bytes;
use ratebox_db::{Column, Tx};

use super::codec::{encode, id};
use super::{SqliteLog, first, sql, text};
use crate::entry::fields_to_append;
use crate::rooms::{Door, Entered, Entrant, Room, Rooms};
use crate::{Error, StreamName, Subscription};

/// A message in a room: its number, its owner, its fields.
type Waiting = (i64, String, Bytes);

impl SqliteLog {
    /// How many more entries make the lane no longer short.
    async fn room_on(
        &self,
        tx: &mut Tx,
        stream: &StreamName,
        sub: &Subscription,
        door: Door,
    ) -> Result<usize, Error> {
        let values = vec![text(stream), sub.group.as_str().into(), door.window.into()];
        let lag: i64 = first(&tx.query(sql::LAG.with(values)).await?, 0)?;
        Ok(door
            .window
            .saturating_sub(usize::try_from(lag).unwrap_or(0)))
    }

    async fn try_enter(
        &self,
        sub: &Subscription,
        entrants: &[Entrant],
        door: Door,
    ) -> Result<Vec<Entered>, Error> {
        let mut tx = self.db.begin().await?;
        let mut room_on: HashMap<&StreamName, usize> = HashMap::new();
        let mut waiting: HashSet<(&StreamName, String)> = HashSet::new();
        let (mut streams, mut fields, mut entered) = (Vec::new(), Vec::new(), Vec::new());
        let mut waits: [Vec<String>; 2] = Default::default();
        let mut kept: Vec<Bytes> = Vec::new();
        for entrant in entrants {
            let stream = &entrant.append.stream;
            if !room_on.contains_key(stream) {
                let room = self.room_on(&mut tx, stream, sub, door).await?;
                room_on.insert(stream, room);
                for row in tx.query(sql::TURNS.with(vec![text(stream)])).await? {
                    waiting.insert((stream, row.get(0)?));
                }
            }
            let room = room_on.entry(stream).or_default();
            let packed = encode(fields_to_append(&entrant.append));
            if *room > 0 && !waiting.contains(&(stream, entrant.owner.clone())) {
                *room -= 1;
                streams.push(stream.to_string());
                fields.push(packed);
                entered.push(true);
            } else {
                waiting.insert((stream, entrant.owner.clone()));
                let [of_streams, owners] = &mut waits;
                of_streams.push(stream.to_string());
                owners.push(entrant.owner.clone());
                kept.push(packed);
                entered.push(false);
            }
        }
        let mut drawn = self.push(&mut tx, streams, fields).await?.into_iter();
        let [of_streams, owners] = waits;
        let places = vec![
            Column::Text(of_streams.clone()),
            Column::Text(owners.clone()),
        ];
        tx.execute(sql::TAKE_TURN.rows(places, Vec::new())?).await?;
        let columns = vec![
            Column::Text(of_streams),
            Column::Text(owners),
            Column::Bytes(kept),
        ];
        tx.execute(sql::WAIT.rows(columns, Vec::new())?).await?;
        tx.commit().await?;
        self.appended.notify_waiters();
        let place = |is_on_lane| match is_on_lane {
            true => drawn
                .next()
                .map_or(Entered::Room, |(key, _)| Entered::Lane(id(key))),
            false => Entered::Room,
        };
        Ok(entered.into_iter().map(place).collect())
    }

    /// Picks who goes onto the lane: turns of the owners, those first who had least.
    async fn pick(
        &self,
        tx: &mut Tx,
        stream: &StreamName,
        door: Door,
        skip: &[String],
        left: usize,
    ) -> Result<Vec<Waiting>, Error> {
        let mut rooms: Vec<(i64, String, Vec<Waiting>)> = Vec::new();
        for row in tx.query(sql::TURNS.with(vec![text(stream)])).await? {
            let (owner, turn): (String, i64) = (row.get(0)?, row.get(1)?);
            if skip.contains(&owner) {
                continue;
            }
            let values = vec![text(stream), owner.as_str().into(), left.into()];
            let mut room = Vec::new();
            for row in tx.query(sql::IN_ROOM.with(values)).await? {
                room.push((row.get(0)?, owner.clone(), row.get(1)?));
            }
            room.reverse();
            rooms.push((turn, owner, room));
        }
        let mut picked = Vec::new();
        while picked.len() < left
            && let Some((turn, _, room)) = rooms
                .iter_mut()
                .filter(|(_, _, room)| !room.is_empty())
                .min_by_key(|(turn, owner, _)| (*turn, owner.clone()))
        {
            let count = door.turn.max(1).min(left - picked.len()).min(room.len());
            *turn += i64::try_from(count).unwrap_or(0);
            let from = room.len() - count;
            picked.extend(room.drain(from..).rev());
        }
        Ok(picked)
    }

    async fn admit_to(
        &self,
        sub: &Subscription,
        stream: &StreamName,
        door: Door,
        skip: &[String],
        max: usize,
    ) -> Result<usize, Error> {
        let waits = self.db.query(sql::TURNS.with(vec![text(stream)])).await?;
        if waits.is_empty() {
            return Ok(0);
        }
        let mut tx = self.db.begin().await?;
        let left = self.room_on(&mut tx, stream, sub, door).await?.min(max);
        let picked = self.pick(&mut tx, stream, door, skip, left).await?;
        let count = picked.len();
        let owners: Vec<String> = picked.iter().map(|(_, owner, _)| owner.clone()).collect();
        let numbers: Vec<i64> = picked.iter().map(|(number, ..)| *number).collect();
        let streams = vec![stream.to_string(); count];
        let fields = picked.into_iter().map(|(_, _, fields)| fields).collect();
        self.push(&mut tx, streams, fields).await?;
        tx.execute(sql::LEAVE_ROOM.rows(vec![Column::Int(numbers)], Vec::new())?)
            .await?;
        let had = sql::HAD_TURN.rows(vec![Column::Text(owners)], vec![text(stream)])?;
        tx.commit_after(vec![had, sql::EMPTY_ROOMS.with(vec![text(stream)])])
            .await?;
        self.appended.notify_waiters();
        Ok(count)
    }
}

#[async_trait]
impl Rooms for SqliteLog {
    async fn enter(
        &self,
        sub: &Subscription,
        entrants: &[Entrant],
        door: Door,
    ) -> Vec<Result<Entered, Error>> {
        if entrants.is_empty() {
            return Vec::new();
        }
        match self.try_enter(sub, entrants, door).await {
            Ok(entered) => entered.into_iter().map(Ok).collect(),
            // One transaction: all or none.
            Err(error) => entrants.iter().map(|_| Err(error.again())).collect(),
        }
    }

    async fn admit(
        &self,
        sub: &Subscription,
        door: Door,
        skip: &[String],
        max: usize,
    ) -> Result<usize, Error> {
        let mut admitted = 0;
        for (_, stream) in sub.lanes.iter() {
            let left = max.saturating_sub(admitted);
            admitted += self.admit_to(sub, stream, door, skip, left).await?;
        }
        Ok(admitted)
    }

    async fn rooms(&self, sub: &Subscription, max: usize) -> Result<Vec<Room>, Error> {
        let mut rooms = Vec::new();
        for (lane, stream) in sub.lanes.iter() {
            let values = vec![text(stream), max.into()];
            for row in self.db.query(sql::ROOMS.with(values)).await? {
                let (owner, waiting): (String, i64) = (row.get(0)?, row.get(1)?);
                let waiting = u64::try_from(waiting).unwrap_or(0);
                rooms.push(Room {
                    lane,
                    owner,
                    waiting,
                });
            }
        }
        Ok(rooms)
    }
}
