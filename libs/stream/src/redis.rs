//! The log on Redis or Valkey Streams.
//!
//! Needs Redis 7.0 or Valkey 7.2 and nothing newer; what newer servers have is used where it is
//! found, and never relied on. The happy path is plain pipelined commands;
//! scripts serve what failed, waits or changes owner, and each is bounded by a count. Blocking
//! reads have connections of their own, and so has the heartbeat.

mod admin;
mod append;
mod backlog;
mod delayed;
mod delivery;
mod entries;
mod failed;
mod firings;
mod limits;
mod marks;
mod ownership;
mod reader;
mod reply;
mod rooms;
mod scripts;
mod settle;
mod trips;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use ratebox_valkey::{Ability, Error as ValkeyError, Requests, Valkey, Words};
use redis::{cmd, pipe};

use crate::{
    Append, ClaimScope, Claimed, Entry, EntryId, Error, Lane, LaneQuota, Log, Settlement,
    StreamName, Subscription, Tail, Wait, stats,
};
use marks::Marks;
use reader::Readers;
use scripts::Scripts;
use trips::Trips;

/// Ids in one heartbeat script.
const TOUCH_MAX: usize = 250;

/// Bytes that one promotion script moves, so that large entries do not make it long.
const PROMOTE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The server takes what is nobody's for idle since 1970, and nothing else is idle for twenty years.
const NOBODYS_IDLE_MS: u64 = 20 * 366 * 24 * 60 * 60 * 1_000;

/// A log on Redis or Valkey Streams.
pub struct RedisLog {
    valkey: Valkey,
    /// The heartbeat's, so that it never queues behind anything.
    heart: Valkey,
    readers: Arc<Readers>,
    /// Small appends.
    trips: Trips,
    /// For leases of partitions, which must not wait behind work either.
    leases: Valkey,
    /// The error of one lane when another had entries; told at the next read.
    deferred: Mutex<Option<Error>>,
    scripts: Scripts,
    marks: Marks,
    /// So long an append waits for the server's disk.
    on_disk: Option<Duration>,
}

// === impl RedisLog ===

impl RedisLog {
    /// A log on this server. Nothing is sent yet.
    pub fn new(valkey: Valkey) -> Self {
        let readers = Arc::new(Readers::default());
        Self {
            heart: valkey.separate(),
            leases: valkey.separate(),
            trips: Trips::new(valkey.clone(), Arc::clone(&readers)),
            valkey,
            readers,
            deferred: Mutex::default(),
            scripts: Scripts::new(),
            marks: Marks::default(),
            on_disk: None,
        }
    }

