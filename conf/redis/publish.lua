-- Publishes one message to a room of Belfry: into the room's history and to all nodes, in one step. Belfry itself uses
-- this script; a backend may, too (EVAL, or SCRIPT LOAD and EVALSHA), and then needs no connection to Belfry at all.
-- Redis 6.2 or newer, alone or as a cluster.
--
--   KEYS[1]  PREFIXhistory:{ROOM}        the stream: entry OFFSET-0, field m
--   KEYS[2]  PREFIXhistory:meta:{ROOM}   a hash: e the epoch, o the last offset
--   KEYS[3]  PREFIXhistory:id:{ROOM}:ID  left out where the message has no id; with it, a second publish of the same
--                                        id sends nothing and answers what the first one was answered
--   ARGV[1]  the channel: PREFIXmessage:ROOM; in Belfry with `sharded = yes`: PREFIXmessage:{ROOM}
--   ARGV[2]  the envelope's head, one line of JSON without its line feed; "": one is made here
--   ARGV[3]  the payload; where the head is made here, it is delivered as after PUBLISH PREFIXroom:ROOM
--   ARGV[4]  how many messages the history keeps at least: the [room] section's `history`; 0: this one is not kept
--   ARGV[5]  how long it keeps them after the last one, in milliseconds: `history_ttl`; 0: for ever
--   ARGV[6]  how long the id is remembered, in milliseconds; Belfry: 300000
--   ARGV[7]  the epoch where a new one begins: 4 to 8 random characters of base64url; "": one is made from the clock
--   ARGV[8]  1: SPUBLISH, as `sharded = yes` in Belfry; else 0
--
-- Answers {epoch, offset, 1 where the id was a duplicate, subscribers that PUBLISH reached}; without history the epoch
-- is "" and the offset 0. PREFIX is Belfry's `prefix`, "belfry:" unless changed. The braces stand in the key; a room
-- whose name begins with "}" has "{ }ROOM" in the place of "{ROOM}".
--
-- For example, in one line, order 77's state to the room order:77, which keeps 100 messages for 5 minutes:
--
--   redis-cli --eval publish.lua 'belfry:history:{order:77}' 'belfry:history:meta:{order:77}' , belfry:message:order:77
--     '' '{"state":"paid"}' 100 300000 300000 '' 0

local stream, meta, id_key = KEYS[1], KEYS[2], KEYS[3]
local channel, head, payload = ARGV[1], ARGV[2], ARGV[3]
local history, ttl, id_ttl = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local candidate, publish = ARGV[7], ARGV[8] == '1' and 'SPUBLISH' or 'PUBLISH'

-- How long the epoch outlives the messages, so that a quiet room does not change it.
local meta_ttl_more = 24 * 3600 * 1000

if id_key then
  local first = redis.call('GET', id_key)
  if first then
    local epoch, offset = string.match(first, '^(%S*) (%d+)$')
    return {epoch or '', tonumber(offset) or 0, 1, 0}
  end
end

if head == '' then
  local now = redis.call('TIME')
  local ms = string.format('%03d', math.floor(tonumber(now[2]) / 1000))
  head = '{"v":1,"node":"backend","seq":0,"kind":"any","time":' .. now[1] .. ms .. '}'
end

local epoch, offset, position = '', '0', ''
if history > 0 then
  epoch = redis.call('HGET', meta, 'e')
  if not epoch then
    epoch = candidate
    if epoch == '' then
      local now = redis.call('TIME')
      epoch = string.sub(redis.sha1hex(now[1] .. ' ' .. now[2] .. ' ' .. stream), 1, 8)
    end
    redis.call('DEL', stream, meta)
    redis.call('HSET', meta, 'e', epoch)
  end
  offset = string.format('%.0f', redis.call('HINCRBY', meta, 'o', 1))
  -- Trimming costs as much as all the rest, so it is not done each time: up to an eighth more than `history` is kept.
  if tonumber(offset) % math.max(1, math.min(16, math.floor(history / 8))) == 0 then
    redis.call('XADD', stream, 'MAXLEN', '=', history, offset .. '-0', 'm', head .. '\n' .. payload)
  else
    redis.call('XADD', stream, offset .. '-0', 'm', head .. '\n' .. payload)
  end
  if ttl > 0 then
    redis.call('PEXPIRE', stream, ttl)
    redis.call('PEXPIRE', meta, ttl + meta_ttl_more)
  else
    redis.call('PERSIST', stream)
    redis.call('PERSIST', meta)
  end
  position = epoch .. ' ' .. offset .. '\n'
end

local receivers = redis.call(publish, channel, position .. head .. '\n' .. payload)
if id_key then redis.call('SET', id_key, epoch .. ' ' .. offset, 'PX', id_ttl) end
return {epoch, tonumber(offset), 0, receivers}
