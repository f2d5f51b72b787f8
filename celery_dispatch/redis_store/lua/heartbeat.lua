--[[
Renew a node's lease, or give it up, and settle who is in the pool and which config is in force.

KEYS    1 pool   2 nodes   3 members
ARGV    1 node id
        2 lease in ms; 0 to leave, and then 3 to 6 are not read
        3 host   4 fingerprint of the node's config   5 state   6 info, a JSON object
        7 channel to wake the others on   8 schema version
        9 the epoch that the caller knows, '' for none
Result  {'ok', now in µs, epoch, config in force, since in ms, members or false}
        members: {node id, end of lease in ms, row, ...}; false if the caller knows this epoch, or leaves
        {'schema', version} and nothing written, if the pool has another schema

Atomic, because a member is its lease, its row, the epoch and the config in force together: a node that read
one without the other would compute a ring that nobody else has.
]]
local pool, nodes, members = KEYS[1], KEYS[2], KEYS[3]
local node, lease = ARGV[1], tonumber(ARGV[2])
local leaving = lease == 0
local LATEST = 253402300799999
local CLOCK_TOLERANCE = 1000 -- ms; a smaller step back only lengthens leases by as much

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function text(number)
  return string.format('%.0f', number)
end

-- An instant as this script writes them, or nil.
local function instant(stored)
  local ms = tonumber(stored or '')
  if ms and ms >= 0 and ms <= LATEST and text(ms) == stored then
    return ms
  end
end

local stored = redis.call('HMGET', pool, 'schema', 'config', 'since', 'beat_at', 'no_trim_until', 'epoch')
local schema, config, since, epoch = stored[1], stored[2], instant(stored[3]), stored[6]
local beat_at, no_trim_until = instant(stored[4]), instant(stored[5])
if schema and schema ~= ARGV[8] then
  return {'schema', schema}
end

-- The row of a member as a table, or nil if it is none.
local function decoded(row)
  if not row then
    return nil
  end
  local ok, member = pcall(cjson.decode, row)
  if ok and type(member) == 'table' and type(member.host) == 'string' and type(member.config) == 'string'
      and type(member.state) == 'string' and type(member.joined) == 'number'
      and member.joined >= 0 and member.joined <= LATEST and member.joined % 1 == 0 then
    return member
  end
end

local function remove(id)
  return redis.call('ZREM', nodes, id) + redis.call('HDEL', members, id)
end

-- After a silence of the whole pool, or a step of the clock, the leases say nothing about who is alive.
local function may_trim()
  local went_back = beat_at and beat_at - now > CLOCK_TOLERANCE
  if went_back then
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', nodes, text(now + lease), '+inf')) do
      redis.call('ZADD', nodes, text(now + lease), id)
    end
  end
  if went_back or (beat_at and now - beat_at > lease) then
    no_trim_until = now + lease
    redis.call('HSET', pool, 'no_trim_until', text(no_trim_until))
  end
  return not no_trim_until or no_trim_until <= now
end

local function trim()
  local trimmed = false
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', nodes, '-inf', text(now))) do
    if id ~= node then
      remove(id)
      trimmed = true
    end
  end
  return trimmed
end

local function renew()
  local before = decoded(redis.call('HGET', members, node))
  if not redis.call('ZSCORE', nodes, node) then
    before = nil
  end
  local joined = before and before.joined or now
  local row = '{"host":' .. cjson.encode(ARGV[3]) .. ',"config":' .. cjson.encode(ARGV[4])
    .. ',"state":' .. cjson.encode(ARGV[5]) .. ',"joined":' .. text(joined) .. ',"info":' .. ARGV[6] .. '}'
  redis.call('ZADD', nodes, text(now + lease), node)
  redis.call('HSET', members, node, row)
  redis.call('HSET', pool, 'schema', ARGV[8], 'beat_at', text(now))
  return not before or before.host ~= ARGV[3] or before.config ~= ARGV[4] or before.state ~= ARGV[5]
end

-- The members in the order of their leases; drops every row or lease that is not one.
local function sound_members()
  local rows, sound = {}, {}
  local flat = redis.call('HGETALL', members)
  for i = 1, #flat, 2 do
    rows[flat[i]] = decoded(flat[i + 1])
    if not rows[flat[i]] or not redis.call('ZSCORE', nodes, flat[i]) then
      remove(flat[i])
    end
  end
  for _, id in ipairs(redis.call('ZRANGE', nodes, 0, -1)) do
    if rows[id] then
      sound[#sound + 1] = {id = id, config = rows[id].config, joined = rows[id].joined}
    else
      remove(id)
    end
  end
  return sound
end

-- The config of the longest-lived member, unless one of them runs the config in force.
local function heir()
  local eldest
  for _, member in ipairs(sound_members()) do
    if member.config == config then
      return nil
    end
    if not eldest or member.joined < eldest.joined
        or (member.joined == eldest.joined and member.id < eldest.id) then
      eldest = member
    end
  end
  return eldest and eldest.config
end

local function put_in_force(new)
  config, since = new, math.max(now, (since or 0) + 1)
  redis.call('HSET', pool, 'config', config, 'since', text(since))
end

local changed
if leaving then
  changed = remove(node) > 0
else
  changed = may_trim() and trim()
  changed = renew() or changed
end
if not (config and since) then
  if not leaving then
    put_in_force(ARGV[4])
    changed = true
  end
elseif changed then
  local new = heir()
  if new then
    put_in_force(new)
  end
end

-- The instant makes an epoch new even where Redis came back older or empty and counts again.
if changed or not (epoch or leaving) then
  local count = redis.pcall('HINCRBY', pool, 'changes', 1)
  if type(count) ~= 'number' then
    count = 1
    redis.call('HSET', pool, 'changes', count)
  end
  epoch = text(now) .. '-' .. text(count)
  redis.call('HSET', pool, 'epoch', epoch)
  redis.pcall('PUBLISH', ARGV[7], 'view') -- only hurries the others: a missing right to it is no fault
end

local listed = false
if not leaving and epoch ~= ARGV[9] then
  listed = {}
  local leases = redis.call('ZRANGE', nodes, 0, -1, 'WITHSCORES')
  for i = 1, #leases, 2 do
    listed[#listed + 1] = leases[i]
    listed[#listed + 1] = leases[i + 1]
    listed[#listed + 1] = redis.call('HGET', members, leases[i])
  end
end
local micros = string.format('%s%06d', time[1], time[2])
return {'ok', micros, epoch or '', config or '', since and text(since) or '', listed}
