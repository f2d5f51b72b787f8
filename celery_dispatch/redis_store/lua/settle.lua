--[[
Remove each intent that is still that of its attempt, and put its message on the broker with it.

KEYS    1 intents   2 attempts   3.. the queues that messages go to, each once
ARGV    1 number n of settlements   2..1+n the fields of their intents, each once
        then per settlement: token, its commands, and what they take (see push.lua)
Result  {one letter per settlement in one string, {details in the order of their letters}}
          w  settled
          p  settled, but a part of the push did not succeed; detail: the errors
          l  there is no such intent, or it is another attempt's; nothing was pushed
          f  nothing was pushed, the intent stands; detail: the errors

Atomic, because a message that is pushed while its intent stands would be sent again by whoever takes it over.
Lua does not roll back, so each intent is removed first and put back if nothing could be pushed: an error that
cannot be caught then never leaves a message together with its intent.
]]
local intents, attempts = KEYS[1], KEYS[2]
local count = tonumber(ARGV[1])
local details = {}

local function detail(words)
  details[#details + 1] = words
end

local function settle(field, row, token, parts, at)
  if not row or row:sub(1, 16) ~= token then
    return 'l'
  end
  local wrong = wrong_type(parts)
  if wrong then
    detail(wrong)
    return 'f'
  end
  local since = #parts > 0 and redis.call('ZSCORE', attempts, field)
  redis.call('HDEL', intents, field)
  redis.call('ZREM', attempts, field)
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
  redis.call('ZADD', attempts, since or 0, field)
  redis.call('HSET', intents, field, row)
  return 'f'
end

redis.call('ZCARD', attempts) -- also of an empty batch: whether these keys can be used at all
redis.call('HLEN', intents)
local rows = count > 0 and redis.call('HMGET', intents, unpack(ARGV, 2, 1 + count)) or {}

-- A server that is out of memory refuses a script's first write only, and only one that could need memory,
-- which a removal is not.  So this asks for the pushes, and writes nothing.
if #KEYS > 2 then
  for i = 1, count do
    if rows[i] then
      redis.call('HSETNX', intents, ARGV[1 + i], rows[i])
      break
    end
  end
end

local letters = {}
local at = 2 + count
for i = 1, count do
  local parts = parsed(ARGV[at + 1])
  letters[i] = settle(ARGV[1 + i], rows[i], ARGV[at], parts, at + 2)
  at = at + 2 + parts.takes
end
return {table.concat(letters), details}
