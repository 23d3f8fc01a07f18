//! The operator's side of the log on Redis and Valkey.

use std::time::Duration;

use async_trait::async_trait;
use ratebox_valkey::Error as ValkeyError;
use redis::{Value, cmd, pipe};

use super::{RedisLog, delayed, error, reply};
use crate::{
    Admin, ConsumerInfo, ConsumerName, Delayed, Entry, EntryId, Error, FLOOR_SCAN_MAX, GroupInfo,
    GroupName, Lane, LaneFloor, Retention, StreamInfo, StreamName, Subscription, Trimmed,
};

/// Rounds of one trim; what is left goes with the next.
const TRIM_ROUNDS: usize = 50;

/// How a trim goes: whole nodes of a thousand entries in all at a time, a tenth of a millisecond,
/// so that nobody waits for long; where a node is larger than that, as the server likes; then the
/// rest of one node.
const TRIM_STEPS: [(&str, u64); 3] = [("~", 1_000), ("~", 0), ("=", 0)];

/// Between two steps: others have the server to themselves meanwhile, so that a trim of a second's work
/// is no row of commands that an urgent entry waits behind.
const TRIM_REST: Duration = Duration::from_millis(1);

/// Entries counted from the front in one round, where no mark tells the place.
const COUNT_MAX: u64 = 2_000;

#[async_trait]
impl Admin for RedisLog {
    async fn info(&self, stream: &StreamName) -> Result<Option<StreamInfo>, Error> {
        self.stream_info(stream).await.map_err(error)
    }

    async fn floor(&self, sub: &Subscription) -> Result<Vec<LaneFloor>, Error> {
        // First the schedule and the rooms: what leaves them afterwards is on its lane when the floor
        // is read.
        let mut crowded = self.lanes_scheduled(&sub.lanes).await?;
        crowded.extend(self.crowded(sub).await?);
        let mut call = self.scripts.floor.call().key(sub.lanes.delayed().as_str());
        for (_, stream) in sub.lanes.iter() {
            call = call.key(stream.as_str());
        }
        let call = call.arg(sub.group.as_str()).arg(FLOOR_SCAN_MAX);
        let answer = self.valkey.run(&call).await.map_err(error)?;
        let mut floors = floors(sub, answer).map_err(error)?;
        for floor in floors.iter_mut().filter(|it| crowded.contains(&it.lane)) {
            floor.owed_from = Some(EntryId::MIN);
        }
        Ok(floors)
    }

    async fn trim_but(
        &self,
        stream: &StreamName,
        retention: Retention,
        ignored: &[GroupName],
    ) -> Result<Trimmed, Error> {
        let mut total = Trimmed::default();
        for _ in 0..TRIM_ROUNDS {
            let round = self.trim_once(stream, retention, ignored).await;
            let (round, more) = round.map_err(error)?;
            total.removed += round.removed;
            total.held_by = round.held_by;
            if !more || total.held_by.is_some() {
                break;
            }
        }
        Ok(total)
    }

    async fn bytes(&self, stream: &StreamName) -> Result<u64, Error> {
        let mut usage = cmd("MEMORY");
        usage.arg("USAGE").arg(stream.as_str());
        let answer = self.valkey.query(&usage).await.map_err(error)?;
        match answer {
            Value::Nil => Ok(0),
            bytes => reply::number(&bytes).map_err(error),
        }
    }

    async fn make_group(
        &self,
        stream: &StreamName,
        group: &GroupName,
        from: EntryId,
    ) -> Result<bool, Error> {
        let mut create = cmd("XGROUP");
        create.arg("CREATE").arg(stream.as_str());
        create.arg(group.as_str()).arg(from.before().to_string());
        create.arg("MKSTREAM");
        match self.valkey.query(&create).await {
            Err(ValkeyError::Command { code, .. }) if code == "BUSYGROUP" => Ok(false),
            answer => answer.map(|_| true).map_err(error),
        }
    }

    async fn peek(
        &self,
        stream: &StreamName,
        from: EntryId,
        max: usize,
    ) -> Result<Vec<Entry>, Error> {
        let mut range = cmd("XRANGE");
        range
            .arg(stream.as_str())
            .arg(from.to_string())
            .arg("+")
            .arg("COUNT")
            .arg(max);
        let answer = self.valkey.query(&range).await;
        answer
            .and_then(|value| reply::entries(value, stream, Lane::Normal, 0))
            .map_err(error)
    }

    async fn delayed(&self, sub: &Subscription) -> Result<Delayed, Error> {
        let set = sub.lanes.delayed().as_str();
        let mut asked = pipe();
        asked.cmd("TIME");
        asked.cmd("ZCARD").arg(set);
        asked.cmd("ZRANGE").arg(set).arg(0).arg(0).arg("WITHSCORES");
        let answers = self.valkey.pipeline(&asked).await.map_err(error)?;
        delayed_of(answers).map_err(error)
    }

