--[[
Put a message on the broker: the part that claim.lua and settle.lua share, and run together with.

What is to be done is one of ARGV, the same for many messages, and what it takes are those that follow it:
'LPUSH 5 PEXPIRE 5' is two commands for the queue that is the fifth of KEYS, and takes two values; 'PUBLISH', a
command without a queue, takes a channel and a value.  So do INTENT and UNDO of claim.lua take two.
]]
local commands = {} -- what is to be done → {{op, queue or nil}, ..., takes = so many of ARGV}
local kinds = {} -- queue → its type, asked once

local function parsed(words)
  local parts = commands[words]
  if not parts then
    parts = {takes = 0}
    for op, place in words:gmatch('([%u.]+) ?(%d*)') do
      parts[#parts + 1] = {op, KEYS[tonumber(place)]}
      parts.takes = parts.takes + (place == '' and 2 or 1)
    end
    commands[words] = parts
  end
  return parts
end

-- What is wrong with the queues of these commands, or nil.
local function wrong_type(parts)
  for _, part in ipairs(parts) do
    if part[1] == 'LPUSH' then
      local key = part[2]
      kinds[key] = kinds[key] or redis.call('TYPE', key).ok
      if kinds[key] ~= 'list' and kinds[key] ~= 'none' then
        return 'WRONGTYPE queue key ' .. key .. ' holds a ' .. kinds[key] .. ', not a list'
      end
    end
  end
end

-- Whether a message was pushed, and the errors of what was not; what the commands take begins at `at`.
local function push(parts, at)
  local pushed, errors = false, ''
  for _, part in ipairs(parts) do
    local op, target = part[1], part[2]
    if not target then
      target, at = ARGV[at], at + 1
    end
    local reply = redis.pcall(op, target, ARGV[at])
    at = at + 1
    if type(reply) == 'table' and reply.err then
      errors = errors .. (errors == '' and '' or '; ') .. op .. ' ' .. target .. ': ' .. reply.err
    elseif op ~= 'PEXPIRE' then
      pushed = true
    end
  end
  return pushed, errors
end
