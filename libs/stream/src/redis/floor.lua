-- What a group is owed, at one moment: for each lane its oldest pending and its first undelivered
-- entry (empty = none), then the names of waiting retries.
-- KEYS: delayed set, then streams. ARGV: group, most retries to look at. Bounded by both.
local floors = {}
for i = 2, #KEYS do
  local oldest, fresh = '', ''
  local groups = redis.pcall('XINFO', 'GROUPS', KEYS[i])
  if not groups.err then
    for _, flat in ipairs(groups) do
      local group = {}
      for j = 1, #flat, 2 do
        group[flat[j]] = flat[j + 1]
      end
      if group['name'] == ARGV[1] then
        oldest = redis.call('XPENDING', KEYS[i], ARGV[1])[2] or ''
        local after = '(' .. group['last-delivered-id']
        local first = redis.call('XRANGE', KEYS[i], after, '+', 'COUNT', 1)[1]
        fresh = first and first[1] or ''
      end
    end
  end
  floors[i - 1] = {oldest, fresh}
end
return {floors, redis.call('ZRANGE', KEYS[1], 0, ARGV[2])}
