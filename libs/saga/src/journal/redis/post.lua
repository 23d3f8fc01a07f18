-- Keeps a letter. KEYS: prefix. ARGV: saga, field, letter (which begins with 20 digits of its time).
-- Answers 0 when there is no such saga.
local p, id = KEYS[1], ARGV[1]
local saga = p .. ':s:' .. id
local owner, ended = unpack(redis.call('HMGET', saga, 'owner', 'ended'))
if not owner then
  return 0
end
if redis.call('HSETNX', saga, ARGV[2], ARGV[3]) == 1 then
  redis.call('HINCRBY', saga, 'letters', 1)
  redis.call('ZADD', p .. ':m:' .. owner, ARGV[3]:sub(1, 20), ARGV[2] .. ' ' .. id)
  if ended then
    redis.call('ZADD', p .. ':told', ARGV[3]:sub(1, 20), id)
  end
end
return 1
