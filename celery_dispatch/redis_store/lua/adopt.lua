--[[
Make the pool that of an identity, now.  (After pool.lua.)

KEYS    1 pool   2 nodes   3 members
ARGV    1 channel to wake the nodes on   2 schema version   3 identity
Result  {'ok'}
        {'absent'}  there is no pool
        {'newer', schema} or {'older', schema}, if the pool has another schema
        Nothing is written but with 'ok', and nothing either if the pool is that of the identity already.

Atomic, because identity, fence and epoch change together: in between, nodes of the old identity could claim.
]]
local schema = schema_is()
if schema then
  return {schema, it.schema}
end
if not it.schema then
  return {'absent'}
end
if it.identity ~= ARGV[3] then
  take_for(ARGV[3], sound_members(), it.lease or 0)
  begin_epoch()
  save()
end
return {'ok'}
