-- Hands a consumer the entries that are its own but not in its hands, uncounted.
-- What vanished stays pending until it is acknowledged: this answer may get lost.
-- KEYS: stream. ARGV: group, consumer, max, then the ids it does hold. Bounded by max.
local held = {}
for i = 4, #ARGV do
  held[ARGV[i]] = true
end
local max = tonumber(ARGV[3])
local pending = redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', max + #ARGV - 3, ARGV[2])
local entries, deliveries, vanished = {}, {}, {}
for _, one in ipairs(pending) do
  local id, count = one[1], one[4]
  if not held[id] and #entries < max then
    if #redis.call('XRANGE', KEYS[1], id, id) == 0 then
      vanished[#vanished + 1] = id
    else
      local claimed = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id, 'RETRYCOUNT', count)
      entries[#entries + 1] = claimed[1]
      deliveries[#deliveries + 1] = count
    end
  end
end
return {'0-0', entries, deliveries, vanished}
