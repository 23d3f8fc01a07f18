-- Removes entries below an id, but none that a group has not acknowledged.
-- KEYS: stream. ARGV: id, '~' or '=', how many at most (0 = as many as the server likes), then
-- groups that are not waited for. Returns how many went, and the group that holds the rest.
local function parts(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(seq)
end
local function before(a, b)
  local ams, aseq = parts(a)
  local bms, bseq = parts(b)
  return ams < bms or (ams == bms and aseq < bseq)
end
local cut, holder = ARGV[1], ''
local ignored = {}
for i = 4, #ARGV do
  ignored[ARGV[i]] = true
end
local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
if groups.err then
  return {0, ''}
end
for _, flat in ipairs(groups) do
  local group = {}
  for j = 1, #flat, 2 do
    group[flat[j]] = flat[j + 1]
  end
  local owed = redis.call('XPENDING', KEYS[1], group['name'])[2]
  if not owed then
    local after = '(' .. group['last-delivered-id']
    local first = redis.call('XRANGE', KEYS[1], after, '+', 'COUNT', 1)[1]
    owed = first and first[1]
  end
  if owed and not ignored[group['name']] and before(owed, cut) then
    cut, holder = owed, group['name']
  end
end
if ARGV[3] == '0' then
  return {redis.call('XTRIM', KEYS[1], 'MINID', ARGV[2], cut), holder}
end
return {redis.call('XTRIM', KEYS[1], 'MINID', ARGV[2], cut, 'LIMIT', ARGV[3]), holder}
