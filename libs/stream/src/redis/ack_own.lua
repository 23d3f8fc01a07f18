-- Acknowledges entries that are still this consumer's; returns their ids.
-- KEYS: stream. ARGV: group, consumer, then ids. Bounded by the ids (the caller sends chunks).
local acked = {}
for i = 3, #ARGV do
  local id = ARGV[i]
  local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1], id, id, 1)
  if not pending.err and pending[1] and pending[1][2] == ARGV[2] then
    redis.call('XACK', KEYS[1], ARGV[1], id)
    acked[#acked + 1] = id
  end
end
return acked
