-- Forgets consumers of the command stream that have nothing to do any more: every start of a Belfry is one of a new name.
-- In one step, so that none is forgotten that is being given a command: that would be lost with it.
--
--   KEYS[1]  PREFIXcommands
--   ARGV[1]  the group            ARGV[2]  for how many milliseconds it must have been silent
--
-- Answers how many were forgotten.

local forgotten = 0
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local known = {}
  for i = 1, #consumer, 2 do known[consumer[i]] = consumer[i + 1] end
  if known.pending == 0 and known.idle >= tonumber(ARGV[2]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], known.name)
    forgotten = forgotten + 1
  end
end
return forgotten
