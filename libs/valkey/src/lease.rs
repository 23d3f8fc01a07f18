//! Leased ownership with fencing, on the server's clock; the sibling of the database's leases.
//!
//! A lease is a key with a holder, an epoch and an end. Each change of holder raises the epoch:
//! whoever writes under a lease carries its epoch, so a holder that slept through its end can be
//! told from the new one. Epochs begin at the server's milliseconds, so they also grow when the
//! key was lost. On a cluster the caller puts the key into the slot of what it guards.
//!
//! A lease whose end lies more than ten minutes ahead is from before the clock was set back, or from a
//! server with another clock. It is cut to the usual length: a holder that lives renews it in time.

use std::sync::LazyLock;
use std::time::Duration;

use redis::{FromRedisValue, Value};

use crate::{Error, Script, Valkey};

/// KEYS: lease. ARGV: holder, length in ms. Returns the epoch, or 0 when another holds it.
static TAKE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local time = redis.call('TIME')
         local now = time[1] * 1000 + math.floor(time[2] / 1000)
         local holder = redis.call('HGET', KEYS[1], 'holder')
         local ends = tonumber(redis.call('HGET', KEYS[1], 'ends') or '0')
         local epoch = tonumber(redis.call('HGET', KEYS[1], 'epoch') or '0')
         if holder ~= ARGV[1] then
           if ends > now + 600000 then
             redis.call('HSET', KEYS[1], 'ends', string.format('%.0f', now + ARGV[2]))
           end
           if ends > now then
             return 0
           end
           epoch = math.max(epoch + 1, now)
         end
         redis.call('HSET', KEYS[1], 'holder', ARGV[1], 'epoch', string.format('%.0f', epoch),
           'ends', string.format('%.0f', now + ARGV[2]))
         return epoch",
    )
});

/// KEYS: lease. ARGV: holder.
static GIVE_BACK: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('HGET', KEYS[1], 'holder') == ARGV[1] then
           redis.call('HSET', KEYS[1], 'ends', '0')
         end
         return 1",
    )
});

/// KEYS: lease. Returns holder and epoch, or nothing when nobody holds it.
static FIND: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local time = redis.call('TIME')
         local now = time[1] * 1000 + math.floor(time[2] / 1000)
         if tonumber(redis.call('HGET', KEYS[1], 'ends') or '0') <= now then
           return {}
         end
         return {redis.call('HGET', KEYS[1], 'holder'),
           tonumber(redis.call('HGET', KEYS[1], 'epoch'))}",
    )
});

/// KEYS: set of members. ARGV: member, length in ms (0 = leaves). Returns who is alive.
static MEET: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local time = redis.call('TIME')
         local now = time[1] * 1000 + math.floor(time[2] / 1000)
         if tonumber(ARGV[2]) > 0 then
           local ends = string.format('%.0f', now + ARGV[2])
           local ahead = redis.call('ZRANGEBYSCORE', KEYS[1],
             string.format('(%.0f', now + 600000), '+inf', 'LIMIT', 0, 100)
           for _, member in ipairs(ahead) do
             redis.call('ZADD', KEYS[1], ends, member)
           end
           redis.call('ZADD', KEYS[1], ends, ARGV[1])
         else
           redis.call('ZREM', KEYS[1], ARGV[1])
         end
         local gone = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now),
           'LIMIT', 0, 100)
         for _, member in ipairs(gone) do
           redis.call('ZREM', KEYS[1], member)
         end
         return redis.call('ZRANGEBYSCORE', KEYS[1], string.format('(%.0f', now), '+inf')",
    )
});

/// What lies further ahead is not believed. The scripts have the same ten minutes.
const LENGTH_MAX: Duration = Duration::from_secs(600);

/// Takes, renews and gives back leases under one holder's name.
#[derive(Clone, Debug)]
pub struct Leases {
    valkey: Valkey,
    holder: String,
    length: Duration,
}

// === impl Leases ===

impl Leases {
    /// Leases of `length`, ten minutes at most, under a name that no other process has.
    pub fn new(valkey: Valkey, holder: impl Into<String>, length: Duration) -> Self {
        Self {
            valkey,
            holder: holder.into(),
            length: length.min(LENGTH_MAX),
        }
    }

    /// Takes or renews a lease that is free, ours, or past its end; its epoch when it is ours now.
    ///
    /// # Errors
    /// When the server cannot be reached: the lease may or may not be ours.
    pub async fn take(&self, key: &str) -> Result<Option<u64>, Error> {
        let call = TAKE.call().key(key).arg(&self.holder).arg(self.length_ms());
        let epoch: u64 = read(self.valkey.run(&call).await?, "an epoch")?;
        Ok((epoch > 0).then_some(epoch))
    }

    /// Gives one lease back, so that others need not wait for its end.
    ///
    /// # Errors
    /// When the server cannot be reached; the lease then ends by itself.
    pub async fn give_back(&self, key: &str) -> Result<(), Error> {
        let call = GIVE_BACK.call().key(key).arg(&self.holder);
        self.valkey.run(&call).await.map(drop)
    }

    /// Who holds a lease now, and its epoch.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn find(valkey: &Valkey, key: &str) -> Result<Option<(String, u64)>, Error> {
        let answer = valkey.run(&FIND.call().key(key)).await?;
        let parts: Vec<Value> = read(answer, "holder and epoch")?;
        let mut parts = parts.into_iter();
        match (parts.next(), parts.next()) {
            (Some(holder), Some(epoch)) => {
                Ok(Some((read(holder, "a holder")?, read(epoch, "an epoch")?)))
            }
            _ => Ok(None),
        }
    }

    /// Says that the holder lives for one length more; returns all who do, in order of name.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn meet(&self, set: &str) -> Result<Vec<String>, Error> {
        self.alive(set, self.length_ms()).await
    }

    /// Says that the holder is gone.
    ///
    /// # Errors
    /// When the server cannot be reached; the holder is then taken for alive for a length.
    pub async fn leave(&self, set: &str) -> Result<(), Error> {
        self.alive(set, 0).await.map(drop)
    }

    async fn alive(&self, set: &str, length_ms: u64) -> Result<Vec<String>, Error> {
        let call = MEET.call().key(set).arg(&self.holder).arg(length_ms);
        let mut members: Vec<String> = read(self.valkey.run(&call).await?, "members")?;
        members.sort_unstable();
        Ok(members)
    }

    fn length_ms(&self) -> u64 {
        u64::try_from(self.length.as_millis()).unwrap_or(u64::MAX)
    }
}

fn read<T: FromRedisValue>(value: Value, what: &str) -> Result<T, Error> {
    T::from_redis_value(value).map_err(|_| Error::answer(what))
}
