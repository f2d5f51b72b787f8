--[[
Take a node out of ring and vote, or back in.  (After pool.lua.)

KEYS    1 pool   2 nodes   3 members
ARGV    1 channel to wake the nodes on   2 schema version
        3 node id   4 '1' to drain, '0' to end it   5 '1' to drain the last node of its config, else '0'
Result  {'ok'}
        {'absent'}        there is no such live node
        {'last', config}  no other node of its config would be left on the ring
        {'newer', schema} or {'older', schema}, if the pool has another schema
        Nothing is written but with 'ok'.

Atomic, because two nodes drained at once must not both count on the other.
]]
local node, draining, force = ARGV[3], ARGV[4] == '1', ARGV[5] == '1'

local schema = schema_is()
if schema then
  return {schema, it.schema}
end

local function is_live(member)
  return member.lease_end > now
end

local list, chosen = sound_members(), nil
for _, member in ipairs(list) do
  if member.id == node and is_live(member) then
    chosen = member
  end
end
if not chosen then
  return {'absent'}
end
if chosen.draining == draining then
  return {'ok'}
end

local function may_replace(member)
  return member.id ~= node and is_live(member) and not member.draining and member.state ~= 'cut_off'
    and member.config == chosen.config and member.identity == chosen.identity
end

local replaced = force or not draining
for _, member in ipairs(list) do
  replaced = replaced or may_replace(member)
end
if not replaced then
  return {'last', chosen.config}
end

chosen.draining = draining
local ok, info = pcall(cjson.encode, chosen.info)
redis.call('HSET', members, node, row_of(chosen, ok and type(chosen.info) == 'table' and info or '{}'))
it.vote_at = nil
begin_epoch()
save()
return {'ok'}
