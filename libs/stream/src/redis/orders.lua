-- Gives or withdraws an order. What is over goes.
-- KEYS: orders. ARGV: how many may stand, the name of an order, then its time in ms ('' without an
-- end) or '-' to withdraw it. Bounded by how many may stand.
-- Answers 1 when it was given or withdrawn, 0 when it was not.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local name, span = ARGV[2], ARGV[3]
local flat = redis.call('HGETALL', KEYS[1])
local done, standing = 0, 0
for i = 1, #flat, 2 do
  local ends = tonumber(flat[i + 1])
  if ends and ends <= now then
    redis.call('HDEL', KEYS[1], flat[i])
  elseif flat[i] ~= name then
    standing = standing + 1
  elseif span == '-' then
    done = redis.call('HDEL', KEYS[1], name)
  end
end
if span ~= '-' and standing < tonumber(ARGV[1]) then
  local ends = span ~= '' and string.format('%.0f', now + tonumber(span)) or ''
  redis.call('HSET', KEYS[1], name, ends)
  done = 1
end
return done
