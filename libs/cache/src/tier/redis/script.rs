//! What must happen at once on the server. All keys of one script lie in one slot.
//!
//! `NOLOOP` does not cover them: the server takes a script for another client and tells us of what
//! we filled ourselves. The value is then read once more before it is kept in memory. Passing over
//! what looks like our own echo would be wrong: the server merges it with changes by others.

use std::sync::LazyLock;

use ratebox_valkey::Script;

/// KEYS: lease. ARGV: token, lease in ms.
pub(super) static RENEW: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('GET', KEYS[1]) ~= ARGV[1] then
           return 0
         end
         return redis.call('PEXPIRE', KEYS[1], ARGV[2])",
    )
});

/// KEYS: entry, lease. ARGV: token, entry, its life in ms. Returns whether it was filled.
pub(super) static FILL: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('GET', KEYS[2]) ~= ARGV[1] then
           return 0
         end
         redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
         redis.call('UNLINK', KEYS[2])
         return 1",
    )
});

/// KEYS: lease. ARGV: token.
pub(super) static GIVE_BACK: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.call('GET', KEYS[1]) == ARGV[1] then
           redis.call('UNLINK', KEYS[1])
         end
         return redis.status_reply('OK')",
    )
});

/// KEYS: entry, lease. ARGV: token, lease in ms.
pub(super) static SEIZE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "redis.call('UNLINK', KEYS[1])
         return redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])",
    )
});

/// KEYS: entry, lease. ARGV: entry, its life in ms.
pub(super) static SET: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "redis.call('UNLINK', KEYS[2])
         return redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])",
    )
});

/// KEYS: count. ARGV: its life in ms. Counts follow the server's microseconds, so that one which
/// was lost never comes back. What is no count is replaced: else a foreign value in its place would
/// stand in the way of every change of the tag for ever.
pub(super) static RAISE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local time = redis.call('TIME')
         local now = time[1] * 1000000 + time[2]
         local old = redis.pcall('GET', KEYS[1])
         old = type(old) == 'string' and string.match(old, '^%d+$') and tonumber(old) or 0
         if old > 9007199254740991 then
           old = 0
         end
         local count = math.max(old + 1, now)
         local life = math.max(redis.call('PTTL', KEYS[1]), tonumber(ARGV[1]))
         redis.call('SET', KEYS[1], string.format('%.0f', count), 'PX', string.format('%.0f', life))
         return count",
    )
});

/// KEYS: count. ARGV: its life in ms. Returns the count, and whether it was made or renewed: that is
/// told to all processes, so a renewal is not made before half the life is over. What is no count is
/// replaced.
pub(super) static ENSURE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local count = redis.pcall('GET', KEYS[1])
         count = type(count) == 'string' and string.match(count, '^%d+$') and tonumber(count)
         if count and count <= 9007199254740991 then
           if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[1]) / 2 then
             redis.call('PEXPIRE', KEYS[1], ARGV[1])
             return {count, 1}
           end
           return {count, 0}
         end
         local time = redis.call('TIME')
         local now = string.format('%.0f', time[1] * 1000000 + time[2])
         redis.call('SET', KEYS[1], now, 'PX', ARGV[1])
         return {tonumber(now), 1}",
    )
});
