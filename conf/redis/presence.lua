-- Who is in a room of Belfry that has presence, over all nodes. Belfry alone uses it: these keys may be read, but are not
-- to be written by others. Redis 6.2 or newer, alone or as a cluster.
--
--   KEYS[1]  PREFIXmember:{ROOM}        a hash: CONN -> {"user":...,"info":...}: the members
--   KEYS[2]  PREFIXmember:held:{ROOM}   the same: who has left, but counts for its user still, for 3 s
--   KEYS[3]  PREFIXmember:users:{ROOM}  a hash: USER -> how many connections it has in both
--   ARGV[1]  what is to be done:
--
--   change   ARGV[2] and on, four for each connection: what (list, hold or drop), CONN, USER ("": it is counted for
--            itself), and what stands in the hashes. Any of it may be said twice. Answers one number for each: 1 where
--            it was the first connection of its user, or the last one.
--   members  ARGV[2]: how many at the most. Answers how many there are, then of each CONN and what stands in the hash.

local members, held, users = KEYS[1], KEYS[2], KEYS[3]

local function is_first(user)
  return user == '' or redis.call('HINCRBY', users, user, 1) == 1
end

local function was_last(user)
  if user == '' then return true end
  if redis.call('HINCRBY', users, user, -1) > 0 then return false end
  redis.call('HDEL', users, user)
  return true
end

local function change(what, conn, user, value)
  local was = redis.call('HDEL', held, conn) == 1
  if what == 'list' then
    local new = redis.call('HSET', members, conn, value) == 1
    return new and not was and is_first(user)
  end
  was = redis.call('HDEL', members, conn) == 1 or was
  if what == 'drop' then return was and was_last(user) end
  redis.call('HSET', held, conn, value)
  if not was then is_first(user) end
  return false
end

if ARGV[1] == 'change' then
  local answer = {}
  for i = 2, #ARGV, 4 do
    answer[#answer + 1] = change(ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]) and 1 or 0
  end
  return answer
end

local most, count = tonumber(ARGV[2]), redis.call('HLEN', members)
local answer, found, cursor = {count}, {}, '0'
repeat
  local page = redis.call('HSCAN', members, cursor, 'COUNT', most)
  cursor = page[1]
  for i = 1, #page[2], 2 do
    if #answer > 2 * most then break end
    if not found[page[2][i]] then
      found[page[2][i]] = true
      answer[#answer + 1] = page[2][i]
      answer[#answer + 1] = page[2][i + 1]
    end
  end
until cursor == '0' or #answer > 2 * most
return answer
