-- Joins, renews or leaves. KEYS: prefix. ARGV: epoch (empty to join), lease in ms (empty to leave).
-- Answers the epoch, or 0 when it was fenced. A new epoch is at least the server's milliseconds,
-- so epochs grow even when the last ones were lost with the server's memory.
local p, me = KEYS[1], ARGV[1]
local processes = p .. ':processes'
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if me == '' then
  local last = tonumber(redis.call('GET', p .. ':epoch') or '0')
  me = string.format('%.0f', math.max(last + 1, now))
  redis.call('SET', p .. ':epoch', me)
elseif not redis.call('ZSCORE', processes, me) then
  return '0'
end
if ARGV[2] == '' then
  redis.call('ZREM', processes, me)
  redis.call('SADD', p .. ':fenced', me)
else
  redis.call('ZADD', processes, string.format('%.0f', now + ARGV[2]), me)
end
return me
