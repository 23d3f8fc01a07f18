-- The id of the entry after so many others, counted from the oldest; empty when there is none.
-- KEYS: stream. ARGV: how many to skip. Bounded by it: the caller asks for small steps, for the
-- server hands a script whole entries.
local left, from = tonumber(ARGV[1]), '-'
while true do
  local entries = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', math.min(left + 1, 100))
  if #entries > left then
    return entries[left + 1][1]
  end
  if #entries < 100 then
    return ''
  end
  left = left - #entries
  from = '(' .. entries[#entries][1]
end
