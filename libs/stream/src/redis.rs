//! The log on Redis or Valkey Streams.
//!
//! Needs Redis 7.0 or Valkey 7.2 and nothing newer. The happy path is plain pipelined commands;
//! scripts serve what failed, waits or changes owner, and each is bounded by a count. Blocking
//! reads have connections of their own, and so has the heartbeat.

mod admin;
mod delayed;
mod delivery;
mod marks;
mod reply;
mod scripts;
mod settle;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use ratebox_valkey::{Blocking, Error as ValkeyError, Valkey};
use redis::{Cmd, Value, cmd, pipe};

use crate::entry::fields_of;
use crate::{
    Append, ClaimScope, Claimed, Entry, EntryId, Error, Keep, Lane, LaneQuota, Log, Settlement,
    StreamName, Subscription, Tail, stats,
};
use marks::Marks;
use scripts::Scripts;

/// Idle connections for blocking reads that are kept.
const READERS_MAX: usize = 16;

/// Ids in one heartbeat script.
const TOUCH_MAX: usize = 250;

/// Bytes that one promotion script moves, so that large entries do not make it long.
const PROMOTE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A log on Redis or Valkey Streams.
pub struct RedisLog {
    valkey: Valkey,
    /// The heartbeat's, so that it never queues behind anything.
    heart: Valkey,
    readers: Mutex<Vec<Blocking>>,
    /// The error of one lane when another had entries; told at the next read.
    deferred: Mutex<Option<Error>>,
    scripts: Scripts,
    marks: Marks,
}

// === impl RedisLog ===

impl RedisLog {
    /// A log on this server. Nothing is sent yet.
    pub fn new(valkey: Valkey) -> Self {
        Self {
            heart: valkey.separate(),
            valkey,
            readers: Mutex::default(),
            deferred: Mutex::default(),
            scripts: Scripts::new(),
            marks: Marks::default(),
        }
    }

    /// Checks that the server can carry streams: refuses one that would evict them, and returns a
    /// warning where something should be changed.
    ///
    /// # Errors
    /// [`Error::Refused`] with what to change, or when the server cannot be asked.
    pub async fn check_server(&self) -> Result<Option<String>, Error> {
        let info = self.valkey.server_info().await.map_err(error)?;
        info.check_for_bus().map_err(error)
    }

    /// A reader's connection goes back only after it worked.
    async fn with_reader<T>(
        &self,
        work: impl AsyncFnOnce(&mut Blocking) -> Result<T, ValkeyError>,
    ) -> Result<T, ValkeyError> {
        let idle = self
            .readers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let mut reader = idle.unwrap_or_else(|| self.valkey.blocking());
        let done = work(&mut reader).await;
        let broken = matches!(&done, Err(ValkeyError::Timeout { .. }));
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if !broken && readers.len() < READERS_MAX {
            readers.push(reader);
        }
        done
    }

    async fn read_now(
        &self,
        sub: &Subscription,
        quotas: &[LaneQuota],
    ) -> Result<Vec<Entry>, Error> {
        if let Some(error) = self.deferred().take() {
            return Err(error);
        }
        let mut pass = pipe();
        for quota in quotas {
            let stream = sub.lanes.stream(quota.lane).as_str();
            pass.add_command(xreadgroup(sub, quota.max, None))
                .arg(stream)
                .arg(">");
        }
        let answers = self
            .with_reader(async |reader| reader.pipeline(&pass).await)
            .await
            .map_err(error)?;
        let mut entries = Vec::new();
        let mut failure = None;
        for (quota, answer) in quotas.iter().zip(answers) {
            let stream = sub.lanes.stream(quota.lane);
            match answer.and_then(|value| fresh(value, sub)) {
                Ok(more) if entries.is_empty() => entries = more,
                Ok(more) => entries.extend(more),
                Err(error) => failure = Some(error_on(error, sub, stream)),
            }
        }
        match failure {
            Some(error) if entries.is_empty() => Err(error),
            failure => {
                *self.deferred() = failure;
                Ok(entries)
            }
        }
    }

    async fn read_waiting(
        &self,
        sub: &Subscription,
        quotas: &[LaneQuota],
        wait: Duration,
    ) -> Result<Vec<Entry>, Error> {
        let max = quotas.iter().map(|quota| quota.max).min().unwrap_or(1);
        let mut read = xreadgroup(sub, max, Some(wait));
        for quota in quotas {
            read.arg(sub.lanes.stream(quota.lane).as_str());
        }
        for _ in quotas {
            read.arg(">");
        }
        let answer = self
            .with_reader(async |reader| reader.query(&read, wait).await)
            .await;
        answer.and_then(|value| fresh(value, sub)).map_err(|error| {
            let lane = quotas.first().map_or(Lane::Normal, |quota| quota.lane);
            error_on(error, sub, sub.lanes.stream(lane))
        })
    }

