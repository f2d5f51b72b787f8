--[[
What the scripts of rows have in common.  It stands before each of them and is no script of its own.

KEYS    1 pool   2 entries   3 changes
ARGV    1 channel to wake the nodes on

The fields of `pool` that are theirs; '' or absent is none:
  catalog          version of the latest change
  catalog_floor    the highest version of a row that was removed
  gate             what a firing claim must show: when rows were last put back, a point, and the version of the
                   row of all entries
]]
local pool, entries, changes = KEYS[1], KEYS[2], KEYS[3]

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function text(number)
  return string.format('%.0f', number)
end

local function number_of(field)
  local number = tonumber(redis.call('HGET', pool, field) or '')
  return number and number >= 0 and number < 2 ^ 53 and math.floor(number) or 0
end

local latest = number_of('catalog')
local before = latest

-- Versions grow even where Redis came back older or empty, since they are never behind its clock.
local function next_version()
  latest = math.max(latest + 1, now)
  return text(latest)
end

local function version_of(row)
  return tonumber(row and row:match('^{"v":(%d+),') or '') or 0
end

-- What a cursor is made of, each part as it is written; nil where it is none.
local function cursor_parts(row)
  local due, definition, since, revision, counts, rest =
    row:match('^%[(%d+),("[^"]*"),(%d+),(%d+),(%d+,%d+),(".*"[,%d]*)%]$')
  if due and tonumber(revision) < 2 ^ 52 then
    return due, definition, since, tonumber(revision), counts, rest:match('^(".*"),?%d*$')
  end
end

-- Why no row may be written, or nil.  Where nobody is alive, nobody could recover what was lost.
local function refusal(nodes, recovery)
  local it = redis.call('HMGET', pool, 'run_id', 'recovery')
  local info = redis.pcall('INFO', 'server')
  local id = type(info) == 'string' and info:match('\nrun_id:(%w+)')
  if (it[2] or '') ~= recovery then
    return 'recovery', it[2] or ''
  end
  if id and it[1] and it[1] ~= '' and it[1] ~= id and #redis.call('ZRANGEBYSCORE', nodes, text(now), '+inf', 'LIMIT', 0, 1) > 0 then
    return 'server', it[1]
  end
end

local function set_gate(part, version)
  local mends, halt = (redis.call('HGET', pool, 'gate') or ''):match('^(%d*)%.(%d*)$')
  if part == 'mends' then
    mends = version
  else
    halt = version
  end
  redis.call('HSET', pool, 'gate', (mends or '') .. '.' .. (halt or ''))
end

-- Rows as {name, row, ...} with their versions as {version, name, ...}; wakes the nodes.
local function write(rows, scores)
  if latest > before then
    redis.call('HSET', pool, 'catalog', text(latest))
  end
  if #rows == 0 then
    return
  end
  redis.call('HSET', entries, unpack(rows))
  redis.call('ZADD', changes, unpack(scores))
  for i = 1, #scores, 2 do
    if scores[i + 1] == '' then
      set_gate('halt', scores[i])
    end
  end
  redis.call('PUBLISH', ARGV[1], 'catalog')
end
