--[[
Renew a node's lease, trim those that ran out, and settle what the pool agrees on.  (After pool.lua.)

KEYS    1 pool   2 nodes   3 members
ARGV    1 channel to wake the others on   2 schema version
        3 node id   4 lease   5 interval of heartbeats   6 handover delay, all in ms
        7 the epoch that the caller knows, '' for none
        8 host   9 fingerprint of the node's config   10 identity   11 state   12 info, a JSON object
        13 config and 14 since (ms) of the fence that the node remembers, '' for none
        15 and 16 the same of the one before it
        17 name of the recovery that the node has merged, '' for none   18 '1' if it is suspicious, else '0'
        19 '1' if the node was draining when it last looked, else '0'; for where its row is gone
        20 since when (ms) the config is in force that the node has swept the cursors for, '' for none
Result  {'ok', now in µs, epoch, config in force, since in ms, config before it, since in ms, reopened in ms,
         identity, name of the recovery under way, members or false}; '' for none
        members: {node id, end of lease in ms, row, ...}; false if the caller knows this epoch
        {'newer', schema} or {'older', schema} and nothing written, if the pool has another schema; an older
        one only as long as one of its nodes may be alive

The fields of `pool`; '' or absent is none, instants are whole ms since 1970 by Redis TIME:
  schema           version of this layout
  identity         app and broker that this pool belongs to
  identity_at      the last heartbeat of a node of that identity
  config, since    the config in force from `since` on, which may lie ahead; `since` only grows
  before_config, before_since, before_until
                   the config in force until `since`; what was due in its time is claimable until
                   before_until, for a lease in which somebody could claim it (see `keep_open`).  A switch
                   that is replaced before it took place leaves no trace here: the one before it stays.
  reopened         the last instant at which nobody could claim that, though it was not over
  challenger, challenger_at
                   a config that leads the vote without being in force, and since when it has led
  swept            the `since` that the cursors were last swept for
  vote_at          the votes need not be counted before this, unless something changes
  epoch, changes   names the state of the pool; counts the names that were given
  beat_at, lease   the last heartbeat, and the lease that it asked for
  no_trim_until    nobody is trimmed before
  run_id           of the server that the pool was last seen on
  recovery         name of the recovery under way
  recovery_from, recovery_until
                   it does not end before the one, nor last beyond the other
  recovery_names   the nodes that it waits for, a JSON array

Atomic, because a member is its lease, its row, the epoch and the config in force together: a node that read
one without the other would compute a ring that nobody else has.
]]
local node, lease, interval, handover = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local me = {host = ARGV[8], config = ARGV[9], identity = ARGV[10], state = ARGV[11]}
local merged, suspicious = ARGV[17], ARGV[18] == '1'
local changed = false

-- The pool of an older version, whose rows name no identity, is taken over once none of its nodes can live.
local schema = schema_is()
if schema == 'older' and math.abs(now - (it.beat_at or 0)) > lease then
  sound_members()
  schema = nil
end
if schema then
  return {schema, it.schema}
end
local gone = not it.schema

-- '' where the server does not tell: then nothing is detected by it.
local function run_id_of_server()
  local info = redis.pcall('INFO', 'server')
  return type(info) == 'string' and info:match('run_id:(%w+)') or ''
end

