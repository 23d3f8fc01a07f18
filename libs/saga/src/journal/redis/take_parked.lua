-- Makes one saga one's own that is parked as a whole: its last record says so. KEYS: prefix. ARGV:
-- epoch, saga. Answers 1 or 0; -1 when the process was fenced. Bounded by the saga's records and
-- letters.
local p, me, id = KEYS[1], ARGV[1], ARGV[2]
local saga = p .. ':s:' .. id
if not redis.call('ZSCORE', p .. ':processes', me) then
  return -1
end
local owner, wake, status = unpack(redis.call('HMGET', saga, 'owner', 'wake', 'status'))
if not owner or status ~= 'parked' then
  return 0
end
local last, letters = -1, {}
for _, field in ipairs(redis.call('HKEYS', saga)) do
  local seq = tonumber(field)
  if seq and seq > last then
    last = seq
  elseif field:sub(1, 1) == '@' then
    letters[#letters + 1] = field
  end
end
if last < 0 or cjson.decode(redis.call('HGET', saga, string.format('%.0f', last))).k ~= 'parked' then
  return 0
end
if owner == me then
  return 1
end
redis.call('HSET', saga, 'owner', me)
redis.call('ZREM', p .. ':o:' .. owner, id)
redis.call('ZADD', p .. ':o:' .. me, wake, id)
for _, field in ipairs(letters) do
  redis.call('ZADD', p .. ':m:' .. me, redis.call('HGET', saga, field):sub(1, 20), field .. ' ' .. id)
end
return 1
