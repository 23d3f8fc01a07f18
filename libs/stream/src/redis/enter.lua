-- Lets messages in: onto the lane while it is short and nobody of the owner waits, else into the
-- owner's room.
-- KEYS: lane, turns of its owners, then the owners' rooms. ARGV: group, window, then for each
-- message the place of its room among the rooms, its owner and its packed fields. Bounded by the
-- messages (the caller sends chunks). Returns for each its entry id, or an empty text.
local lag = nil
local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
for _, flat in ipairs(groups.err and {} or groups) do
  local group = {}
  for j = 1, #flat, 2 do
    group[flat[j]] = flat[j + 1]
  end
  if group['name'] == ARGV[1] then
    lag = tonumber(group['lag'] or nil)
    if not lag then
      -- The server cannot tell after deletions in the middle; a look at as much as matters can.
      lag = #redis.call('XRANGE', KEYS[1], '(' .. group['last-delivered-id'], '+', 'COUNT', 100)
      lag = lag == 100 and tonumber(ARGV[2]) or lag
    end
  end
end
lag = lag or redis.call('XLEN', KEYS[1])
local window = tonumber(ARGV[2])
local answers = {}
for i = 3, #ARGV, 3 do
  local room, owner, fields = KEYS[2 + tonumber(ARGV[i])], ARGV[i + 1], ARGV[i + 2]
  if lag < window and redis.call('EXISTS', room) == 0 then
    answers[#answers + 1] = redis.call('XADD', KEYS[1], '*', unpack(cmsgpack.unpack(fields)))
    lag = lag + 1
  else
    if redis.call('RPUSH', room, fields) == 1 then
      -- Who comes begins with the turn of those who have waited longest.
      local first = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
      redis.call('ZADD', KEYS[2], 'NX', first[2] or '0', owner)
    end
    answers[#answers + 1] = ''
  end
end
return answers
