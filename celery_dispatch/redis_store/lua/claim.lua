--[[
Move each cursor that is as expected, and put the messages of each such claim on the broker with it.

KEYS    1 pool   2 cursor   3.. the queues that messages go to, each once
ARGV    1 fingerprint and 2 since (ms) of the config that the claims are made under
        3 number n of claims   4..3+n the names of their entries, each once
        then per claim: expected cursor, wanted cursor ('' for none), the ms before which it is early,
        number c of commands; and c times: LPUSH, PEXPIRE or PUBLISH; index of the queue in KEYS, or the
        channel; value
Result  {'fenced', now in µs, config in force, since} and nothing written, if it is another one
        {'done', now in µs, one letter per claim in one string, {details in the order of their letters}}
          w  won: the cursor is the wanted one, by this claim or an earlier try of it
          p  won, but a part of the push did not succeed; detail: the errors
          l  lost: the cursor is another one; detail: the stored one
          n  lost: there is no cursor
          e  early: nothing was written
          f  failed: nothing was pushed, the cursor stands; detail: the errors

Atomic, because between moving a cursor and pushing its message there must be no moment in which to die.  Lua
does not roll back, so each cursor is moved first and taken back if none of its messages could be pushed: an
error that cannot be caught then never leaves a message without its cursor.
]]
local pool, cursor = KEYS[1], KEYS[2]

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local micros = string.format('%s%06d', time[1], time[2])

local in_force = redis.call('HMGET', pool, 'config', 'since')
if in_force[1] ~= ARGV[1] or in_force[2] ~= ARGV[2] then
  return {'fenced', micros, in_force[1] or '', in_force[2] or ''}
end

local details = {}
local kinds = {} -- key → its type, asked once

local function detail(words)
  details[#details + 1] = words
end

-- A row may be the empty string without being none.
local function is(stored, row)
  if row == '' then
    return not stored
  end
  return stored == row
end

local function move(name, row)
  if row == '' then
    redis.call('HDEL', cursor, name)
  else
    redis.call('HSET', cursor, name, row)
  end
end

local function wrong_type(first, last)
  for at = first, last, 3 do
    if ARGV[at] == 'LPUSH' then
      local key = KEYS[tonumber(ARGV[at + 1])]
      kinds[key] = kinds[key] or redis.call('TYPE', key).ok
      if kinds[key] ~= 'list' and kinds[key] ~= 'none' then
        return 'WRONGTYPE queue key ' .. key .. ' holds a ' .. kinds[key] .. ', not a list'
      end
    end
  end
end

-- Whether a message was pushed, and the errors of what was not.
local function push(first, last)
  local pushed, errors = false, {}
  for at = first, last, 3 do
    local op, target = ARGV[at], ARGV[at + 1]
    if op ~= 'PUBLISH' then
      target = KEYS[tonumber(target)]
    end
    local reply = redis.pcall(op, target, ARGV[at + 2])
    if type(reply) == 'table' and reply.err then
      errors[#errors + 1] = op .. ' ' .. target .. ': ' .. reply.err
    elseif op ~= 'PEXPIRE' then
      pushed = true
    end
  end
  return pushed, table.concat(errors, '; ')
end

local function settle(name, stored, expected, wanted, due, first, last)
  if is(stored, wanted) then
    return 'w'
  end
  if not is(stored, expected) then
    if not stored then
      return 'n'
    end
    detail(stored)
    return 'l'
  end
  if due > now then
    return 'e'
  end
  local wrong = wrong_type(first, last)
  if wrong then
    detail(wrong)
    return 'f'
  end
  move(name, wanted)
  if last < first then
    return 'w'
  end
  local pushed, errors = push(first, last)
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

local count = tonumber(ARGV[3])
local rows = count > 0 and redis.call('HMGET', cursor, unpack(ARGV, 4, 3 + count)) or {}
local letters = {}
local at = 4 + count
for i = 1, count do
  local first = at + 4
  local last = first + 3 * tonumber(ARGV[at + 3]) - 1
  letters[i] = settle(ARGV[3 + i], rows[i], ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2]), first, last)
  at = last + 1
end
return {'done', micros, table.concat(letters), details}
