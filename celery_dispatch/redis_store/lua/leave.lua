--[[
Give a node's lease up; if it was the last that runs the config in force, another one comes into force now.
(After pool.lua.)

KEYS    1 pool   2 nodes   3 members
ARGV    1 channel to wake the others on   2 schema version   3 node id
Result  {'ok'}
        {'newer', schema} and nothing written, if the pool is that of a newer version

Atomic, for the same reason as heartbeat.lua.
]]
local schema = schema_is()
if schema == 'newer' then
  return {schema, it.schema}
end
-- In the pool of an older version this node has no lease; where the pool is gone there is nothing to settle.
if schema or remove(ARGV[3]) == 0 or not it.schema then
  return {'ok'}
end
if it.recovery then
  local names = waited_for()
  names[ARGV[3]] = nil
  wait_for(names)
else
  succeed(own(sound_members()), it.lease or 0)
end
it.vote_at = nil
begin_epoch()
save()
return {'ok'}
