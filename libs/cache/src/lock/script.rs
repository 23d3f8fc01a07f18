//! A lock on the server: a hash of token, end and fencing number, changed by three scripts.
//!
//! A token is drawn for each try, so nobody extends or gives back what another holds. The hash
//! outlives its holder for a while, so that the next fencing number is greater even when the server's
//! clock stepped back; it starts at the server's microseconds, so that it also grows when the hash was
//! lost.

use std::sync::LazyLock;
use std::time::Duration;

use ratebox_kit::id;
use ratebox_valkey::{Call, Error, Script, Valkey};
use redis::FromRedisValue;

/// How long the fencing number outlives its holder.
const FENCE_KEPT: Duration = Duration::from_secs(60);

/// KEYS: lock. ARGV: token, lease in ms, time that the number is kept in ms. Returns the fencing
/// number, or 0 and how many ms the holder has left.
///
/// An end more than ten minutes ahead is from before the clock was set back, or from a server with
/// another clock. It is cut to one lease: a holder that lives extends it in time.
static TAKE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local time = redis.call('TIME')
         local now = time[1] * 1000000 + time[2]
         local held = redis.call('HMGET', KEYS[1], 'token', 'ends', 'fence')
         local ends = tonumber(held[2] or '0')
         local fence = tonumber(held[3] or '0')
         if held[1] ~= ARGV[1] then
           if held[1] and ends > now + 600000000 then
             ends = now + ARGV[2] * 1000
             redis.call('HSET', KEYS[1], 'ends', string.format('%.0f', ends))
             redis.call('PEXPIRE', KEYS[1], ARGV[2] + ARGV[3])
           end
           if held[1] and ends > now then
             return {0, math.ceil((ends - now) / 1000)}
           end
           fence = math.max(fence + 1, now)
         end
         redis.call('HSET', KEYS[1], 'token', ARGV[1],
           'ends', string.format('%.0f', now + ARGV[2] * 1000),
           'fence', string.format('%.0f', fence))
         redis.call('PEXPIRE', KEYS[1], ARGV[2] + ARGV[3])
         return {fence, 0}",
    )
});

/// KEYS: lock. ARGV: as [`TAKE`]. Returns whether the token still holds it. Past the end it still
/// does when nobody came.
static EXTEND: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then
           return 0
         end
         local time = redis.call('TIME')
         local now = time[1] * 1000000 + time[2]
         redis.call('HSET', KEYS[1], 'ends', string.format('%.0f', now + ARGV[2] * 1000))
         redis.call('PEXPIRE', KEYS[1], ARGV[2] + ARGV[3])
         return 1",
    )
});

/// KEYS: lock. ARGV: as [`TAKE`]. Returns whether the token held it.
static GIVE_BACK: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then
           return 0
         end
         redis.call('HDEL', KEYS[1], 'token', 'ends')
         redis.call('PEXPIRE', KEYS[1], ARGV[3])
         return 1",
    )
});

/// What the server says to a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is ours, with this fencing number.
    Ours(u64),
    /// Another has it for so long, unless it extends.
    Taken(Duration),
}

/// One try at one lock.
#[derive(Debug)]
pub(super) struct Server {
    valkey: Valkey,
    key: String,
    token: String,
    lease_ms: u64,
}

// === impl Server ===

impl Server {
    pub(super) fn new(valkey: Valkey, key: String, lease: Duration) -> Self {
        Self {
            valkey,
            key,
            token: id::hex(&id::random_bytes::<16>()),
            lease_ms: ms(lease),
        }
    }

    pub(super) async fn take(&self) -> Result<Answer, Error> {
        let (fence, left_ms): (u64, u64) = self.run(&TAKE).await?;
        Ok(match fence {
            0 => Answer::Taken(Duration::from_millis(left_ms)),
            fence => Answer::Ours(fence),
        })
    }

    pub(super) async fn extend(&self) -> Result<bool, Error> {
        self.run(&EXTEND).await
    }

    pub(super) async fn give_back(&self) -> Result<bool, Error> {
        self.run(&GIVE_BACK).await
    }

    async fn run<T: FromRedisValue>(&self, script: &Script) -> Result<T, Error> {
        let answer = self.valkey.run(&self.call(script)).await?;
        T::from_redis_value(answer).map_err(|_| Error::answer("a lock's answer"))
    }

    fn call<'a>(&self, script: &'a Script) -> Call<'a> {
        let call = script.call().key(&self.key).arg(&self.token);
        call.arg(self.lease_ms).arg(ms(FENCE_KEPT))
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