    async fn remove_dead_consumers(
        &self,
        sub: &Subscription,
        idle: Duration,
    ) -> Result<Vec<ConsumerName>, Error> {
        let mut removed = Vec::new();
        for (_, stream) in sub.lanes.iter() {
            let call = self.scripts.remove_dead.call().key(stream.as_str());
            let idle_ms = u64::try_from(idle.as_millis()).unwrap_or(u64::MAX);
            let call = call
                .arg(sub.group.as_str())
                .arg(idle_ms)
                .arg(sub.consumer.as_str());
            let names = self
                .valkey
                .run(&call)
                .await
                .and_then(reply::array)
                .map_err(error)?;
            for name in names {
                let name = ConsumerName::new(reply::text(name).map_err(error)?);
                if !removed.contains(&name) {
                    removed.push(name);
                }
            }
        }
        Ok(removed)
    }

    async fn loss_window(&self) -> Result<Option<Duration>, Error> {
        Ok(self
            .valkey
            .server_info()
            .await
            .map_err(error)?
            .loss_window())
    }

    async fn ping(&self) -> Result<(), Error> {
        self.valkey.ping().await.map_err(error)
    }
}

// === impl RedisLog ===

impl RedisLog {
    async fn stream_info(&self, stream: &StreamName) -> Result<Option<StreamInfo>, ValkeyError> {
        let mut asked = pipe();
        asked.cmd("XINFO").arg("STREAM").arg(stream.as_str());
        asked.cmd("XINFO").arg("GROUPS").arg(stream.as_str());
        let mut answers = self.valkey.pipeline(&asked).await?.into_iter();
        let mut next = || answers.next().ok_or_else(|| ValkeyError::answer("XINFO"));
        let (head, groups) = (next()?, next()?);
        if head.as_ref().is_err_and(reply::is_no_such_key) {
            return Ok(None);
        }
        let mut head = reply::pairs(head?)?;
        let first = reply::array(reply::take(&mut head, "first-entry"))?;
        let mut info = StreamInfo {
            length: reply::number(&reply::take(&mut head, "length"))?,
            appended: reply::number(&reply::take(&mut head, "entries-added"))?,
            first: first.first().map(reply::id).transpose()?,
            last: reply::id(&reply::take(&mut head, "last-generated-id"))?,
            groups: Vec::new(),
        };
        for group in reply::array(groups?)? {
            info.groups.push(
                self.group_info(stream, reply::pairs(group)?, info.last)
                    .await?,
            );
        }
        Ok(Some(info))
    }

    async fn group_info(
        &self,
        stream: &StreamName,
        mut group: Vec<(String, Value)>,
        last: EntryId,
    ) -> Result<GroupInfo, ValkeyError> {
        let name = reply::text(reply::take(&mut group, "name"))?;
        let mut asked = pipe();
        asked.cmd("XPENDING").arg(stream.as_str()).arg(&name);
        asked
            .cmd("XINFO")
            .arg("CONSUMERS")
            .arg(stream.as_str())
            .arg(&name);
        let mut answers = self.valkey.pipeline(&asked).await?.into_iter();
        let mut next = || {
            answers
                .next()
                .unwrap_or_else(|| Err(ValkeyError::answer("XINFO")))
        };
        let (summary, consumers) = (reply::array(next()?)?, reply::array(next()?)?);
        let last_delivered = reply::id(&reply::take(&mut group, "last-delivered-id"))?;
        let lag = match reply::take(&mut group, "lag") {
            Value::Nil => (last_delivered >= last).then_some(0),
            lag => Some(reply::number(&lag)?),
        };
        Ok(GroupInfo {
            name: GroupName::new(name),
            last_delivered,
            pending: reply::number(&reply::take(&mut group, "pending"))?,
            oldest_pending: summary.get(1).and_then(|id| reply::id(id).ok()),
            lag,
            consumers: consumers
                .into_iter()
                .map(consumer)
                .collect::<Result<_, _>>()?,
        })
    }

    /// One bounded round; says whether another would find more.
    async fn trim_once(
        &self,
        stream: &StreamName,
        retention: Retention,
        ignored: &[GroupName],
    ) -> Result<(Trimmed, bool), ValkeyError> {
        let mut asked = pipe();
        asked.cmd("TIME");
        asked.cmd("XINFO").arg("STREAM").arg(stream.as_str());
        let mut answers = self.valkey.pipeline(&asked).await?.into_iter();
        let mut next = || answers.next().ok_or_else(|| ValkeyError::answer("XINFO"));
        let (time, head) = (next()??, next()?);
        if head.as_ref().is_err_and(reply::is_no_such_key) {
            return Ok((Trimmed::default(), false));
        }
        let mut head = reply::pairs(head?)?;
        let length = reply::number(&reply::take(&mut head, "length"))?;
        let appended = reply::number(&reply::take(&mut head, "entries-added"))?;
        let last = reply::id(&reply::take(&mut head, "last-generated-id"))?;
        let by_age = retention.max_age.map(|age| {
            let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            EntryId::new(reply::now_ms(&time).saturating_sub(age_ms), 0)
        });
        let mut by_length = None;
        let mut more = false;
        if let Some(max_len) = retention.max_len {
            let marked = self
                .marks
                .note(stream, appended, last, max_len)
                .map(EntryId::next);
            let excess = length.saturating_sub(max_len);
            by_length = match marked {
                None if excess > 0 => self.nth(stream, excess.min(COUNT_MAX), last).await?,
                marked => marked,
            };
            more = excess > COUNT_MAX;
        }
        let Some(cut) = by_age.into_iter().chain(by_length).max() else {
            return Ok((Trimmed::default(), false));
        };
        Ok((self.trim_below(stream, cut, ignored).await?, more))
    }

