-- Puts due retries back onto their lanes.
-- KEYS: delayed set, delayed entries, then the lanes' streams. ARGV: max, max bytes, then the
-- lanes' words in the order of their streams. Bounded by both maxima. An entry is removed only
-- after it was appended: when memory is full, nothing is lost.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local streams = {}
for i = 3, #KEYS do
  streams[ARGV[i]] = KEYS[i]
end
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now), 'LIMIT', 0, ARGV[1])
local promoted, vanished, bytes = 0, 0, 0
for _, member in ipairs(due) do
  if bytes > tonumber(ARGV[2]) then
    break
  end
  local packed = redis.call('HGET', KEYS[2], member)
  if packed then
    local stream = streams[string.match(member, '^(%a+)/')] or KEYS[3]
    redis.call('XADD', stream, '*', unpack(cmsgpack.unpack(packed)))
    bytes = bytes + #packed
  else
    vanished = vanished + 1
  end
  redis.call('ZREM', KEYS[1], member)
  redis.call('HDEL', KEYS[2], member)
  promoted = promoted + 1
end
return {promoted, vanished, #due}
