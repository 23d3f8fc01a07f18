//! The second port on Redis and Valkey: schedule, keys, figures.
//!
//! Beside the streams, in their slot: `{base}:scheduled` (due times), `{base}:scheduled:entries`
//! (the messages), `{base}:once:<key>` (the first of a key) and `{base}:progress:<id>`, which the
//! server lets expire, and `{base}:orders`.

use std::time::Duration;

use async_trait::async_trait;
use ratebox_kit::{MessageId, Timestamp};
use ratebox_valkey::Error as ValkeyError;
use redis::{Value, cmd, pipe};

use super::settle::{CHUNK_BYTES_MAX, CHUNK_MAX};
use super::{RedisLog, delayed, error, reply};
use crate::control::TOO_MANY_ORDERS;
use crate::entry::owned_fields_of;
use crate::policy::FIELDS_MAX;
use crate::{
    Bounds, Dispatch, Dispatcher, Error, FLOOR_SCAN_MAX, Lane, Lanes, Load, ORDERS_MAX, Order,
    Receipt, Scheduled, Sent, When,
};

/// Nodes of a stream that are looked at for its size; the rest is taken to be alike.
const SIZE_SAMPLES: usize = 5;

#[async_trait]
impl Dispatcher for RedisLog {
    async fn send(&self, lanes: &Lanes, dispatches: &[Dispatch]) -> Vec<Result<Sent, Error>> {
        let mut sent = Vec::with_capacity(dispatches.len());
        let mut left = dispatches;
        while !left.is_empty() {
            let (chunk, rest) = left.split_at(chunk_of(left));
            sent.extend(self.send_chunk(lanes, chunk).await);
            left = rest;
        }
        sent
    }

    async fn scheduled(
        &self,
        lanes: &Lanes,
        skip: usize,
        max: usize,
    ) -> Result<Vec<Scheduled>, Error> {
        let Some(last) = max.checked_sub(1) else {
            return Ok(Vec::new());
        };
        let mut range = cmd("ZRANGE");
        range.arg(set(lanes)).arg(skip).arg(skip + last);
        range.arg("WITHSCORES");
        let answer = self.valkey.query(&range).await;
        answer.and_then(scheduled_of).map_err(error)
    }

    async fn unschedule(&self, lanes: &Lanes, message_id: &str) -> Result<bool, Error> {
        let call = self.scripts.unschedule.call();
        let mut call = call.key(&set(lanes)).key(&entries(lanes));
        for (lane, _) in lanes.iter() {
            call.push(member(lane, message_id));
        }
        let answer = self.valkey.run(&call).await;
        let removed = answer.and_then(|value| reply::number(&value));
        Ok(removed.map_err(error)? > 0)
    }

    async fn load(&self, lanes: &Lanes, lane: Lane, limits: &Bounds) -> Result<Load, Error> {
        let stream = lanes.stream(lane).as_str();
        let mut asked = pipe();
        asked.cmd("ZCARD").arg(set(lanes));
        asked.cmd("XLEN").arg(stream);
        asked.cmd("XINFO").arg("GROUPS").arg(stream);
        if limits.bytes.is_some() {
            asked.cmd("MEMORY").arg("USAGE").arg(stream);
            asked.arg("SAMPLES").arg(SIZE_SAMPLES);
        }
        let answers = self.valkey.pipeline(&asked).await.map_err(error)?;
        load_of(answers).map_err(error)
    }

    async fn order(&self, lanes: &Lanes, name: &str, time: Option<Duration>) -> Result<(), Error> {
        let time = time.map_or_else(String::new, |time| millis(time).to_string());
        if self.change_orders(lanes, name, &time).await? {
            Ok(())
        } else {
            Err(Error::refused(TOO_MANY_ORDERS))
        }
    }

    async fn withdraw(&self, lanes: &Lanes, name: &str) -> Result<bool, Error> {
        self.change_orders(lanes, name, "-").await
    }

    async fn orders(&self, lanes: &Lanes) -> Result<Vec<Order>, Error> {
        // Plain commands: who only looks needs no right to run scripts, nor to write. What is over
        // stays where it is until the next order is given or withdrawn.
        let mut asked = pipe();
        asked.cmd("TIME");
        asked.cmd("HGETALL").arg(lanes.beside("orders"));
        let answers = self.valkey.pipeline(&asked).await.map_err(error)?;
        orders_of(answers).map_err(error)
    }

    async fn note(
        &self,
        lanes: &Lanes,
        message_id: &str,
        value: &str,
        keep: Duration,
    ) -> Result<(), Error> {
        let mut set = cmd("SET");
        set.arg(note_of(lanes, message_id)).arg(value);
        set.arg("PX").arg(millis(keep).max(1));
        self.valkey.query(&set).await.map_err(error)?;
        Ok(())
    }

    async fn noted(&self, lanes: &Lanes, message_id: &str) -> Result<Option<String>, Error> {
        let mut get = cmd("GET");
        get.arg(note_of(lanes, message_id));
        match self.valkey.query(&get).await.map_err(error)? {
            Value::Nil => Ok(None),
            value => Ok(Some(reply::text(value).map_err(error)?)),
        }
    }
}

