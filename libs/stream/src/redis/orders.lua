-- The orders that stand, after one more was given or withdrawn. What is over goes.
-- KEYS: orders. ARGV: how many may stand, then nothing, or the name of an order and its time in ms
-- ('' without an end), or a name and '-' to withdraw it. Bounded by how many may stand.
-- Answers 1 when an order was given or withdrawn, 0 when it was not; then names and what is left in
-- ms ('' without an end).
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local flat = redis.call('HGETALL', KEYS[1])
local answer, standing, name = {0}, 0, ARGV[2]
for i = 1, #flat, 2 do
  local ends = tonumber(flat[i + 1])
  if ends and ends <= now then
    redis.call('HDEL', KEYS[1], flat[i])
  elseif flat[i] ~= name then
    standing = standing + 1
    answer[#answer + 1] = flat[i]
    answer[#answer + 1] = ends and string.format('%.0f', ends - now) or ''
  elseif ARGV[3] == '-' then
    answer[1] = redis.call('HDEL', KEYS[1], name)
  end
end
if name and ARGV[3] ~= '-' and standing < tonumber(ARGV[1]) then
  local ends = ARGV[3] ~= '' and string.format('%.0f', now + tonumber(ARGV[3])) or ''
  redis.call('HSET', KEYS[1], name, ends)
  answer[1] = 1
end
return answer
