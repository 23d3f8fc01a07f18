-- Takes over pending entries that nobody touched, and tells how often each was delivered.
-- KEYS: stream. ARGV: group, consumer, idle ms, cursor, max. Bounded by max (ten times as many
-- pending entries are looked at, at most).
-- XAUTOCLAIM drops a pending entry whose data is gone even while its owner works on it and could
-- save it, and XCLAIM does the same. So it is used only where nothing pending can be gone. What
-- vanished stays pending until whoever was told acknowledges it: this answer may get lost.
-- What was handed back by XNACK is nobody's, and idle for -1 ms.
local function before(a, b)
  local ams, aseq = string.match(a, '^(%d+)-(%d+)$')
  local bms, bseq = string.match(b, '^(%d+)-(%d+)$')
  ams, aseq, bms, bseq = tonumber(ams), tonumber(aseq), tonumber(bms), tonumber(bseq)
  return ams < bms or (ams == bms and aseq < bseq)
end
local stream, group, consumer, idle, cursor, max = KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local entries, deliveries, vanished = {}, {}, {}
local oldest = redis.call('XPENDING', stream, group)[2]
if not oldest then
  return {'0-0', entries, deliveries, vanished}
end
local deleted, first = '0-0', false
local info = redis.call('XINFO', 'STREAM', stream)
for i = 1, #info, 2 do
  if info[i] == 'max-deleted-entry-id' then
    deleted = info[i + 1]
  elseif info[i] == 'first-entry' then
    first = info[i + 1] and info[i + 1][1]
  end
end
if first and not before(oldest, first) and before(deleted, oldest) then
  local claimed = redis.call('XAUTOCLAIM', stream, group, consumer, idle, cursor, 'COUNT', max)
  for i, entry in ipairs(claimed[2]) do
    local pending = redis.call('XPENDING', stream, group, entry[1], entry[1], 1)
    deliveries[i] = pending[1] and pending[1][4] or 1
  end
  return {claimed[1], claimed[2], deliveries, claimed[3] or {}}
end
local looked = redis.call('XPENDING', stream, group, cursor, '+', max * 10)
for _, one in ipairs(looked) do
  local id = one[1]
  if one[2] == '' or one[3] >= tonumber(idle) then
    if #entries + #vanished == max then
      return {id, entries, deliveries, vanished}
    end
    if #redis.call('XRANGE', stream, id, id) == 0 then
      vanished[#vanished + 1] = id
    else
      entries[#entries + 1] = redis.call('XCLAIM', stream, group, consumer, idle, id)[1]
      deliveries[#deliveries + 1] = one[4] + 1
    end
  end
end
local next = '0-0'
if #looked == max * 10 then
  local ms, seq = string.match(looked[#looked][1], '^(%d+)-(%d+)$')
  next = ms .. '-' .. string.format('%.0f', tonumber(seq) + 1)
end
return {next, entries, deliveries, vanished}
