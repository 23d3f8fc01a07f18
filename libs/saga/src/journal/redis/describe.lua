-- Keeps definitions without their functions. KEYS: prefix. ARGV: name and hash, JSON, and so on.
-- Bounded by the definitions of one process.
local p, new = KEYS[1], 0
for i = 1, #ARGV, 2 do
  if redis.call('HSET', p .. ':outlines', ARGV[i], ARGV[i + 1]) == 1 then
    redis.call('LPUSH', p .. ':described', ARGV[i])
    new = new + 1
  end
end
return new
