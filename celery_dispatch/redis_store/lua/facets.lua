--[[
Write some of the rows that say what a config is made of.

KEYS    1 facets of the config
ARGV    1 time to live in ms   2.. field and value of each row
Result  nothing

Atomic, because a writer that dies must not leave a key without a time to live.
]]
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
