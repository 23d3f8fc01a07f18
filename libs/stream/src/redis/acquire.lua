-- Leases permits: see limits/usage.rs, which does the same.
-- KEYS: rules, then for each scope its rate and its holders. ARGV: member, lease ms, number of
-- scopes; for each scope its name, its kind and what this member has at work under it (-1 = not
-- told); then for each ask its count, the number of its scopes and their places from 1. Bounded by
-- the asks and by the parts of a window (the caller sends chunks). Returns for each ask: granted,
-- wait ms, the place of the limit (0 = none).
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local member, lease, count = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local at = 4
local scopes = {}
for i = 1, count do
  local rule = redis.call('HGET', KEYS[1], ARGV[at]) or (ARGV[at + 1] ~= '' and redis.call('HGET', KEYS[1], ARGV[at + 1]))
  local scope = {rate_key = KEYS[2 * i], work_key = KEYS[2 * i + 1]}
  local told = tonumber(ARGV[at + 2])
  at = at + 3
  if rule then
    local max, window, cap = string.match(rule, '^(%-?%d+)/(%d+)/(%-?%d+)$')
    max, window, cap = tonumber(max), tonumber(window), tonumber(cap)
    if max >= 0 then
      scope.max, scope.part = max, math.max(1, math.floor(window / 32))
      scope.counts = window + math.max(50, math.min(scope.part, 1000))
      local oldest = math.floor((now - scope.counts) / scope.part) * scope.part
      local kept = redis.call('GET', scope.rate_key)
      scope.parts, scope.used = {}, 0
      for part, n in pairs(kept and cmsgpack.unpack(kept) or {}) do
        part = tonumber(part)
        if part >= oldest then
          scope.parts[string.format('%.0f', part)] = n
          scope.used = scope.used + n
          scope.first = math.min(scope.first or part, part)
        end
      end
    end
    if cap >= 0 then
      scope.cap, scope.at_work = cap, 0
      local kept = redis.call('GET', scope.work_key)
      scope.holders = {}
      for name, held in pairs(kept and cmsgpack.unpack(kept) or {}) do
        if name == member and told >= 0 then
          held = {told, now + lease}
        end
        if held[1] > 0 and held[2] > now then
          scope.holders[name] = held
          scope.at_work = scope.at_work + held[1]
        end
      end
      if told > 0 and not scope.holders[member] then
        scope.holders[member] = {told, now + lease}
        scope.at_work = scope.at_work + told
      end
      scope.changed = told >= 0
    end
  end
  scopes[i] = scope
end
local answers = {}
while at <= #ARGV do
  local granted, wait, limited = tonumber(ARGV[at]), 0, 0
  local places = tonumber(ARGV[at + 1])
  for i = 1, places do
    local scope = scopes[tonumber(ARGV[at + 1 + i])]
    if scope.max and scope.max - scope.used < granted then
      granted, limited = math.max(0, scope.max - scope.used), i
      local frees = scope.first and (scope.first + scope.part + scope.counts) or now
      wait = math.max(1, frees - now)
    end
    if scope.cap and scope.cap - scope.at_work < granted then
      granted, limited, wait = math.max(0, scope.cap - scope.at_work), i, 50
    end
  end
  if granted > 0 then
    for i = 1, places do
      local scope = scopes[tonumber(ARGV[at + 1 + i])]
      if scope.max then
        local part = math.floor(now / scope.part) * scope.part
        local name = string.format('%.0f', part)
        scope.parts[name] = (scope.parts[name] or 0) + granted
        scope.used, scope.first, scope.leased = scope.used + granted, scope.first or part, true
      end
      if scope.cap then
        local held = scope.holders[member] or {0, 0}
        scope.holders[member] = {held[1] + granted, now + lease}
        scope.at_work, scope.changed = scope.at_work + granted, true
      end
    end
  end
  answers[#answers + 1] = {granted, wait, limited}
  at = at + 2 + places
end
for _, scope in ipairs(scopes) do
  if scope.leased then
    redis.call('SET', scope.rate_key, cmsgpack.pack(scope.parts), 'PX', string.format('%.0f', scope.counts + scope.part))
  end
  if scope.changed then
    redis.call('SET', scope.work_key, cmsgpack.pack(scope.holders), 'PX', string.format('%.0f', lease))
  end
end
return answers
