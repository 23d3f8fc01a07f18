-- Puts what is due back onto its lane: retries, or scheduled messages.
-- KEYS: the set, its entries, then the lanes' streams. ARGV: max, max bytes, then the lanes' words
-- in the order of their streams. Bounded by both maxima. An entry is removed only after it was
-- appended: when memory is full, nothing is lost; when an append fails, those before it are done.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local streams = {}
for i = 3, #KEYS do
  streams[ARGV[i]] = KEYS[i]
end
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now), 'LIMIT', 0, ARGV[1])
local gone, failed, vanished, bytes = {}, nil, 0, 0
for i = 1, #due do
  if failed or bytes > tonumber(ARGV[2]) then
    break
  end
  local member = due[i]
  local packed = redis.call('HGET', KEYS[2], member)
  if packed then
    local stream = streams[string.match(member, '^(%a+)/')] or KEYS[3]
    local added = redis.pcall('XADD', stream, '*', unpack(cmsgpack.unpack(packed)))
    failed = type(added) == 'table' and added
    bytes = bytes + #packed
  else
    vanished = vanished + 1
  end
  if not failed then
    gone[i] = member
  end
end
for i = 1, #gone, 500 do
  local last = math.min(i + 499, #gone)
  redis.call('ZREM', KEYS[1], unpack(gone, i, last))
  redis.call('HDEL', KEYS[2], unpack(gone, i, last))
end
if failed and #gone == 0 then
  return failed
end
return {#gone, vanished, #due}
