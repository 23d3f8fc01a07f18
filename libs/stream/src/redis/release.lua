-- Hands entries back, and takes the delivery off their count. Where it is asked for and the server can,
-- they are nobody's from then on, and a read that waits for them gets them at once. Else they look
-- untouched for long, so that the next claim takes them.
-- KEYS: stream. ARGV: group, consumer, idle ms, then for each entry its id, its count without this
-- delivery, and whether it is to be nobody's (1). Bounded by the entries (the caller sends chunks).
-- Returns 0 when the server refused XNACK.
local refused = false
for i = 4, #ARGV, 3 do
  local id, count, free = ARGV[i], ARGV[i + 1], ARGV[i + 2] == '1' and not refused
  local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1], id, id, 1)
  if not pending.err and pending[1] and pending[1][2] == ARGV[2] then
    if free then
      local done = redis.pcall('XNACK', KEYS[1], ARGV[1], 'SILENT', 'IDS', 1, id, 'RETRYCOUNT', count)
      refused = type(done) ~= 'number'
    end
    if not free or refused then
      redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id, 'IDLE', ARGV[3], 'RETRYCOUNT', count, 'JUSTID')
    end
  end
end
return refused and 0 or 1
