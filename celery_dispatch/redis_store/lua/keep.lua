--[[
Write the message into each intent that is still that of its attempt.

KEYS    1 intents
ARGV    field and new row of each, in turn; a row begins with the token of its attempt, 16 characters
Result  one letter per intent in one string: y written, n there is none, or it is another attempt's

Atomic, because an intent that another node took over in between would go back to this one.
]]
local intents = KEYS[1]

local letters = {}
for i = 1, #ARGV, 2 do
  local field, row = ARGV[i], ARGV[i + 1]
  local stored = redis.call('HGET', intents, field)
  if stored and stored:sub(1, 16) == row:sub(1, 16) then
    redis.call('HSET', intents, field, row)
    letters[#letters + 1] = 'y'
  else
    letters[#letters + 1] = 'n'
  end
end
return table.concat(letters)
