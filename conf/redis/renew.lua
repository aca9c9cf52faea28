-- Gives a room's history a new epoch. Belfry uses it where the history is not the one any more that clients have seen (a
-- replica that was behind has become the primary, an old snapshot was loaded): under the old epoch new messages would be
-- taken for old ones.
--
--   KEYS[1]  PREFIXhistory:meta:{ROOM}
--   ARGV[1]  the epoch as it was seen   ARGV[2]  the new one: 4 to 8 random characters of base64url
--
-- Answers 1 where the epoch was changed, 0 where it was another one already.

if redis.call('HGET', KEYS[1], 'e') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'e', ARGV[2])
return 1
