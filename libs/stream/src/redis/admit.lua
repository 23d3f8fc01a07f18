-- Lets waiting messages of one lane onto it, in turns of their owners.
-- KEYS: lane, turns of its owners, then the rooms of the owners that have the next turns. ARGV:
-- group, window, turn, max, max bytes, then those owners. Bounded by max and by bytes. Returns how
-- many.
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
local turn, bytes_max = tonumber(ARGV[3]), tonumber(ARGV[5])
local left = math.min(tonumber(ARGV[4]), tonumber(ARGV[2]) - lag)
local admitted, bytes, owners = 0, 0, #ARGV - 5
local moved = true
-- Rounds over the owners, each at most one turn, until nothing is left or nobody waits.
while left > 0 and bytes < bytes_max and moved do
  moved = false
  for i = 1, owners do
    local owner, room = ARGV[5 + i], KEYS[2 + i]
    local took = 0
    while took < turn and left > 0 and bytes < bytes_max do
      local fields = redis.call('LINDEX', room, 0)
      if not fields then
        break
      end
      redis.call('XADD', KEYS[1], '*', unpack(cmsgpack.unpack(fields)))
      redis.call('LPOP', room)
      took, left, admitted, bytes = took + 1, left - 1, admitted + 1, bytes + #fields
    end
    if took > 0 then
      moved = true
      redis.call('ZINCRBY', KEYS[2], took, owner)
    end
    if redis.call('EXISTS', room) == 0 then
      redis.call('ZREM', KEYS[2], owner)
    end
  end
end
return admitted
