-- Sagas of an owner whose time has come. KEYS: prefix. ARGV: epoch, until, at most. Answers F when
-- the process was fenced, else 1 and the ids.
local p, me = KEYS[1], ARGV[1]
if not redis.call('ZSCORE', p .. ':processes', me) then
  return {'F'}
end
return {'1', unpack(redis.call('ZRANGEBYSCORE', p .. ':o:' .. me, '(0', ARGV[2], 'LIMIT', 0, ARGV[3]))}
