-- Takes over pending entries that nobody touched, and tells how often each was delivered.
-- KEYS: stream. ARGV: group, consumer, idle ms, cursor, max. Bounded by max (the server looks at
-- ten times as many pending entries at most).
local claimed = redis.call('XAUTOCLAIM', KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4], 'COUNT', ARGV[5])
local deliveries = {}
for i, entry in ipairs(claimed[2]) do
  local pending = redis.call('XPENDING', KEYS[1], ARGV[1], entry[1], entry[1], 1)
  deliveries[i] = pending[1] and pending[1][4] or 1
end
return {claimed[1], claimed[2], deliveries, claimed[3] or {}}
