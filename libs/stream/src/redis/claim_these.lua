-- Hands a consumer these entries, where they are its own, uncounted. What vanished stays pending
-- until it is acknowledged: this answer may get lost.
-- KEYS: stream. ARGV: group, consumer, then ids. Bounded by the ids.
local entries, deliveries, vanished = {}, {}, {}
for i = 3, #ARGV do
  local id = ARGV[i]
  local pending = redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1)[1]
  if pending and pending[2] == ARGV[2] then
    if #redis.call('XRANGE', KEYS[1], id, id) == 0 then
      vanished[#vanished + 1] = id
    else
      local claimed = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id, 'RETRYCOUNT', pending[4])
      entries[#entries + 1] = claimed[1]
      deliveries[#deliveries + 1] = pending[4]
    end
  end
end
return {'0-0', entries, deliveries, vanished}