    /// Puts what is due in a set onto the lanes.
    async fn promote_from(
        &self,
        sub: &Subscription,
        (set, entries): (String, String),
        max: usize,
    ) -> Result<usize, Error> {
        let mut promoted = 0;
        while promoted < max {
            let left = max - promoted;
            let mut call = self.scripts.promote.call().key(&set).key(&entries);
            for (_, stream) in sub.lanes.iter() {
                call = call.key(stream.as_str());
            }
            call.push(left);
            call.push(PROMOTE_BYTES_MAX);
            for (lane, _) in sub.lanes.iter() {
                call.push(lane.as_str());
            }
            let answer = self
                .valkey
                .run(&call)
                .await
                .and_then(reply::array)
                .map_err(error)?;
            let counts: Vec<u64> = answer
                .iter()
                .map(reply::number)
                .collect::<Result<_, _>>()
                .map_err(error)?;
            let &[moved, vanished, due] = counts.as_slice() else {
                return Err(error(ValkeyError::answer("a promotion")));
            };
            if vanished > 0 {
                let count = usize::try_from(vanished).unwrap_or(usize::MAX);
                stats::count(stats::MESSAGES_LOST, sub.lanes.base(), count);
                tracing::error!(stream = %sub.lanes.base(), "{vanished} waiting entries vanished");
            }
            promoted += usize::try_from(moved).unwrap_or(0);
            // Fewer moved than were due: the script stopped at its bytes, and more is waiting.
            if moved == 0 || moved == due {
                break;
            }
        }
        Ok(promoted)
    }

