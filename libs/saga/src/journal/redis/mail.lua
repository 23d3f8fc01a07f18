-- Hands letters out. KEYS: prefix. ARGV: epoch, at most. Answers F when the process was fenced, else
-- 1 and the letters. Those that were answered meanwhile are passed over.
local p, me = KEYS[1], ARGV[1]
if not redis.call('ZSCORE', p .. ':processes', me) then
  return {'F'}
end
local answer, box = {'1'}, p .. ':m:' .. me
local limit = tonumber(ARGV[2])
if limit == 0 then
  return answer
end
for _, member in ipairs(redis.call('ZRANGE', box, 0, limit - 1)) do
  redis.call('ZREM', box, member)
  local gap = member:find(' ', 1, true)
  local saga = p .. ':s:' .. member:sub(gap + 1)
  local letter = redis.call('HGET', saga, member:sub(1, gap - 1))
  if letter and redis.call('HGET', saga, 'owner') == me then
    answer[#answer + 1] = letter
  end
end
return answer
