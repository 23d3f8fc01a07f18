-- Hands entries back: they look untouched for long, so that the next claim takes them, and the
-- delivery is taken off their count.
-- KEYS: stream. ARGV: group, consumer, idle ms, then for each entry its id and its count without
-- this delivery. Bounded by the entries (the caller sends chunks).
for i = 4, #ARGV, 2 do
  local id, count = ARGV[i], ARGV[i + 1]
  local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1], id, id, 1)
  if not pending.err and pending[1] and pending[1][2] == ARGV[2] then
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id, 'IDLE', ARGV[3], 'RETRYCOUNT', count, 'JUSTID')
  end
end
return 1
