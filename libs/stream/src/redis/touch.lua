-- The heartbeat. Renews what is still this consumer's and returns what another took or settled.
-- An entry that is in no pending list and not in the stream was lost; its holder has the last
-- copy and must keep it, so it is not returned.
-- XCLAIM would drop an entry that vanished from the pending list, and if its holder died then, nobody
-- would tell of it. It is left as it is: it grows idle, and whoever claims it tells.
-- KEYS: stream. ARGV: group, consumer, then ids. Bounded by the ids (the caller sends chunks).
local function before(a, b)
  local ams, aseq = string.match(a, '^(%d+)-(%d+)$')
  local bms, bseq = string.match(b, '^(%d+)-(%d+)$')
  ams, aseq, bms, bseq = tonumber(ams), tonumber(aseq), tonumber(bms), tonumber(bseq)
  return ams < bms or (ams == bms and aseq < bseq)
end
local own, lost, oldest = {}, {}, nil
for i = 3, #ARGV do
  local id = ARGV[i]
  local pending = redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1)
  local owner = pending[1] and pending[1][2]
  if owner == ARGV[2] then
    own[#own + 1] = id
    if not oldest or before(id, oldest) then
      oldest = id
    end
  elseif owner or #redis.call('XRANGE', KEYS[1], id, id) > 0 then
    lost[#lost + 1] = id
  end
end
if not oldest then
  return lost
end
local deleted, first = '0-0', false
local info = redis.call('XINFO', 'STREAM', KEYS[1])
for i = 1, #info, 2 do
  if info[i] == 'max-deleted-entry-id' then
    deleted = info[i + 1]
  elseif info[i] == 'first-entry' then
    first = info[i + 1] and info[i + 1][1]
  end
end
local all_there = first and not before(oldest, first) and before(deleted, oldest)
local renew = {KEYS[1], ARGV[1], ARGV[2], 0}
for _, id in ipairs(own) do
  if all_there or #redis.call('XRANGE', KEYS[1], id, id) > 0 then
    renew[#renew + 1] = id
  end
end
if #renew > 4 then
  renew[#renew + 1] = 'JUSTID'
  redis.call('XCLAIM', unpack(renew))
end
return lost
