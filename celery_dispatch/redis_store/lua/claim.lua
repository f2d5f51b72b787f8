--[[
Move each cursor that is as expected, and with it put the messages of each such claim on the broker, or write
its intent, or remove the one that it undoes.

KEYS    1 pool   2 cursor   3 intents   4 attempts   5.. the queues that messages go to, each once
ARGV    1 fingerprint and 2 since (ms) of the config that the claims are made under
        3 the recovery that the claims are part of, '' for none
        4 the gate of the rows that the caller knows, '*' where that does not matter
        5 number n of claims   6..5+n the names of their entries, each once
        then per claim: expected cursor ('' for none, ' ' for an empty row), wanted cursor ('' for none), the
        ms before which it is early (0 if it is of no occurrence), what is to be done besides, and what that
        takes: commands (see push.lua), or alone one of
          INTENT, its field, its row
          UNDO, the field of an intent, its token
Result  {'fenced', now in µs, reason, ...} and nothing written, if nothing may be claimed
          server, run_id stored          this is not the server that the pool was last seen on
          recovery, the one under way    it is not the caller's; '' for none
          before, since, until           what was due from since on cannot be claimed under this config
          gate, the one of the rows, the caller's
          config, the one in force, since
        {'done', now in µs, one letter per claim in one string, {details in the order of their letters}}
          w  won: the cursor is the wanted one, by this claim or an earlier try of it
          p  won, but a part of the push did not succeed; detail: the errors
          l  lost: the cursor is another one, or the intent to undo is gone; detail: the stored cursor
          n  lost: there is no cursor
          e  early: nothing was written
          f  failed: nothing was pushed, the cursor stands; detail: the errors

Atomic, because between moving a cursor and pushing its message there must be no moment in which to die.  Lua
does not roll back, so each cursor is moved first and taken back if none of its messages could be pushed: an
error that cannot be caught then never leaves a message without its cursor.  For the same reason an intent is
written before its cursor moves, and one that is undone is removed after it: half of either is a message that
is sent again under its task id, never one that is lost.
]]
local pool, cursor, intents, attempts = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local count = tonumber(ARGV[5])
local FIRST = 6 + count -- where the claims begin

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local micros = string.format('%s%06d', time[1], time[2])

-- What the server calls itself; nil where it may not be asked.
local function run_id()
  local info = redis.pcall('INFO', 'server')
  return type(info) == 'string' and info:match('\nrun_id:(%w+)') or nil
end

-- Whether each claim is of an occurrence that was due before `limit`, or undoes an intent.
local function all_due_before(limit)
  local at = FIRST
  for _ = 1, count do
    local due, words = tonumber(ARGV[at + 2]), ARGV[at + 3]
    if words ~= 'UNDO' and (due == 0 or due >= limit) then
      return false
    end
    at = at + 4 + parsed(words).takes
  end
  return true
end

-- Why nothing may be claimed, or nil.
local function refusal()
  local stored = redis.call('HMGET', pool, 'config', 'since', 'before_config', 'before_since', 'before_until',
    'run_id', 'recovery', 'gate')
  for i = 1, 8 do
    stored[i] = stored[i] or ''
  end
  local config, since, before_config, before_since, before_until = unpack(stored, 1, 5)
  local server, recovery, gate = stored[6], stored[7], stored[8]:match('^%d*%.%d*$') or ''
  local id = run_id()
  if id and id ~= server then
    return 'server', server, ''
  end
  if recovery ~= ARGV[3] then
    return 'recovery', recovery, ''
  end
  if ARGV[4] ~= '*' and ARGV[4] ~= gate then
    return 'gate', gate, ARGV[4]
  end
  if recovery ~= '' or (config == ARGV[1] and since == ARGV[2]) then
    return nil
  end
  local ends = tonumber(before_until)
  if before_config == ARGV[1] and before_since == ARGV[2] and ends and now < ends then
    if all_due_before(tonumber(since) or 0) then
      return nil
    end
    return 'before', since, before_until
  end
  return 'config', config, since
end

local reason, first_word, second_word = refusal()
if reason then
  return {'fenced', micros, reason, first_word, second_word}
end

local details = {}

local function detail(words)
  details[#details + 1] = words
end

-- A row may be the empty string without being none.
local function is(stored, row)
  if row == '' then
    return not stored
  end
  return stored == row or (row == ' ' and stored == '')
end

local function move(name, row)
  if row == '' then
    redis.call('HDEL', cursor, name)
  else
    redis.call('HSET', cursor, name, row)
  end
end

-- Not the whole row: an intent may have been kept with its message since.
local function holds(field, token)
  local row = redis.call('HGET', intents, field)
  return row and row:sub(1, 16) == token
end

local function carry_out(name, stored, expected, wanted, due, words, at)
  if is(stored, wanted) then
    return 'w'
  end
  if not is(stored, expected) or (words == 'UNDO' and not holds(ARGV[at], ARGV[at + 1])) then
    if not stored then
      return 'n'
    end
    detail(stored)
    return 'l'
  end
  if due > now then
    return 'e'
  end
  if words == 'INTENT' then
    local field, row = ARGV[at], ARGV[at + 1]
    redis.call('ZADD', attempts, row:match(' (%d+)'), field)
    redis.call('HSET', intents, field, row)
    move(name, wanted)
    return 'w'
  end
  if words == 'UNDO' then
    move(name, wanted)
    redis.call('HDEL', intents, ARGV[at])
    redis.call('ZREM', attempts, ARGV[at])
    return 'w'
  end
  local parts = parsed(words)
  local wrong = wrong_type(parts)
  if wrong then
    detail(wrong)
    return 'f'
  end
  move(name, wanted)
  if #parts == 0 then
    return 'w'
  end
  local pushed, errors = push(parts, at)
  if pushed and errors == '' then
    return 'w'
  end
  detail(errors)
  if pushed then
    return 'p'
  end
  move(name, expected)
  return 'f'
end

local rows = {}
if count > 0 then
  rows = redis.call('HMGET', cursor, unpack(ARGV, 6, FIRST - 1))
else -- the answer to nothing is whether these keys can be used at all
  redis.call('HLEN', cursor)
  redis.call('HLEN', intents)
  redis.call('ZCARD', attempts)
end
local letters = {}
local at = FIRST
for i = 1, count do
  local words = ARGV[at + 3]
  letters[i] = carry_out(ARGV[5 + i], rows[i], ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2]), words, at + 4)
  at = at + 4 + parsed(words).takes
end
return {'done', micros, table.concat(letters), details}
