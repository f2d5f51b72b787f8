--[[
Remove rows that say nothing any more, each with its cursor.  (After rows.lua.)

KEYS    1 pool   2 entries   3 changes   4 cursor   5 nodes
ARGV    1 channel to wake the nodes on (not used)   2.. name, row and cursor of each
Result  {'fenced', reason, word} and nothing written, if nothing may be changed
        {'done', number of rows that were removed}

Atomic, because a row without its cursor would let the name begin anew under it.
]]
local reason, word = refusal(KEYS[5], '')
if reason then
  return {'fenced', reason, word}
end
local removed, floor = 0, number_of('catalog_floor')
for at = 2, #ARGV, 3 do
  local name, row, cursor = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  if redis.call('HGET', entries, name) == row and redis.call('HGET', KEYS[4], name) == cursor then
    redis.call('HDEL', entries, name)
    redis.call('ZREM', changes, name)
    redis.call('HDEL', KEYS[4], name)
    floor = math.max(floor, version_of(row))
    removed = removed + 1
  end
end
if removed > 0 then
  redis.call('HSET', pool, 'catalog_floor', text(floor))
end
return {'done', removed}
