--[[
Write cursors from outside of the pool: moved in from elsewhere, or put back from a backup.

KEYS    1 cursor
ARGV    name, row as it was read ('' for none) and new row of each, in turn
Result  one letter per cursor in one string: y written (now, or by an earlier try), n it is another one

Atomic, because a claim between reading and writing would be undone.  It asks for no fence: there may be no
pool yet, and a claim compares the whole cursor, so that a node and this script see the same winner.
]]
local letters = {}
for i = 1, #ARGV, 3 do
  local name, expected, new = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local stored = redis.call('HGET', KEYS[1], name) or ''
  if stored == expected then
    redis.call('HSET', KEYS[1], name, new)
    stored = new
  end
  letters[#letters + 1] = stored == new and 'y' or 'n'
end
return table.concat(letters)
