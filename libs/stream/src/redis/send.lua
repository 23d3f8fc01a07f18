-- Takes messages that are to wait or to be taken once, each in one step with its key.
-- KEYS: scheduled set, scheduled entries, the lanes' streams, then one key for each message that
-- is to be taken once. ARGV: how many lanes, then for each message its lane's number, when ('' is
-- now, '+' and ms from now, '@' and ms since 1970), its name in the set, its id, its window in ms
-- ('0' without a key) and its packed fields. Bounded by the messages (the caller sends chunks).
-- Answers 0 or 1 (another came first) and where the first one was put.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local guards = 2 + tonumber(ARGV[1])
local answers = {}
for i = 2, #ARGV, 6 do
  local lane, when, member, id, window, packed = unpack(ARGV, i, i + 5)
  local first = false
  if window ~= '0' then
    guards = guards + 1
    first = redis.call('GET', KEYS[guards])
  end
  if first then
    answers[#answers + 1] = 1
    answers[#answers + 1] = first
  else
    local due = tonumber(string.sub(when, 2)) or 0
    if string.sub(when, 1, 1) == '+' then
      due = now + due
    end
    local place
    if due > now then
      local at = string.format('%.0f', due)
      redis.call('HSET', KEYS[2], member, packed)
      redis.call('ZADD', KEYS[1], at, member)
      place = 's/' .. at .. '/' .. id
    else
      local entry = redis.call('XADD', KEYS[2 + lane], '*', unpack(cmsgpack.unpack(packed)))
      place = 'e/' .. entry .. '/' .. id
    end
    if window ~= '0' then
      redis.call('SET', KEYS[guards], place, 'PX', window)
    end
    answers[#answers + 1] = 0
    answers[#answers + 1] = place
  end
end
return answers