// === impl RedisLog ===

impl RedisLog {
    /// Gives an order for so many ms, or withdraws it (`-`); false when that was not possible.
    async fn change_orders(&self, lanes: &Lanes, name: &str, time: &str) -> Result<bool, Error> {
        let call = self.scripts.orders.call().key(&lanes.beside("orders"));
        let call = call.arg(ORDERS_MAX).arg(name).arg(time);
        let answer = self.valkey.run(&call).await;
        let changed = answer.and_then(|value| reply::number(&value));
        Ok(changed.map_err(error)? > 0)
    }

    /// The lanes of messages that wait for their time; all when there are too many to look at.
    pub(super) async fn lanes_scheduled(&self, lanes: &Lanes) -> Result<Vec<Lane>, Error> {
        let mut range = cmd("ZRANGE");
        range.arg(set(lanes)).arg(0).arg(FLOOR_SCAN_MAX);
        let answer = self.valkey.query(&range).await;
        let members = answer.and_then(reply::array).map_err(error)?;
        if members.len() > FLOOR_SCAN_MAX {
            return Ok(Lane::ALL.to_vec());
        }
        let mut found = Vec::new();
        for member in members {
            let member = reply::text(member).map_err(error)?;
            let lane = member
                .split_once('/')
                .and_then(|(lane, _)| Lane::parse(lane));
            found.extend(lane.filter(|lane| !found.contains(lane)));
        }
        Ok(found)
    }

    async fn send_chunk(&self, lanes: &Lanes, chunk: &[Dispatch]) -> Vec<Result<Sent, Error>> {
        let is_sound = |dispatch: &&Dispatch| dispatch.message.headers.len() + 2 <= FIELDS_MAX;
        let sound: Vec<&Dispatch> = chunk.iter().filter(is_sound).collect();
        let answers = match self.run_send(lanes, &sound).await {
            Ok(answers) => answers,
            Err(error) => {
                let again = |_: &Dispatch| Err(super::error(error.clone()));
                return chunk.iter().map(again).collect();
            }
        };
        let mut answers = answers.into_iter();
        let answer = |dispatch: &Dispatch| {
            if !is_sound(&dispatch) {
                let fields = dispatch.message.headers.len() + 2;
                let max = FIELDS_MAX;
                return Err(Error::TooManyFields { fields, max });
            }
            let missing = || error(ValkeyError::answer("what was sent"));
            answers.next().ok_or_else(missing)
        };
        chunk.iter().map(answer).collect()
    }

    async fn run_send(&self, lanes: &Lanes, sound: &[&Dispatch]) -> Result<Vec<Sent>, ValkeyError> {
        if sound.is_empty() {
            return Ok(Vec::new());
        }
        let call = self.scripts.send.call();
        let mut call = call.key(&set(lanes)).key(&entries(lanes));
        for (_, stream) in lanes.iter() {
            call = call.key(stream.as_str());
        }
        call.push(lanes.iter().count());
        for dispatch in sound {
            let mut window_ms = 0;
            if let Some(dedupe) = &dispatch.dedupe {
                call = call.key(&lanes.beside(&format!("once:{}", dedupe.key)));
                window_ms = millis(dedupe.window).max(1);
            }
            let lane = lanes.existing(dispatch.lane);
            let number = lanes.iter().position(|(one, _)| one == lane);
            let id = &dispatch.message.id.0;
            call.push(number.unwrap_or(0) + 1);
            call.push(match dispatch.when {
                When::Now => String::new(),
                When::After(wait) => format!("+{}", millis(wait)),
                When::At(due) => format!("@{}", due.as_millisecond().max(0)),
            });
            call.push(member(lane, id));
            call.push(id);
            call.push(window_ms);
            call.push(delayed::pack(&owned_fields_of(&dispatch.message)));
        }
        sent_of(self.valkey.run(&call).await?)
    }
}

fn set(lanes: &Lanes) -> String {
    lanes.beside("scheduled")
}

fn entries(lanes: &Lanes) -> String {
    lanes.beside("scheduled:entries")
}

fn note_of(lanes: &Lanes, message_id: &str) -> String {
    lanes.beside(&format!("progress:{message_id}"))
}

/// The keys of the schedule, as a promotion takes them.
pub(super) fn scheduled_keys(lanes: &Lanes) -> (String, String) {
    (set(lanes), entries(lanes))
}

/// `low/id`: lane and message. The id comes last, for it may contain anything.
fn member(lane: Lane, message_id: &str) -> String {
    format!("{lane}/{message_id}")
}

/// No longer than a hundred years, so that sums stay exact in Lua.
fn millis(time: Duration) -> u64 {
    const CENTURY_MS: u64 = 100 * 366 * 24 * 60 * 60 * 1_000;
    u64::try_from(time.as_millis()).map_or(CENTURY_MS, |ms| ms.min(CENTURY_MS))
}

