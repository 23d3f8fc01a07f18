//! Waiting rooms on the server: a list for each owner, and a sorted set of whose turn it is. All of
//! them lie in the slot of their lane.

use std::collections::HashMap;

use async_trait::async_trait;

use super::{RedisLog, delayed, error, reply};
use crate::entry::owned_fields;
use crate::policy::FIELDS_MAX;
use crate::rooms::{Door, Entered, Entrant, Room, Rooms};
use crate::{EntryId, Error, Lane, StreamName, Subscription};

/// Messages in one call of a script.
const CHUNK_MAX: usize = 100;

/// Bytes that one call lets onto a lane.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// Owners that share the turns of one call; the next call begins with the others.
const OWNERS_MAX: usize = 50;

fn turns_key(sub: &Subscription, lane: Lane) -> String {
    format!("{}:turns:{lane}", sub.lanes.tag())
}

fn room_key(sub: &Subscription, lane: Lane, owner: &str) -> String {
    format!("{}:room:{lane}:{owner}", sub.lanes.tag())
}

impl RedisLog {
    async fn enter_chunk(
        &self,
        sub: &Subscription,
        stream: &StreamName,
        entrants: &[&Entrant],
        door: Door,
    ) -> Result<Vec<Entered>, Error> {
        let lane = sub.lanes.lane_of(stream.as_str()).unwrap_or(Lane::Normal);
        let mut places: HashMap<&str, usize> = HashMap::new();
        let call = self.scripts.enter.call();
        let mut call = call.key(stream.as_str()).key(&turns_key(sub, lane));
        for entrant in entrants {
            if !places.contains_key(entrant.owner.as_str()) {
                call = call.key(&room_key(sub, lane, &entrant.owner));
                places.insert(&entrant.owner, places.len() + 1);
            }
        }
        call.push(sub.group.as_str());
        call.push(door.window);
        for entrant in entrants {
            let fields = owned_fields(&entrant.append);
            call.push(places.get(entrant.owner.as_str()).copied().unwrap_or(1));
            call.push(entrant.owner.as_str());
            call.push(delayed::pack(&fields));
        }
        let answers = self.valkey.run(&call).await.and_then(reply::array);
        let entered = |answer| {
            let text = reply::text(answer).map_err(error)?;
            if text.is_empty() {
                return Ok(Entered::Room);
            }
            let id: Result<EntryId, _> = text.parse();
            id.map(Entered::Lane)
                .map_err(|_| Error::refused("an answer that is no entry id"))
        };
        answers.map_err(error)?.into_iter().map(entered).collect()
    }

    /// Whose turn it is on each lane, first those that have waited longest. One round trip.
    async fn turns(&self, sub: &Subscription, max: usize) -> Result<Vec<Vec<String>>, Error> {
        let mut ranges = redis::pipe();
        for (lane, _) in sub.lanes.iter() {
            let range = ranges.cmd("ZRANGE").arg(turns_key(sub, lane));
            range.arg(0).arg(max.saturating_sub(1));
        }
        let names = |answer| {
            let owners = reply::array(answer)?.into_iter();
            owners.map(reply::text).collect::<Result<Vec<_>, _>>()
        };
        let answers = self.valkey.pipeline(&ranges).await.map_err(error)?;
        let lanes = answers.into_iter();
        lanes
            .map(|answer| answer.and_then(names).map_err(error))
            .collect()
    }

    async fn admit_to(
        &self,
        sub: &Subscription,
        (lane, stream): (Lane, &StreamName),
        owners: Vec<String>,
        door: Door,
        max: usize,
    ) -> Result<usize, Error> {
        let call = self.scripts.admit.call();
        let mut call = call.key(stream.as_str()).key(&turns_key(sub, lane));
        for owner in &owners {
            call = call.key(&room_key(sub, lane, owner));
        }
        call.push(sub.group.as_str());
        for bound in [door.window, door.turn, max, BYTES_MAX] {
            call.push(bound);
        }
        for owner in &owners {
            call.push(owner.as_str());
        }
        let admitted = self
            .valkey
            .run(&call)
            .await
            .and_then(|it| reply::number(&it));
        Ok(usize::try_from(admitted.map_err(error)?).unwrap_or(0))
    }
}

#[async_trait]
impl Rooms for RedisLog {
    async fn enter(
        &self,
        sub: &Subscription,
        entrants: &[Entrant],
        door: Door,
    ) -> Vec<Result<Entered, Error>> {
        let mut answers: Vec<Option<Result<Entered, Error>>> = Vec::new();
        answers.resize_with(entrants.len(), || None);
        let mut by_stream: HashMap<&StreamName, Vec<usize>> = HashMap::new();
        for (place, entrant) in entrants.iter().enumerate() {
            let fields = entrant.append.message.headers.len() + 2;
            if fields > FIELDS_MAX {
                let max = FIELDS_MAX;
                answers[place] = Some(Err(Error::TooManyFields { fields, max }));
            } else {
                by_stream
                    .entry(&entrant.append.stream)
                    .or_default()
                    .push(place);
            }
        }
        for (stream, places) in by_stream {
            for chunk in places.chunks(CHUNK_MAX) {
                let some: Vec<&Entrant> = chunk.iter().filter_map(|it| entrants.get(*it)).collect();
                let entered = self.enter_chunk(sub, stream, &some, door).await;
                for (index, place) in chunk.iter().enumerate() {
                    answers[*place] = Some(match &entered {
                        Ok(entered) => entered
                            .get(index)
                            .copied()
                            .ok_or_else(|| Error::refused("an answer too few")),
                        Err(error) => Err(error.again()),
                    });
                }
            }
        }
        let missing = || Err(Error::refused("an answer too few"));
        answers
            .into_iter()
            .map(|it| it.unwrap_or_else(missing))
            .collect()
    }

    async fn admit(
        &self,
        sub: &Subscription,
        door: Door,
        skip: &[String],
        max: usize,
    ) -> Result<usize, Error> {
        // Who is skipped keeps the first places, so as many more are asked for.
        let mut admitted = 0;
        let waiting = self.turns(sub, OWNERS_MAX + skip.len()).await?;
        for (to, mut owners) in sub.lanes.iter().zip(waiting) {
            owners.retain(|owner| !skip.contains(owner));
            let left = max.saturating_sub(admitted);
            if !owners.is_empty() && left > 0 {
                admitted += self.admit_to(sub, to, owners, door, left).await?;
            }
        }
        Ok(admitted)
    }

    async fn rooms(&self, sub: &Subscription, max: usize) -> Result<Vec<Room>, Error> {
        let mut rooms = Vec::new();
        let waiting = self.turns(sub, max).await?;
        for ((lane, _), owners) in sub.lanes.iter().zip(waiting) {
            let mut lengths = redis::pipe();
            for owner in &owners {
                lengths.cmd("LLEN").arg(room_key(sub, lane, owner));
            }
            if owners.is_empty() {
                continue;
            }
            let answers = self.valkey.pipeline(&lengths).await.map_err(error)?;
            for (owner, answer) in owners.into_iter().zip(answers) {
                let waiting = answer.and_then(|it| reply::number(&it)).map_err(error)?;
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
