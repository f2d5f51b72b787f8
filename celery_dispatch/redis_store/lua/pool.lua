--[[
What the scripts of the pool have in common.  It stands before each of them and is no script of its own.

KEYS    1 pool   2 nodes   3 members
ARGV    1 channel to wake the nodes on   2 schema version

The fields of `pool` (see heartbeat.lua) are read into `it` at once, changed there, and written by `save` at
once.  An instant that no script here would have written counts as none.
]]
local pool, nodes, members = KEYS[1], KEYS[2], KEYS[3]
local LATEST = 253402300799999
local CLOCK_TOLERANCE = 1000 -- ms; a smaller step back only lengthens leases by as much

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local micros = string.format('%s%06d', time[1], time[2])

local function text(number)
  return string.format('%.0f', number)
end

local function instant(stored)
  local ms = tonumber(stored or '')
  if ms and ms >= 0 and ms < LATEST and text(ms) == stored then
    return ms
  end
end

local TEXTS = {
  'schema', 'identity', 'config', 'before_config', 'challenger', 'epoch', 'run_id', 'recovery',
  'recovery_names',
}
local INSTANTS = {
  'identity_at', 'since', 'before_since', 'before_until', 'reopened', 'swept', 'challenger_at', 'vote_at', 'changes',
  'beat_at', 'lease', 'no_trim_until', 'recovery_from', 'recovery_until',
}
local FIELDS = {}
for _, names in ipairs({TEXTS, INSTANTS}) do
  for _, name in ipairs(names) do
    FIELDS[#FIELDS + 1] = name
  end
end

local it, stored = {}, redis.call('HMGET', pool, unpack(FIELDS))
for i, name in ipairs(FIELDS) do
  if i > #TEXTS then
    it[name] = instant(stored[i])
  elseif stored[i] and stored[i] ~= '' then
    it[name] = stored[i]
  end
end
it.identity = it.identity or ''
if not it.since then
  it.config = nil
end

local function save()
  local written = {}
  for i, name in ipairs(FIELDS) do
    local value = it[name] or ''
    if type(value) == 'number' then
      value = text(value)
    end
    if value ~= (stored[i] or '') then
      written[#written + 1] = name
      written[#written + 1] = value
    end
  end
  if #written > 0 then
    redis.call('HSET', pool, unpack(written))
  end
end

-- 'newer' or 'older' where the pool was written by a version with another layout, else nil.
local function schema_is()
  if not it.schema or it.schema == ARGV[2] then
    return nil
  end
  local theirs = instant(it.schema) or 0
  return theirs > 0 and theirs < tonumber(ARGV[2]) and 'older' or 'newer'
end

-- Never used before: the instant makes it new even where Redis came back older or empty and counts again.
local function new_name()
  it.changes = (it.changes or 0) + 1
  return text(now) .. '-' .. text(it.changes)
end

local function begin_epoch()
  it.epoch = new_name()
  redis.pcall('PUBLISH', ARGV[1], 'view') -- only hurries the others: a missing right to it is no fault
end

-- The row of a member as a table, or nil if it is none.
local function decoded(row)
  if not row then
    return nil
  end
  local ok, member = pcall(cjson.decode, row)
  if ok and type(member) == 'table' and type(member.host) == 'string' and type(member.config) == 'string'
      and type(member.identity) == 'string' and type(member.state) == 'string'
      and type(member.draining) == 'boolean' and type(member.joined) == 'number'
      and member.joined >= 0 and member.joined < LATEST and member.joined % 1 == 0 then
    return member
  end
end

local function row_of(member, info)
  return '{"host":' .. cjson.encode(member.host) .. ',"config":' .. cjson.encode(member.config)
    .. ',"identity":' .. cjson.encode(member.identity) .. ',"state":' .. cjson.encode(member.state)
    .. ',"draining":' .. tostring(member.draining) .. ',"joined":' .. text(member.joined)
    .. ',"info":' .. info .. '}'
end

local function remove(id)
  return redis.call('ZREM', nodes, id) + redis.call('HDEL', members, id)
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
  local leases = redis.call('ZRANGE', nodes, 0, -1, 'WITHSCORES')
  for i = 1, #leases, 2 do
    local member = rows[leases[i]]
    if member then
      member.id, member.lease_end = leases[i], tonumber(leases[i + 1])
      sound[#sound + 1] = member
    else
      remove(leases[i])
    end
  end
  return sound
end

local function older(a, b)
  return a.joined < b.joined or (a.joined == b.joined and a.id < b.id)
end

local function eldest(list)
  local found
  for _, member in ipairs(list) do
    if not found or older(member, found) then
      found = member
    end
  end
  return found
end

-- Those of the pool's identity.
local function own(list)
  local found = {}
  for _, member in ipairs(list) do
    if member.identity == it.identity then
      found[#found + 1] = member
    end
  end
  return found
end

local function runs(list, config)
  for _, member in ipairs(list) do
    if member.config == config then
      return true
    end
  end
  return false
end

-- Whether it joined in the future, that is, before the clock went back.
local function lived_before_step(member)
  return member.joined - now > CLOCK_TOLERANCE
end

-- The config that most of the voters among `list` run; if none may vote, all do.
local function leader(list, lease)
  local voters = {}
  for _, member in ipairs(list) do
    if not member.draining and (now - member.joined >= lease or lived_before_step(member)) then
      voters[#voters + 1] = member
    end
  end
  if #voters == 0 then
    voters = list
  end
  local parties, best = {}, nil
  for _, member in ipairs(voters) do
    parties[member.config] = parties[member.config] or {}
    table.insert(parties[member.config], member)
  end
  for config, party in pairs(parties) do
    local by = best and #party - #parties[best] or 1
    if by == 0 then
      local first = config == it.config or older(eldest(party), eldest(parties[best]))
      by = best ~= it.config and first and 1 or 0
    end
    best = by > 0 and config or best
  end
  return best
end

-- Make `config` the one in force from `from` on, or right after the last switch if that is later.
--
-- What is then the one before: the one in force until now.  But a switch that still lies ahead never took
-- place: what is due until the new one belongs to the config that it was to replace, so that one stays.
local function put_in_force(config, from, lease)
  if not (it.since and now < it.since) then
    it.before_config, it.before_since = it.config, it.config and it.since
  end
  it.config, it.since = config, math.max(from, (it.since or 0) + 1)
  it.before_until = it.before_config and it.since + lease
  it.reopened, it.challenger, it.challenger_at = nil, nil, nil
end

-- Make the pool that of `identity`.  The nodes of the old one may not claim any more, even under a config
-- with the same fingerprint: hence a fence of its own, and none before it.
local function take_for(identity, list, lease)
  it.identity, it.identity_at = identity, now
  local config = not it.recovery and leader(own(list), lease) or it.config
  if config then
    put_in_force(config, now, lease)
  end
  it.before_config, it.before_since, it.before_until, it.vote_at = nil, nil, nil, nil
end

-- The leader comes into force if no live node runs the config in force; whether it did.
local function succeed(list, lease)
  local heir = not (it.config and runs(list, it.config)) and leader(list, lease)
  if heir then
    put_in_force(heir, now, lease)
  end
  return heir
end

-- The names that the recovery waits for, as a set.
local function waited_for()
  local ok, names = pcall(cjson.decode, it.recovery_names or '[]')
  local set = {}
  for _, id in ipairs(ok and type(names) == 'table' and names or {}) do
    set[tostring(id)] = true
  end
  return set
end

local function wait_for(set)
  local names = {}
  for id in pairs(set) do
    names[#names + 1] = id
  end
  table.sort(names)
  it.recovery_names = #names > 0 and cjson.encode(names) or nil
end
