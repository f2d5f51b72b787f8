--[[
Write the rows that Redis lost, as one node knows them.  (After rows.lua.)

KEYS    1 pool   2 entries   3 changes   4 nodes
ARGV    1 channel to wake the nodes on   2 the recovery that this is part of   3 the latest version that the
        node knows   4.. name, version and row of each
Result  {'fenced', reason, word} and nothing written, if that recovery is not under way
        {'done', number of rows that were written}

The cursors are not touched: those that know more put them back themselves.

Atomic, because a row that is written after somebody's newer one must not replace it, and because nobody may
claim by the older rows once the gate has changed.
]]
local reason, word = refusal(KEYS[4], ARGV[2])
if reason then
  return {'fenced', reason, word}
end
local rows, scores = {}, {}
for at = 4, #ARGV, 3 do
  local name, version, row = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  if version_of(redis.call('HGET', entries, name)) < tonumber(version) then
    rows[#rows + 1] = name
    rows[#rows + 1] = row
    scores[#scores + 1] = version
    scores[#scores + 1] = name
    latest = math.max(latest, tonumber(version))
  end
end
latest = math.max(latest, tonumber(ARGV[3]))
if #rows > 0 then
  set_gate('mends', next_version())
end
write(rows, scores)
return {'done', #rows / 2}
