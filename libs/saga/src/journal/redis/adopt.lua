-- Fences whose lease has ended, then takes their sagas, and sagas that have ended and were told
-- something that nobody in order can read. KEYS: prefix. ARGV: epoch, sagas at most.
-- Answers how many changed hands, whether there may be more, and the live ones; -1 when the process
-- itself was fenced. Bounded by the limit and by 100 processes.
local p, me, left = KEYS[1], ARGV[1], tonumber(ARGV[2])
local processes, fenced = p .. ':processes', p .. ':fenced'
if not redis.call('ZSCORE', processes, me) then
  return {-1}
end
local time = redis.call('TIME')
local now = string.format('(%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
for _, epoch in ipairs(redis.call('ZRANGEBYSCORE', processes, '-inf', now, 'LIMIT', 0, 100)) do
  if epoch ~= me then
    redis.call('ZREM', processes, epoch)
    redis.call('SADD', fenced, epoch)
  end
end
local taken, more, live = 0, 0, {}
for _, epoch in ipairs(redis.call('SMEMBERS', fenced)) do
  local old = p .. ':o:' .. epoch
  if left > 0 then
    local found = redis.call('ZRANGE', old, 0, left - 1, 'WITHSCORES')
    for i = 1, #found, 2 do
      local id, wake = found[i], found[i + 1]
      local saga = p .. ':s:' .. id
      redis.call('ZREM', old, id)
      redis.call('ZADD', p .. ':o:' .. me, wake, id)
      redis.call('HSET', saga, 'owner', me)
      if tonumber(redis.call('HGET', saga, 'letters') or '0') > 0 then
        for _, field in ipairs(redis.call('HKEYS', saga)) do
          if field:sub(1, 1) == '@' then
            redis.call('ZADD', p .. ':m:' .. me, redis.call('HGET', saga, field):sub(1, 20), field .. ' ' .. id)
          end
        end
      end
      if tonumber(wake) == 0 then
        live[#live + 1] = id
      end
      taken, left = taken + 1, left - 1
    end
  end
  if redis.call('EXISTS', old) == 1 then
    more = 1
  else
    redis.call('SREM', fenced, epoch)
    redis.call('DEL', p .. ':m:' .. epoch)
  end
end
for _, id in ipairs(redis.call('ZRANGE', p .. ':told', 0, 99)) do
  local saga = p .. ':s:' .. id
  local owner, ended, letters = unpack(redis.call('HMGET', saga, 'owner', 'ended', 'letters'))
  if not ended or tonumber(letters or '0') < 1 then
    redis.call('ZREM', p .. ':told', id)
  elseif left > 0 and not redis.call('ZSCORE', processes, owner) then
    redis.call('HSET', saga, 'owner', me)
    live[#live + 1] = id
    taken, left = taken + 1, left - 1
  end
end
return {taken, more, unpack(live)}
