-- Takes a message out of the schedule. KEYS: scheduled set, scheduled entries. ARGV: its names, one
-- for each lane. Bounded by them. Returns how many were there.
redis.call('HDEL', KEYS[2], unpack(ARGV))
return redis.call('ZREM', KEYS[1], unpack(ARGV))
