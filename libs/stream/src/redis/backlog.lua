-- What a group is behind by on one lane: unread entries, whether that is exact, pending entries,
-- the first unread id, the server's ms, the members, and the oldest pending ids.
-- KEYS: stream. ARGV: group, most entries to look at. Bounded by it.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
for _, flat in ipairs(groups.err and {} or groups) do
  local group = {}
  for j = 1, #flat, 2 do
    group[flat[j]] = flat[j + 1]
  end
  if group['name'] == ARGV[1] then
    local after, max = '(' .. group['last-delivered-id'], tonumber(ARGV[2])
    local first = redis.call('XRANGE', KEYS[1], after, '+', 'COUNT', 1)[1]
    local unread, exact = 0, 1
    -- The server's own count is right as long as nothing was deleted in between.
    local lag = tonumber(group['lag'] or nil)
    if first and lag and lag > 0 then
      unread = lag
    elseif first then
      local seen = 1
      local from = '(' .. first[1]
      while seen < max do
        local more = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', math.min(100, max - seen))
        seen = seen + #more
        if #more == 0 then
          break
        end
        from = '(' .. more[#more][1]
      end
      unread, exact = seen, seen < max and 1 or 0
    end
    local ids = {}
    for _, one in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', max)) do
      ids[#ids + 1] = one[1]
    end
    return {unread, exact, group['pending'], first and first[1] or '', now, group['consumers'], ids}
  end
end
return {0, 1, 0, '', now, 0, {}}