    /// The same, but an append is answered only when the server's append-only file with it is on
    /// disk (`WAITAOF`, from Redis and Valkey 7.2 on), which is asked once for all of one call. With
    /// `appendfsync everysec` that takes up to a second and more, with `always` no longer than
    /// without. After `wait` it is [`Error::NotOnDisk`]: the entry is there, and may be lost in a
    /// power cut. Only appends wait; what scripts write does not.
    ///
    /// # Errors
    /// [`Error::Refused`] on a cluster, where an append may be redirected and leave its wait behind.
    pub fn on_disk(mut self, wait: Duration) -> Result<Self, Error> {
        if self.valkey.is_cluster() {
            return Err(crate::Error::refused(
                "appends to a cluster cannot wait for its disks",
            ));
        }
        self.on_disk = Some(wait);
        Ok(self)
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

    async fn read_now(
        &self,
        sub: &Subscription,
        quotas: &[LaneQuota],
    ) -> Result<Vec<Entry>, Error> {
        if let Some(error) = self.deferred().take() {
            return Err(error);
        }
        let read = self.readers.with(&self.valkey, async |reader| {
            for quota in quotas {
                let lanes = [quota.lane];
                xreadgroup(&mut reader.requests, sub, quota.max, Wait::None, lanes);
            }
            let replies = reader.exchange(Duration::ZERO).await?;
            let (mut entries, mut failure) = (Vec::new(), None);
            for (quota, reply) in quotas.iter().zip(replies) {
                match reply.and_then(|reply| reader.entries(&reply, 1, lane_in(sub))) {
                    Ok(more) if entries.is_empty() => entries = more,
                    Ok(more) => entries.extend(more),
                    Err(error) => failure = Some((error, quota.lane)),
                }
            }
            Ok((entries, failure))
        });
        let (entries, failure) = read.await.map_err(error)?;
        let failure = failure.map(|(error, lane)| error_on(error, sub, sub.lanes.stream(lane)));
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
        wait: Wait,
    ) -> Result<Vec<Entry>, ValkeyError> {
        let max = quotas.iter().map(|quota| quota.max).min().unwrap_or(1);
        let read = self.readers.with(&self.valkey, async |reader| {
            let lanes = quotas.iter().map(|quota| quota.lane);
            xreadgroup(&mut reader.requests, sub, max, wait, lanes);
            let reply = reader.exchange(wait.time()).await?.pop();
            let reply = reply.unwrap_or_else(|| Err(ValkeyError::answer("one reply")))?;
            reader.entries(&reply, 1, lane_in(sub))
        });
        read.await
    }

    /// A server that has another command than it said has done nothing, so the read is sent again
    /// without what it did not understand.
    async fn read_waiting_for_returned(
        &self,
        sub: &Subscription,
        quotas: &[LaneQuota],
        wait: Duration,
    ) -> Result<Vec<Entry>, ValkeyError> {
        if self.valkey.has(Ability::ReadClaim).await {
            let read = self.read_waiting(sub, quotas, Wait::WithReturned(wait));
            match read.await {
                Err(ValkeyError::Command { code, .. }) if code == "ERR" => {
                    self.valkey.do_without(Ability::ReadClaim);
                }
                read => return read,
            }
        }
        self.read_waiting(sub, quotas, Wait::ForFresh(wait)).await
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
        wait: Wait,
    ) -> Result<Vec<Entry>, Error> {
        if wait.time().is_zero() || self.deferred().is_some() {
            return self.read_now(sub, quotas).await;
        }
        let read = match wait {
            Wait::WithReturned(wait) => self.read_waiting_for_returned(sub, quotas, wait).await,
            Wait::None | Wait::ForFresh(_) => self.read_waiting(sub, quotas, wait).await,
        };
        read.map_err(|error| error_on_first(error, sub, quotas))
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
        let read = self.readers.with(&self.valkey, async |reader| {
            reader.requests.command("XREAD", |words| {
                words.word("COUNT").number(max as u64);
                if !wait.is_zero() {
                    blocking(words, wait);
                }
                words.word("STREAMS").key(stream.as_str());
                words.pair(after.ms, after.seq);
            });
            let reply = reader.exchange(wait).await?.pop();
            let reply = reply.unwrap_or_else(|| Err(ValkeyError::answer("one reply")))?;
            reader.entries(&reply, 0, |_| (stream, Lane::Normal))
        });
        let entries = read.await.map_err(error)?;
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

fn xreadgroup(
    requests: &mut Requests,
    sub: &Subscription,
    max: usize,
    wait: Wait,
    lanes: impl IntoIterator<Item = Lane, IntoIter: Clone>,
) {
    requests.command("XREADGROUP", |words| {
        words.word("GROUP").word(sub.group.as_str());
        words.word(sub.consumer.as_str());
        words.word("COUNT").number(max.max(1) as u64);
        match wait {
            Wait::None => {}
            Wait::ForFresh(wait) => blocking(words, wait),
            Wait::WithReturned(wait) => {
                words.word("CLAIM").number(NOBODYS_IDLE_MS);
                blocking(words, wait);
            }
        }
        words.word("STREAMS");
        let lanes = lanes.into_iter();
        for lane in lanes.clone() {
            words.key(sub.lanes.stream(lane).as_str());
        }
        for _ in lanes {
            words.word(">");
        }
    });
}

/// At least 1 ms: zero would wait for ever.
fn blocking(words: &mut Words<'_>, wait: Duration) {
    let ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    words.word("BLOCK").number(ms.max(1));
}

/// Which stream of the subscription a name means.
fn lane_in<'a>(sub: &'a Subscription) -> impl Fn(&[u8]) -> (&'a StreamName, Lane) {
    move |name| {
        let mut lanes = sub.lanes.iter();
        let found = lanes.find(|(_, stream)| stream.as_str().as_bytes() == name);
        found.map_or((sub.lanes.base(), Lane::Normal), |(lane, stream)| {
            (stream, lane)
        })
    }
}

/// The error of a read of several lanes, as one of the first.
fn error_on_first(error: ValkeyError, sub: &Subscription, quotas: &[LaneQuota]) -> Error {
    let lane = quotas.first().map_or(Lane::Normal, |quota| quota.lane);
    error_on(error, sub, sub.lanes.stream(lane))
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
        ValkeyError::Denied { .. } => Error::Denied {
            what: error.to_string(),
        },
        ValkeyError::NoGroup
        | ValkeyError::Command { .. }
        | ValkeyError::Answer { .. }
        | ValkeyError::Url { .. }
        // In its words, and not as its source too: who joins causes would tell it twice.
        | ValkeyError::Policy { .. } => Error::refused(error.to_string()),
    }
}
