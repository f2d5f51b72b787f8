--[[
Write rows, and with each of them the cursor of its entry.  (After rows.lua.)

KEYS    1 pool   2 entries   3 changes   4 cursor   5 nodes   6 intents   7 attempts
ARGV    1 channel to wake the nodes on   2 number n of changes   3..2+n their names, each once
        then per change: the row that it is made of ('' for none), that row's definition's hash, the new row
        without its version, the new definition's hash, the anchor in ms ('' for now), '1' to remove the open
        intents of the entry, else '0', '1' if what is due stays due under the new definition, else '0'
Result  {'fenced', reason, word} and nothing written, if nothing may be changed
        {'done', one letter per change in one string, {a detail per change}}
          w  written, by this change or an earlier try of it; detail: its row
          s  the row is another one; detail: the stored row, '' for none
          c  the name to be created is one of the config in force; detail: ''
          d  the cursor cannot be read; detail: ''

A cursor takes a new definition where it carries that of the row before; any other one is a config's.  Where
there is no cursor the entry is anchored, and a name that only the config defines gets a tombstone.

Atomic, because between a row and its cursor there must be no moment in which a node could claim with one and
without the other.
]]
local intents, attempts = KEYS[6], KEYS[7]
local count = tonumber(ARGV[2])
local PARTS = 7

local reason, word = refusal(KEYS[5], '')
if reason then
  return {'fenced', reason, word}
end

local names, details, letters = {}, {}, {}
local written, cursors, scores = {}, {}, {}
local dropped = {}

local function carries(definition)
  return '"' .. definition .. '"'
end

-- The cursor under the new row, or nil if the stored one cannot be read.
local function moved(stored, before, after, anchor, keeps_since, version)
  if not stored then
    local from = anchor ~= '' and anchor or text(now)
    return '[' .. from .. ',' .. carries(after) .. ',' .. from .. ',1,0,0,"",' .. version .. ']'
  end
  local due, definition, since, revision, counts, node = cursor_parts(stored)
  if not due then
    return nil
  end
  if definition == carries(before) and before ~= after then
    definition, since = carries(after), keeps_since == '1' and since or text(now)
    if before == '' then
      due = anchor ~= '' and anchor or text(now)
      since, counts = due, '0,0'
    end
  end
  return '[' .. due .. ',' .. definition .. ',' .. since .. ',' .. text(revision + 1) .. ',' .. counts .. ','
    .. node .. ',' .. version .. ']'
end

local function answer(i, letter, detail)
  letters[i], details[i] = letter, detail or ''
end

local function change(i, name, row, stored, at)
  local expected, before, rest, after = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  if row and row:gsub('^{"v":%d+', '', 1) == rest then
    return answer(i, 'w', row)
  end
  if (row or '') ~= expected then
    return answer(i, 's', row)
  end
  local version = next_version()
  local new = '{"v":' .. version .. rest
  if name ~= '' then
    local _, definition = cursor_parts(stored or '')
    if before == '' and after ~= '' and definition and definition ~= '""' then
      return answer(i, 'c')
    end
    local cursor = moved(stored, before, after, ARGV[at + 4], ARGV[at + 6], version)
    if not cursor then
      return answer(i, 'd')
    end
    cursors[#cursors + 1] = name
    cursors[#cursors + 1] = cursor
  end
  written[#written + 1] = name
  written[#written + 1] = new
  scores[#scores + 1] = version
  scores[#scores + 1] = name
  if ARGV[at + 5] == '1' then
    dropped[name] = true
  end
  answer(i, 'w', new)
end

-- Intents that stay hidden behind this many are of more nodes than a pool has.
local function drop_intents()
  local MOST, PAGE = 20000, 1000
  local gone = {}
  for from = 0, MOST - 1, PAGE do
    local fields = redis.call('ZRANGE', attempts, from, from + PAGE - 1)
    for _, field in ipairs(fields) do
      if dropped[field:match('^%d+:(.*)$') or false] then
        gone[#gone + 1] = field
      end
    end
    if #fields < PAGE then
      break
    end
  end
  for from = 1, #gone, PAGE do  -- afterwards, for it changes the ranks
    local last = math.min(from + PAGE - 1, #gone)
    redis.call('HDEL', intents, unpack(gone, from, last))
    redis.call('ZREM', attempts, unpack(gone, from, last))
  end
end

local rows, stored = {}, {}
if count > 0 then
  rows = redis.call('HMGET', entries, unpack(ARGV, 3, 2 + count))
  stored = redis.call('HMGET', KEYS[4], unpack(ARGV, 3, 2 + count))
end
for i = 1, count do
  change(i, ARGV[2 + i], rows[i], stored[i], 3 + count + PARTS * (i - 1))
end
if next(dropped) then
  drop_intents()
end
if #cursors > 0 then
  redis.call('HSET', KEYS[4], unpack(cursors))
end
write(written, scores)
return {'done', table.concat(letters), details}