-- After a silence of the whole pool, or a step of the clock, the leases say nothing about who is alive.
local function look_at_clock()
  local went_back = it.beat_at and it.beat_at - now > CLOCK_TOLERANCE
  -- Without a step nobody asks for much more than this lease: what says so was not written by a node.
  local long = went_back and lease or 10 * lease
  local longest = now + long
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', nodes, '(' .. text(longest), '+inf')) do
    redis.call('ZADD', nodes, text(now + lease), id)
  end
  if went_back then
    it.vote_at = nil
  end
  it.before_until = it.before_until and math.min(it.before_until, math.max(now, it.since or 0) + long)
  it.reopened = it.reopened and math.min(it.reopened, now)
  if went_back or (it.beat_at and now - it.beat_at > lease) then
    it.no_trim_until = now + lease
  elseif it.no_trim_until then
    it.no_trim_until = math.min(it.no_trim_until, now + lease)
  end
end

-- Whether no node reaches the broker.  Those of the old config alone do not count: one that never reaches it
-- again would keep open for ever what nobody else may then change.
local function are_cut_off()
  local all = own(sound_members())
  for _, member in ipairs(all) do
    if member.state ~= 'cut_off' then
      return false
    end
  end
  return #all > 0
end

-- What was due before the last switch is claimable for a lease.  Time in which nobody could claim it does not
-- count: while the pool recovers, after a silence of all of it, and while the broker is out of reach.  It is
-- reckoned up with every heartbeat, so that one that is never sent is part of the next one's.
local function keep_open()
  if not (it.since and it.beat_at and it.before_until and it.before_until > it.beat_at) then
    return
  end
  local idle = now - math.max(it.beat_at, it.since)
  if idle > 0 and (it.recovery or now - it.beat_at > 2 * interval or are_cut_off()) then
    it.before_until, it.reopened = it.before_until + idle, now
  end
end

local function renew()
  local before = decoded(redis.call('HGET', members, node))
  if not redis.call('ZSCORE', nodes, node) then
    before = nil
  end
  me.joined = before and before.joined or now
  if lived_before_step(me) then
    me.joined = now - lease -- it keeps its vote
  end
  if before then
    me.draining = before.draining or false
  else
    me.draining = ARGV[19] == '1'
  end
  redis.call('ZADD', nodes, text(now + lease), node)
  redis.call('HSET', members, node, row_of(me, ARGV[12]))
  it.schema, it.beat_at, it.lease = ARGV[2], now, lease
  return not before or before.host ~= me.host or before.config ~= me.config
    or before.identity ~= me.identity or before.state ~= me.state
end

local function trim()
  local expired = redis.call('ZRANGEBYSCORE', nodes, '-inf', text(now))
  for _, id in ipairs(expired) do
    remove(id)
  end
  return #expired > 0
end

local function begin_recovery(alive_at)
  local names = waited_for()
  for _, member in ipairs(sound_members()) do
    if member.lease_end > alive_at then
      names[member.id] = true
    end
  end
  wait_for(names)
  it.recovery = new_name()
  it.recovery_from, it.recovery_until = gone and now + 2 * interval or now, now + lease
  it.challenger, it.challenger_at = nil, nil
end

local function needs_recovery()
  local run_id = run_id_of_server()
  local elsewhere = it.run_id and run_id ~= '' and run_id ~= it.run_id
  if run_id ~= '' then
    it.run_id = run_id
  end
  return gone or elsewhere or (suspicious and not it.recovery)
end

-- What is left of the config in force where Redis lost it, or came back with an older one.  Who remembers one
-- was of this pool, so the pool is that of its app again, whoever else came first.
local function recall()
  local config, since, before_since = ARGV[13], instant(ARGV[14]), instant(ARGV[16])
  if config == '' or not since or (it.config and since < it.since) then
    return false
  end
  if since == it.since then -- what is stored is of a time when what was due before it was not over
    local over = config == it.config and not before_since and (it.before_until or 0) > now
    it.before_until = over and now or it.before_until
    return over
  end
  it.identity, it.identity_at = me.identity, now
  put_in_force(config, since, lease)
  it.before_config, it.before_since = before_since and ARGV[15], before_since
  it.before_until = before_since and math.max(it.since, now) + lease
  it.reopened = before_since and now
  return true
end

-- This node's part in the recovery; whether anything changed.
local function recover()
  local names = waited_for()
  names[node] = merged ~= it.recovery or nil
  wait_for(names)
  it.recovery_from = math.min(it.recovery_from or 0, now + 2 * interval) -- the clock may have gone back
  it.recovery_until = math.min(it.recovery_until or 0, now + lease)
  local recalled = recall()
  if now < it.recovery_until and (next(names) or now < it.recovery_from) then
    return recalled
  end
  it.recovery, it.recovery_names, it.recovery_from, it.recovery_until = nil, nil, nil, nil
  return true
end

-- The pool changes hands when none of its own nodes has lived for a lease.
local function settle_identity(may_trim)
  if me.identity == it.identity then
    it.identity_at = now
    return false
  end
  it.identity_at = math.min(it.identity_at or now, now)
  if not may_trim or now - it.identity_at <= lease then
    return false
  end
  local list = sound_members()
  if #own(list) > 0 then
    return false
  end
  take_for(eldest(list).identity, list, lease)
  return true
end

-- When the last switch is over: what was due before it is claimable no more, and the cursors are swept since,
-- which takes two leases at most; unless it never began.
local function over_at()
  if now < it.since or not it.before_until then
    return 0
  end
  return it.before_until + (it.swept == it.since and 0 or 2 * lease)
end

-- Whether another config comes into force, for it has led for two heartbeats.
local function challenge(list)
  local first = leader(list, lease)
  if first == it.config then
    it.challenger, it.challenger_at = nil, nil
    return false
  end
  if first ~= it.challenger or not it.challenger_at or it.challenger_at > now then
    it.challenger, it.challenger_at = first, now
  end
  if now - it.challenger_at < 2 * interval or over_at() > now then
    return false
  end
  put_in_force(first, now + interval + handover, lease)
  return true
end

-- When the vote can next turn out otherwise, if nobody comes, goes or changes; within a lease, so that what
-- somebody else wrote into the pool is found out.
local function next_vote(list)
  local led = it.challenger and it.challenger_at + 2 * interval
  local latest, divided = now + lease, false
  local at = led and math.max(led, over_at()) or latest
  for _, member in ipairs(list) do
    divided = divided or member.config ~= it.config
    if lived_before_step(member) then
      at = now -- until it has renewed
    elseif member.joined + lease > now then
      at = math.min(at, member.joined + lease)
    end
  end
  return divided and math.min(at, latest) or latest
end

local function settle_config()
  local list = own(sound_members())
  local switched = #list > 0 and (succeed(list, lease) or challenge(list))
  it.vote_at = next_vote(list)
  return switched
end

if it.since and it.swept ~= it.since and ARGV[20] == text(it.since) then
  it.swept, it.vote_at = it.since, nil
end
if it.identity == '' and me.identity ~= '' then
  it.identity, changed = me.identity, true
end
look_at_clock()
if needs_recovery() then
  begin_recovery(it.beat_at or 0)
  changed = true
end
keep_open()
changed = renew() or changed
if it.recovery then
  changed = recover() or changed
end
local may_trim = not it.recovery and (it.no_trim_until or 0) <= now
if may_trim then
  changed = trim() or changed
end
changed = settle_identity(may_trim) or changed
if not it.recovery and (changed or not it.config or now >= (it.vote_at or 0)) then
  changed = settle_config() or changed
end
if changed or not it.epoch then
  begin_epoch()
end
save()

local listed = false
if it.epoch ~= ARGV[7] then
  listed = {}
  local leases = redis.call('ZRANGE', nodes, 0, -1, 'WITHSCORES')
  for i = 1, #leases, 2 do
    listed[#listed + 1] = leases[i]
    listed[#listed + 1] = leases[i + 1]
    listed[#listed + 1] = redis.call('HGET', members, leases[i])
  end
end
local before = it.before_config and it.before_since and (it.before_until or 0) > now
return {
  'ok', micros, it.epoch, it.config or '', it.config and text(it.since) or '',
  before and it.before_config or '', before and text(it.before_since) or '',
  before and it.reopened and text(it.reopened) or '', it.identity, it.recovery or '', listed,
}
