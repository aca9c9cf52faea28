-- Reads a room's history, what conf/redis/publish.lua has written: the messages from an offset on, the newest ones
-- where they are too many. Belfry uses it when somebody joins, and after an outage. A room without history gets its
-- epoch here, so that who joins it empty has a place to come back to.
--
--   KEYS[1]  PREFIXhistory:{ROOM}       KEYS[2]  PREFIXhistory:meta:{ROOM}
--   ARGV[1]  the lowest offset wanted   ARGV[2]  how many messages at most   ARGV[3]  after how many bytes to stop
--   ARGV[4]  the epoch where there is none yet: 4 to 8 random characters of base64url
--
-- Answers {epoch, last offset, entries as XREVRANGE gives them: the newest first}.

local stream, meta = KEYS[1], KEYS[2]
local from, limit, bytes_max, candidate = ARGV[1] .. '-0', tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local a_page = 16
local empty_ttl = 3600 * 1000 -- whoever may join a room makes such a key

local now = redis.call('HMGET', meta, 'e', 'o')
if not now[1] then
  redis.call('DEL', stream, meta)
  redis.call('HSET', meta, 'e', candidate)
  redis.call('PEXPIRE', meta, empty_ttl)
  return {candidate, '0', {}}
end

local found, bytes, to = {}, 0, '+'
while #found < limit and bytes < bytes_max do
  local page = redis.call('XREVRANGE', stream, to, from, 'COUNT', math.min(a_page, limit - #found))
  for _, entry in ipairs(page) do
    found[#found + 1] = entry
    for _, word in ipairs(entry[2]) do bytes = bytes + #word end
  end
  if #page < a_page then break end
  to = '(' .. page[#page][1]
end
return {now[1], now[2] or '0', found}
