-- Makes one saga one's own, if it may be. KEYS: prefix. ARGV: epoch, saga. Answers 1 or 0; -1 when
-- the process was fenced.
local p, me, id = KEYS[1], ARGV[1], ARGV[2]
local processes, saga = p .. ':processes', p .. ':s:' .. id
if not redis.call('ZSCORE', processes, me) then
  return -1
end
local owner, wake, ended = unpack(redis.call('HMGET', saga, 'owner', 'wake', 'ended'))
if not owner then
  return 0
end
if owner == me then
  return 1
end
if not ended and redis.call('ZSCORE', processes, owner) then
  return 0
end
redis.call('HSET', saga, 'owner', me)
if not ended then
  redis.call('ZREM', p .. ':o:' .. owner, id)
  redis.call('ZADD', p .. ':o:' .. me, wake, id)
end
for _, field in ipairs(redis.call('HKEYS', saga)) do
  if field:sub(1, 1) == '@' then
    redis.call('ZADD', p .. ':m:' .. me, redis.call('HGET', saga, field):sub(1, 20), field .. ' ' .. id)
  end
end
return 1