/// How many go with the next call of the script; at least one.
fn chunk_of(dispatches: &[Dispatch]) -> usize {
    let mut bytes = 0;
    let fitting = dispatches.iter().take(CHUNK_MAX).take_while(|dispatch| {
        bytes += usize::try_from(dispatch.bytes()).unwrap_or(usize::MAX);
        bytes <= CHUNK_BYTES_MAX
    });
    fitting.count().max(1)
}

fn sent_of(answer: Value) -> Result<Vec<Sent>, ValkeyError> {
    let mut flat = reply::array(answer)?.into_iter();
    let mut sent = Vec::with_capacity(flat.len() / 2);
    while let (Some(second), Some(receipt)) = (flat.next(), flat.next()) {
        let receipt = Receipt::parse(&reply::text(receipt)?);
        let receipt = receipt.ok_or_else(|| ValkeyError::answer("a receipt"))?;
        sent.push(if reply::number(&second)? == 0 {
            Sent::Accepted(receipt)
        } else {
            Sent::Duplicate(receipt)
        });
    }
    Ok(sent)
}

/// The orders that stand, from `TIME` and `HGETALL`: names, and when each ends ('' = never).
fn orders_of(answers: Vec<Result<Value, ValkeyError>>) -> Result<Vec<Order>, ValkeyError> {
    let mut answers = answers.into_iter();
    let mut next = || {
        answers
            .next()
            .unwrap_or_else(|| Err(ValkeyError::answer("HGETALL")))
    };
    let (time, kept) = (next()?, next()?);
    let now_ms = reply::now_ms(&time);
    let mut orders = Vec::new();
    for (name, ends) in reply::pairs(kept)? {
        let ends_ms: Option<u64> = reply::text(ends)?.parse().ok();
        if ends_ms.is_none_or(|ends_ms| ends_ms > now_ms) {
            let left = ends_ms.map(|ends_ms| Duration::from_millis(ends_ms - now_ms));
            orders.push(Order { name, left });
        }
    }
    Ok(orders)
}

fn scheduled_of(answer: Value) -> Result<Vec<Scheduled>, ValkeyError> {
    let mut flat = reply::flat(answer)?.into_iter();
    let mut scheduled = Vec::new();
    while let (Some(member), Some(due)) = (flat.next(), flat.next()) {
        let member = reply::text(member)?;
        let due_ms = i64::try_from(reply::number(&due)?).unwrap_or(i64::MAX);
        let parts = member.split_once('/');
        let named = parts.and_then(|(lane, id)| Some((Lane::parse(lane)?, id)));
        let (Some((lane, id)), Ok(due)) = (named, Timestamp::from_millisecond(due_ms)) else {
            return Err(ValkeyError::answer("a scheduled message"));
        };
        scheduled.push(Scheduled {
            message_id: MessageId(id.to_owned()),
            lane,
            due,
        });
    }
    Ok(scheduled)
}

fn load_of(answers: Vec<Result<Value, ValkeyError>>) -> Result<Load, ValkeyError> {
    let mut answers = answers.into_iter();
    let mut next = || {
        answers
            .next()
            .unwrap_or_else(|| Err(ValkeyError::answer("XLEN")))
    };
    let scheduled = reply::number(&next()?)?;
    let length = reply::number(&next()?)?;
    let groups = match next() {
        Ok(groups) => reply::array(groups)?,
        Err(error) if reply::is_no_such_key(&error) => Vec::new(),
        Err(error) => return Err(error),
    };
    // Without a limit of bytes they were not asked for.
    let bytes = match answers.next() {
        None | Some(Ok(Value::Nil)) => 0,
        Some(bytes) => reply::number(&bytes?)?,
    };
    let mut depth = if groups.is_empty() { length } else { 0 };
    for group in groups {
        let mut group = reply::pairs(group)?;
        let pending = reply::number(&reply::take(&mut group, "pending"))?;
        // A server that cannot tell what lags has all of it lag: rather once too full.
        let lag = match reply::take(&mut group, "lag") {
            Value::Nil => length,
            lag => reply::number(&lag)?,
        };
        depth = depth.max((pending + lag).min(length.max(pending)));
    }
    Ok(Load {
        depth,
        bytes,
        scheduled,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn orders_that_are_over_do_not_stand() {
        let kept = [
            ("pause", "1700000000001"),
            ("pause/g", ""),
            ("cancel/over", "1700000000000"),
        ];
        let kept = kept.map(|(name, ends)| (text(name), text(ends)));
        let time = Value::Array(vec![text("1700000000"), text("999")]);
        let standing = |time: &Value, kept: Value| orders_of(vec![Ok(time.clone()), Ok(kept)]);
        let orders = standing(&time, Value::Map(kept.to_vec())).unwrap();
        let expected = [("pause", Some(Duration::from_millis(1))), ("pause/g", None)];
        let expected = expected.map(|(name, left)| Order {
            name: name.to_owned(),
            left,
        });
        assert_eq!(orders, expected);
        assert_eq!(standing(&time, Value::Array(Vec::new())).unwrap(), []);
        assert!(orders_of(vec![Ok(time)]).is_err());
    }
}
