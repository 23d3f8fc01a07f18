-- Removes members that own nothing and were not seen for long; returns their names.
-- KEYS: stream. ARGV: group, idle ms, the member that asks. Bounded by the members of the group.
local removed = {}
local members = redis.pcall('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])
if members.err then
  return removed
end
for _, flat in ipairs(members) do
  local member = {}
  for j = 1, #flat, 2 do
    member[flat[j]] = flat[j + 1]
  end
  if member['pending'] == 0 and member['idle'] >= tonumber(ARGV[2]) and member['name'] ~= ARGV[3] then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], member['name'])
    removed[#removed + 1] = member['name']
  end
end
return removed
