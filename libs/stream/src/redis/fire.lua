-- Appends a job's message if its moment is later than the job's last one, and keeps the moment, in
-- one step. KEYS: last moments by job, stream. ARGV: job, moment in ms, then names and values.
-- The append comes first: when memory is full, the moment stays due.
local last = redis.call('HGET', KEYS[1], ARGV[1])
if last and tonumber(last) >= tonumber(ARGV[2]) then
  return 0
end
redis.call('XADD', KEYS[2], '*', unpack(ARGV, 3))
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
