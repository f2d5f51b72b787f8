--[[
Put a message on the broker: the part that claim.lua and settle.lua share, and run together with.

A command is three of ARGV: LPUSH or PEXPIRE, the index of its queue in KEYS, value; or PUBLISH, channel,
value.  `first` and `last` bound those of one message.
]]
local kinds = {} -- key → its type, asked once

-- What is wrong with the queues of these commands, or nil.
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
  local pushed, errors = false, ''
  for at = first, last, 3 do
    local op, target = ARGV[at], ARGV[at + 1]
    if op ~= 'PUBLISH' then
      target = KEYS[tonumber(target)]
    end
    local reply = redis.pcall(op, target, ARGV[at + 2])
    if type(reply) == 'table' and reply.err then
      errors = errors .. (errors == '' and '' or '; ') .. op .. ' ' .. target .. ': ' .. reply.err
    elseif op ~= 'PEXPIRE' then
      pushed = true
    end
  end
  return pushed, errors
end