    /// The id after so many entries; beyond the newest when there are not that many.
    async fn nth(
        &self,
        stream: &StreamName,
        skip: u64,
        last: EntryId,
    ) -> Result<Option<EntryId>, ValkeyError> {
        let call = self.scripts.nth.call().key(stream.as_str()).arg(skip);
        let answer = self.valkey.run(&call).await?;
        Ok(Some(reply::id(&answer).unwrap_or(last.next())))
    }

    async fn trim_below(
        &self,
        stream: &StreamName,
        cut: EntryId,
        ignored: &[GroupName],
    ) -> Result<Trimmed, ValkeyError> {
        let mut trimmed = Trimmed::default();
        for (mode, step) in TRIM_STEPS {
            loop {
                let mut call = self.scripts.trim.call().key(stream.as_str());
                call = call.arg(cut.to_string()).arg(mode).arg(step);
                for group in ignored {
                    call = call.arg(group.as_str());
                }
                let mut answer = reply::array(self.valkey.run(&call).await?)?.into_iter();
                let mut next = || answer.next().ok_or_else(|| ValkeyError::answer("a trim"));
                let removed = reply::number(&next()?)?;
                trimmed.removed += removed;
                let holder = reply::text(next()?)?;
                trimmed.held_by = (!holder.is_empty()).then(|| GroupName::new(holder));
                if removed == 0 || mode == "=" {
                    break;
                }
                tokio::time::sleep(TRIM_REST).await;
            }
        }
        Ok(trimmed)
    }
}

fn consumer(value: Value) -> Result<ConsumerInfo, ValkeyError> {
    let mut consumer = reply::pairs(value)?;
    Ok(ConsumerInfo {
        name: ConsumerName::new(reply::text(reply::take(&mut consumer, "name"))?),
        pending: reply::number(&reply::take(&mut consumer, "pending"))?,
        idle: Duration::from_millis(reply::number(&reply::take(&mut consumer, "idle"))?),
    })
}

fn delayed_of(answers: Vec<Result<Value, ValkeyError>>) -> Result<Delayed, ValkeyError> {
    let mut answers = answers.into_iter();
    let mut next = || {
        answers
            .next()
            .unwrap_or_else(|| Err(ValkeyError::answer("ZRANGE")))
    };
    let (time, count, first) = (next()?, next()?, next()?);
    let flat = reply::flat(first)?;
    let due_ms = flat.get(1).map(reply::number).transpose()?;
    let wait = |due_ms: u64| Duration::from_millis(due_ms.saturating_sub(reply::now_ms(&time)));
    Ok(Delayed {
        count: reply::number(&count)?,
        next_in: due_ms.map(wait),
    })
}

fn floors(sub: &Subscription, answer: Value) -> Result<Vec<LaneFloor>, ValkeyError> {
    let mut parts = reply::array(answer)?.into_iter();
    let mut next = || parts.next().ok_or_else(|| ValkeyError::answer("floors"));
    let (lanes, members) = (reply::array(next()?)?, reply::array(next()?)?);
    let unknown = members.len() > FLOOR_SCAN_MAX;
    let members: Vec<String> = members
        .into_iter()
        .map(reply::text)
        .collect::<Result<_, _>>()?;
    let waiting: Vec<(Lane, EntryId)> = members
        .iter()
        .filter_map(|member| delayed::first_entry(member, &sub.group))
        .collect();
    let mut floors = Vec::new();
    for ((lane, stream), owed) in sub.lanes.iter().zip(lanes) {
        let owed = reply::array(owed)?;
        let ids = owed.iter().filter_map(|id| reply::id(id).ok());
        let delayed = waiting
            .iter()
            .filter(|(of, _)| *of == lane)
            .map(|(_, id)| *id);
        let exact = ids.chain(delayed).min();
        let owed_from = if unknown { Some(EntryId::MIN) } else { exact };
        floors.push(LaneFloor {
            lane,
            stream: stream.clone(),
            owed_from,
        });
    }
    Ok(floors)
}
