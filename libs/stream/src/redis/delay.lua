-- Moves failed entries from the pending list to the delayed set, in one step. Only the owner's;
-- an entry that is nowhere any more is saved from the consumer's copy.
-- KEYS: stream, delayed set, delayed entries. ARGV: group, consumer, then for each entry its id,
-- its name in the set, its wait in ms and its packed fields. Bounded by the entries (the caller
-- sends chunks). Writes come before the acknowledgement: when memory is full, nothing is lost.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local delayed = 0
for i = 3, #ARGV, 4 do
  local id, member, wait, fields = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1], id, id, 1)
  local owner = not pending.err and pending[1] and pending[1][2]
  local mine = owner == ARGV[2]
  if mine or (not owner and #redis.call('XRANGE', KEYS[1], id, id) == 0) then
    redis.call('HSET', KEYS[3], member, fields)
    redis.call('ZADD', KEYS[2], string.format('%.0f', now + wait), member)
    if mine then
      redis.call('XACK', KEYS[1], ARGV[1], id)
    end
    delayed = delayed + 1
  end
end
return delayed
