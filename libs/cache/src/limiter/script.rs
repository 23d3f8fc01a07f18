//! GCRA on the server: one script, one round trip, the server's clock.

use std::sync::LazyLock;
use std::time::Duration;

use ratebox_kit::Quota;
use ratebox_valkey::{Error, Script, Valkey};
use redis::FromRedisValue as _;

use super::{CountedBy, Ruling};

/// KEYS: the arrival time. ARGV: microseconds from one request to the next, burst. Returns whether
/// it may pass, what remains, microseconds to wait (refused) or until all is there (allowed).
///
/// An arrival time further ahead than any request could have put it comes from a server whose
/// clock stepped back, and is cut: nobody is locked out for longer than a window.
static TAKE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local time = redis.call('TIME')
         local now = time[1] * 1000000 + time[2]
         local interval = tonumber(ARGV[1])
         local tolerance = interval * ARGV[2]
         local arrival = math.max(tonumber(redis.call('GET', KEYS[1]) or '0') or 0, now)
         if arrival > now + tolerance then
           arrival = now + tolerance
           redis.call('SET', KEYS[1], string.format('%.0f', arrival),
             'PX', math.ceil(tolerance / 1000))
         end
         local ahead = arrival + interval - now
         if ahead > tolerance then
           return {0, 0, ahead - tolerance}
         end
         redis.call('SET', KEYS[1], string.format('%.0f', arrival + interval),
           'PX', math.ceil(ahead / 1000))
         return {1, math.floor((tolerance - ahead) / interval), ahead}",
    )
});

/// Takes one request of a key.
pub(super) async fn take(valkey: &Valkey, key: &str, quota: Quota) -> Result<Ruling, Error> {
    let limit = quota.burst.max(1);
    let interval_us = quota.window.as_micros() / u128::from(limit);
    let interval_us = u64::try_from(interval_us).unwrap_or(u64::MAX).max(1);
    let call = TAKE.call().key(key).arg(interval_us).arg(limit);
    let answer = valkey.run(&call).await?;
    let (allowed, remaining, wait_us): (bool, u32, u64) =
        <_>::from_redis_value(answer).map_err(|_| Error::answer("a limiter's answer"))?;
    let wait = Duration::from_micros(wait_us);
    Ok(Ruling {
        allowed,
        limit,
        remaining,
        retry_after: (!allowed).then_some(wait),
        reset_after: match allowed {
            true => wait,
            false => super::full_after(wait, quota),
        },
        counted_by: CountedBy::Server,
    })
}
