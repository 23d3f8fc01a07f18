-- Writes entries of one process; each alone, all at once.
-- KEYS: prefix. ARGV: epoch, then the words of each entry, lists behind their length:
--   S, id, definition and key, parent, definition, status, head, records
--   A, id, records, letters, head (or an empty list)
-- Answers a word for each: K kept, N not yours, E and an id when the key is taken; F alone when the
-- process was fenced. Bounded by the entries (the caller sends chunks).
local p, me, at = KEYS[1], ARGV[1], 2

local function word()
  at = at + 1
  return ARGV[at - 1]
end

local function list()
  local out = {}
  for i = 1, tonumber(word()) do
    out[i] = word()
  end
  return out
end

local function count(status, definition, by)
  redis.call('HINCRBY', p .. ':counts', status .. ' ' .. definition, by)
end

local function start()
  local id, key, parent, definition, status = word(), word(), word(), word(), word()
  local head, records = list(), list()
  local saga = p .. ':s:' .. id
  if redis.call('EXISTS', saga) == 1 then
    return 'K'
  end
  if key ~= '' then
    local other = redis.call('HGET', p .. ':keys', key)
    if other then
      return 'E' .. other
    end
    redis.call('HSET', p .. ':keys', key, id)
  end
  redis.call('HSET', saga, 'owner', me, 'index', key, unpack(head))
  if #records > 0 then
    redis.call('HSET', saga, unpack(records))
  end
  redis.call('ZADD', p .. ':all', 0, id)
  redis.call('ZADD', p .. ':o:' .. me, 0, id)
  if parent ~= '' then
    redis.call('ZADD', p .. ':c:' .. parent, 0, id)
  end
  count(status, definition, 1)
  return 'K'
end

local function forget_letters(saga)
  if tonumber(redis.call('HGET', saga, 'letters') or '0') > 0 then
    for _, field in ipairs(redis.call('HKEYS', saga)) do
      if field:sub(1, 1) == '@' then
        redis.call('HDEL', saga, field)
      end
    end
    redis.call('HDEL', saga, 'letters')
  end
end

-- The head's words: status, wake, updated, ended, error, output; the last three may be empty, the
-- last two begin with '='.
local function change(id, saga, head)
  local status, wake, updated, ended, error, output = unpack(head)
  local was = redis.call('HMGET', saga, 'status', 'definition', 'ended')
  if was[1] ~= status then
    count(was[1], was[2], -1)
    count(status, was[2], 1)
  end
  redis.call('HSET', saga, 'status', status, 'wake', wake, 'updated', updated)
  if error ~= '' then
    redis.call('HSETNX', saga, 'error', error:sub(2))
  end
  if output ~= '' then
    redis.call('HSET', saga, 'output', output:sub(2))
  end
  if ended ~= '' then
    redis.call('HSET', saga, 'ended', ended)
    redis.call('ZADD', p .. ':ended', ended, id)
    redis.call('ZREM', p .. ':o:' .. me, id)
    forget_letters(saga)
  else
    if was[3] then
      redis.call('HDEL', saga, 'ended')
      redis.call('ZREM', p .. ':ended', id)
    end
    redis.call('ZADD', p .. ':o:' .. me, wake, id)
  end
end

local function append()
  local id = word()
  local records, letters, head = list(), list(), list()
  local saga = p .. ':s:' .. id
  if redis.call('HGET', saga, 'owner') ~= me then
    return 'N'
  end
  if #records > 0 then
    if redis.call('HEXISTS', saga, records[1]) == 1 then
      return 'K'
    end
    redis.call('HSET', saga, unpack(records))
  end
  if #letters > 0 then
    local gone = redis.call('HDEL', saga, unpack(letters))
    redis.call('HINCRBY', saga, 'letters', -gone)
  end
  if #head > 0 then
    change(id, saga, head)
  end
  return 'K'
end

if not redis.call('ZSCORE', p .. ':processes', me) then
  return {'F'}
end
local answers = {}
while at <= #ARGV do
  answers[#answers + 1] = word() == 'S' and start() or append()
end
return answers
