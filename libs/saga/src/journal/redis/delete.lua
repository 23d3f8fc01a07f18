-- Deletes sagas that have ended. KEYS: prefix. ARGV: ids. Answers how many. Bounded by the ids (the
-- caller sends chunks).
local p, gone = KEYS[1], 0
for _, id in ipairs(ARGV) do
  local saga = p .. ':s:' .. id
  local key, parent, status, definition, ended =
    unpack(redis.call('HMGET', saga, 'index', 'parent', 'status', 'definition', 'ended'))
  if ended then
    if key ~= '' then
      redis.call('HDEL', p .. ':keys', key)
    end
    if parent then
      redis.call('ZREM', p .. ':c:' .. parent, id)
    end
    redis.call('ZREM', p .. ':all', id)
    redis.call('ZREM', p .. ':ended', id)
    redis.call('HINCRBY', p .. ':counts', status .. ' ' .. definition, -1)
    redis.call('DEL', saga)
    gone = gone + 1
  end
end
return gone