    fn deferred(&self) -> std::sync::MutexGuard<'_, Option<Error>> {
        self.deferred.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn last_id(&self, stream: &StreamName) -> Result<EntryId, ValkeyError> {
        let mut info = cmd("XINFO");
        info.arg("STREAM").arg(stream.as_str());
        match self.valkey.query(&info).await {
            Ok(head) => reply::id(&reply::take(&mut reply::pairs(head)?, "last-generated-id")),
            Err(ValkeyError::Command { detail, .. }) if detail.contains("no such key") => {
                Ok(EntryId::MIN)
            }
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl Log for RedisLog {
    async fn append(&self, entries: &[Append]) -> Vec<Result<EntryId, Error>> {
        let entries: Vec<&Append> = entries.iter().collect();
        self.append_all(&entries).await
    }

    async fn ensure_group(&self, sub: &Subscription) -> Result<(), Error> {
        let mut made = pipe();
        for (_, stream) in sub.lanes.iter() {
            made.cmd("XGROUP")
                .arg("CREATE")
                .arg(stream.as_str())
                .arg(sub.group.as_str());
            made.arg("0").arg("MKSTREAM");
        }
        for answer in self.valkey.pipeline(&made).await.map_err(error)? {
            match answer {
                Err(ValkeyError::Command { code, .. }) if code == "BUSYGROUP" => {}
                answer => drop(answer.map_err(error)?),
            }
        }
        Ok(())
    }

    async fn read(
        &self,
        sub: &Subscription,
        quotas: &[LaneQuota],
        wait: Duration,
    ) -> Result<Vec<Entry>, Error> {
        if wait.is_zero() || self.deferred().is_some() {
            self.read_now(sub, quotas).await
        } else {
            self.read_waiting(sub, quotas, wait).await
        }
    }

    async fn claim(
        &self,
        sub: &Subscription,
        lane: Lane,
        cursor: EntryId,
        scope: ClaimScope<'_>,
        max: usize,
    ) -> Result<Claimed, Error> {
        let stream = sub.lanes.stream(lane);
        let (group, consumer) = (sub.group.as_str(), sub.consumer.as_str());
        let call = match scope {
            ClaimScope::Idle(idle) => {
                let call = self.scripts.claim_idle.call().key(stream.as_str());
                let idle_ms = u64::try_from(idle.as_millis()).unwrap_or(u64::MAX);
                call.arg(group)
                    .arg(consumer)
                    .arg(idle_ms)
                    .arg(cursor.to_string())
                    .arg(max)
            }
            ClaimScope::Own { except } => {
                let call = self.scripts.claim_own.call().key(stream.as_str());
                let mut call = call.arg(group).arg(consumer).arg(max);
                for id in except {
                    call.push(id.to_string());
                }
                call
            }
            ClaimScope::These(ids) => {
                let call = self.scripts.claim_these.call().key(stream.as_str());
                let mut call = call.arg(group).arg(consumer);
                for id in ids.iter().take(max) {
                    call.push(id.to_string());
                }
                call
            }
        };
        let answer = self.valkey.run(&call).await;
        answer
            .and_then(|value| reply::claimed(value, stream, lane))
            .map_err(|error| error_on(error, sub, stream))
    }

    async fn touch(
        &self,
        sub: &Subscription,
        held: &[(Lane, EntryId)],
    ) -> Result<Vec<(Lane, EntryId)>, Error> {
        let mut lost = Vec::new();
        for (lane, stream) in sub.lanes.iter() {
            let ids: Vec<EntryId> = held
                .iter()
                .filter(|(of, _)| *of == lane)
                .map(|(_, id)| *id)
                .collect();
            for chunk in ids.chunks(TOUCH_MAX) {
                let mut call = self.scripts.touch.call().key(stream.as_str());
                call.push(sub.group.as_str());
                call.push(sub.consumer.as_str());
                for id in chunk {
                    call.push(id.to_string());
                }
                let answer = self.heart.run(&call).await.and_then(reply::ids);
                let ids = answer.map_err(|error| error_on(error, sub, stream))?;
                lost.extend(ids.into_iter().map(|id| (lane, id)));
            }
        }
        Ok(lost)
    }

    async fn settle(
        &self,
        sub: &Subscription,
        settlements: &[Settlement<'_>],
    ) -> Result<(), Error> {
        self.settle_all(sub, settlements).await
    }

    async fn promote(&self, sub: &Subscription, max: usize) -> Result<usize, Error> {
        let retries = self.promote_from(sub, delayed_keys(sub), max).await?;
        let scheduled = delivery::scheduled_keys(&sub.lanes);
        let messages = self.promote_from(sub, scheduled, max - retries.min(max));
        Ok(retries + messages.await?)
    }

    async fn tail(
        &self,
        stream: &StreamName,
        after: Option<EntryId>,
        max: usize,
        wait: Duration,
    ) -> Result<Tail, Error> {
        let after = match after {
            Some(after) => after,
            None => self.last_id(stream).await.map_err(error)?,
        };
        let mut read = cmd("XREAD");
        read.arg("COUNT").arg(max);
        if !wait.is_zero() {
            read.arg("BLOCK").arg(block_ms(wait));
        }
        read.arg("STREAMS")
            .arg(stream.as_str())
            .arg(after.to_string());
        let answer = if wait.is_zero() {
            self.valkey.query(&read).await
        } else {
            self.with_reader(async |reader| reader.query(&read, wait).await)
                .await
        };
        let mut entries = Vec::new();
        for (_, found) in answer.and_then(reply::by_stream).map_err(error)? {
            entries.extend(reply::entries(found, stream, Lane::Normal, 0).map_err(error)?);
        }
        let next = entries.last().map_or(after, |entry| entry.id);
        Ok(Tail { entries, next })
    }
}

/// The set of due times, and beside it the entries themselves, so that a look at what waits does
/// not move payloads.
fn delayed_keys(sub: &Subscription) -> (String, String) {
    let set = sub.lanes.delayed();
    (set.to_string(), format!("{set}:entries"))
}

fn xadd(append: &Append) -> Cmd {
    let fields = || fields_of(&append.message);
    let bytes: usize = fields().map(|(name, value)| name.len() + value.len()).sum();
    let count = 6 + 2 * fields().count();
    let mut add = Cmd::with_capacity(count, bytes + append.stream.as_str().len() + 48);
    add.arg("XADD").arg(append.stream.as_str());
    if let Keep::About(max_len) = append.keep {
        add.arg("MAXLEN").arg("~").arg(max_len);
    }
    add.arg("*");
    for (name, value) in fields() {
        add.arg(name).arg(value);
    }
    add
}

fn xreadgroup(sub: &Subscription, max: usize, block: Option<Duration>) -> Cmd {
    let mut read = cmd("XREADGROUP");
    read.arg("GROUP")
        .arg(sub.group.as_str())
        .arg(sub.consumer.as_str());
    read.arg("COUNT").arg(max.max(1));
    if let Some(wait) = block {
        read.arg("BLOCK").arg(block_ms(wait));
    }
    read.arg("STREAMS");
    read
}

/// At least 1: zero would wait for ever.
fn block_ms(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1)
}

fn fresh(value: Value, sub: &Subscription) -> Result<Vec<Entry>, ValkeyError> {
    let mut entries = Vec::new();
    for (name, found) in reply::by_stream(value)? {
        let lane = sub.lanes.lane_of(&name).unwrap_or(Lane::Normal);
        let more = reply::entries(found, sub.lanes.stream(lane), lane, 1)?;
        if entries.is_empty() {
            entries = more
        } else {
            entries.extend(more)
        }
    }
    Ok(entries)
}

fn error_on(error: ValkeyError, sub: &Subscription, stream: &StreamName) -> Error {
    match error {
        ValkeyError::NoGroup => Error::NoGroup {
            stream: stream.clone(),
            group: sub.group.clone(),
        },
        other => self::error(other),
    }
}

fn error(error: ValkeyError) -> Error {
    match error {
        ValkeyError::Connection { .. }
        | ValkeyError::NoPrimary { .. }
        | ValkeyError::Tls { .. }
        | ValkeyError::Unavailable { .. } => Error::Connection(Box::new(error)),
        ValkeyError::Timeout { .. } => Error::Timeout(Box::new(error)),
        ValkeyError::OutOfMemory => Error::Full(Box::new(error)),
        ValkeyError::NoGroup
        | ValkeyError::Denied { .. }
        | ValkeyError::Command { .. }
        | ValkeyError::Answer { .. }
        | ValkeyError::Url { .. }
        | ValkeyError::Policy { .. } => Error::Refused {
            what: error.to_string(),
            source: Some(Box::new(error)),
        },
    }
}
