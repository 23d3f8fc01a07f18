-- The heartbeat. Renews what is still this consumer's and returns what another took or settled.
-- An entry that is in no pending list and not in the stream was lost; its holder has the last
-- copy and must keep it, so it is not returned.
-- KEYS: stream. ARGV: group, consumer, then ids. Bounded by the ids (the caller sends chunks).
local renew = {KEYS[1], ARGV[1], ARGV[2], 0}
local lost = {}
for i = 3, #ARGV do
  local id = ARGV[i]
  local pending = redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1)
  local owner = pending[1] and pending[1][2]
  if owner == ARGV[2] then
    renew[#renew + 1] = id
  elseif owner or #redis.call('XRANGE', KEYS[1], id, id) > 0 then
    lost[#lost + 1] = id
  end
end
if #renew > 4 then
  renew[#renew + 1] = 'JUSTID'
  redis.call('XCLAIM', unpack(renew))
end
return lost
