--[[
Make open intents attempts of the caller, the oldest first.

KEYS    1 intents   2 attempts   3 nodes
ARGV    1 the caller's id as a JSON string, as rows hold it
        2 what the tokens of these attempts begin with, 12 characters
        3 the age in ms from which any intent may be taken   4 how many to take at most
        5 and 6 the dues, from and until in ms ('' for no end), of what may be taken from others
Result  {now in ms, {field, row, ...} of what was taken over, {field, row, ...} of what was removed}
        The rows are those that were found.  What was taken over now belongs to the caller since now; the
        tokens are ARGV 2 and the place in the list, from 0 on, as 4 hexadecimal digits.  What was removed
        cannot be an intent.

A row is "token since node", a line feed, and the rest, which is carried over as it is: decoded and encoded
again, the numbers and empty arrays of a message would come back as others.  The caller looks into what it got,
and removes what turns out to be no intent.

A look takes in at most MOST of the oldest attempts, so that the server is never held up for long (3 µs each).
Those that it passes over are of live nodes and young; they are settled, or become old, and make way.  What they
hide waits no longer than until it is old itself, for then it is among the oldest.

The two keys hold the same fields, unless somebody else wrote to them, or an error struck in between.  A field
of `attempts` without a row is removed when it is met.  A row that is not in `attempts` would never be met, so
whenever there are more or fewer rows than attempts, some rows, at random, are looked up there and entered: in
few calls each one is found, whatever their number.

Atomic, because of two nodes that take an intent over, one must be told that it has it.
]]
local intents, attempts, nodes = KEYS[1], KEYS[2], KEYS[3]
local caller, seed = ARGV[1], ARGV[2]
local older_than, limit = tonumber(ARGV[3]), tonumber(ARGV[4])
local due_from, due_until = tonumber(ARGV[5]), tonumber(ARGV[6])
local MOST, PAGE, SAMPLE = 2000, 500, 1000
local HEAD = '^' .. string.rep('[0-9a-f]', 16) .. ' (%d+) ("[^\n]*")()\n' -- since, node, and where the rest begins

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local since_now = string.format('%.0f', now)

local function enter_missing()
  if redis.call('HLEN', intents) == redis.call('ZCARD', attempts) then
    return
  end
  for _, field in ipairs(redis.call('HRANDFIELD', intents, SAMPLE)) do
    if not redis.call('ZSCORE', attempts, field) then
      local since = redis.call('HGET', intents, field):match(HEAD) or '0'
      redis.call('ZADD', attempts, #since < 16 and since or '0', field)
    end
  end
end

-- Whether the caller can name the field: its client reads UTF-8.
local function is_field(field)
  local rest = field:gsub('[\194-\223][\128-\191]', ' ')
  rest = rest:gsub('\224[\160-\191][\128-\191]', ' '):gsub('\237[\128-\159][\128-\191]', ' ')
  rest = rest:gsub('[\225-\236\238\239][\128-\191][\128-\191]', ' ')
  rest = rest:gsub('\240[\144-\191][\128-\191][\128-\191]', ' ')
  rest = rest:gsub('\244[\128-\143][\128-\191][\128-\191]', ' ')
  rest = rest:gsub('[\241-\243][\128-\191][\128-\191][\128-\191]', ' ')
  return field:match('^%d+:') and not rest:find('[\128-\255]')
end

local alive = {[caller] = false} -- node, as rows hold it → whether it is another one that lives

local function is_alive(node)
  if alive[node] == nil then
    local ok, decoded = pcall(cjson.decode, '[' .. node .. ']')
    local ends = ok and type(decoded[1]) == 'string' and redis.call('ZSCORE', nodes, decoded[1])
    alive[node] = ends and tonumber(ends) > now or false
  end
  return alive[node]
end

local found, no_rows, no_intents = {}, {}, {}

local function look_at(field, since, row)
  if not row then
    no_rows[#no_rows + 1] = field
    return
  end
  local _, node, rest_at = row:match(HEAD)
  if node and since + older_than > now and is_alive(node) then
    return
  end
  local due = tonumber(field:match('^%d+'))
  if node and node ~= caller and due and (due < due_from or due_until and due >= due_until) then
    return
  end
  if node and is_field(field) then
    found[#found + 1] = {field, row, rest_at}
  else
    no_intents[#no_intents + 1] = {field, row}
  end
end

local function look()
  for from = 0, MOST - 1, PAGE do
    local page = redis.call('ZRANGE', attempts, from, from + PAGE - 1, 'WITHSCORES')
    local fields, scores = {}, {}
    for i = 1, #page, 2 do
      fields[#fields + 1] = page[i]
      scores[#scores + 1] = tonumber(page[i + 1]) or 0
    end
    if #fields == 0 then
      return
    end
    local rows = redis.call('HMGET', intents, unpack(fields))
    for i, field in ipairs(fields) do
      if #found == limit then
        return
      end
      look_at(field, scores[i], rows[i])
    end
  end
end

enter_missing()
look()

local taken, removed = {}, {}
for i, intent in ipairs(found) do
  local field, row = intent[1], intent[2]
  local token = seed .. string.format('%04x', i - 1)
  redis.call('HSET', intents, field, token .. ' ' .. since_now .. ' ' .. caller .. row:sub(intent[3]))
  redis.call('ZADD', attempts, since_now, field)
  taken[#taken + 1] = field
  taken[#taken + 1] = row
end
for _, field in ipairs(no_rows) do
  redis.call('ZREM', attempts, field)
end
for _, intent in ipairs(no_intents) do
  redis.call('HDEL', intents, intent[1])
  redis.call('ZREM', attempts, intent[1])
  removed[#removed + 1] = intent[1]
  removed[#removed + 1] = intent[2]
end
return {since_now, taken, removed}
