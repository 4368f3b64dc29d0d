#!lua flags=allow-oom
-- Says how a token ends, or that its hold stays. Idempotent by token. Allowed when the server is out of
-- memory, for it frees more than it takes.
-- KEYS: 1 {b:ID}:c  2 {b:ID}:h  3 {b:ID}:x  4 {b:ID}:t:TOKEN
-- ARGV: 1 generation  2 token  3 keep | commit | release | undo  4 ms until the tombstone expires
--       5.. of commit and undo, of each window: name, amount, Unix ms when it may be forgotten
-- keep     the hold never expires: nobody knows yet whether it was a sale
-- commit   a sale: what was held is given back and the actual amount counts as used. A hold that had
--          expired, or was released, counts anyway: the sale is a fact, and counters follow facts
-- release  no sale. Before its delayed reserve arrives it leaves a tombstone, so that one cannot leak
-- undo     a sale gives its room back
-- Answers {'OK', sq}; {'LATE', sq} committed without a hold; {'GONE', sq} there was no hold to keep
--         or release; {'DUP', how} it had ended so, or further, before; {'REBUILD'} as in reserve.
-- include holds

local c, h, x, tomb = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local token, op = ARGV[2], ARGV[3]
if redis.call('HGET', c, 'ep') ~= ARGV[1] then return { 'REBUILD' } end
local ended = redis.call('GET', tomb)
-- Released before, and held again by a rebuild: the database had not heard of the refusal yet.
if ended == 'R' and op == 'release' and let_go(c, h, x, token) then
  return { 'OK', redis.call('HINCRBY', c, 'sq', 1) }
end
if ended and (op == 'keep' or op == 'release' or ended == 'U') then return { 'DUP', ended } end
if ended == 'C' and op == 'commit' or ended == 'R' and op == 'undo' then return { 'DUP', ended } end

local function answer(word)
  return { word, redis.call('HINCRBY', c, 'sq', 1) }
end

if op == 'keep' then
  if redis.call('HEXISTS', h, token) == 0 then return answer('GONE') end
  redis.call('ZREM', x, token)
  return answer('OK')
end

local held = let_go(c, h, x, token)
if op == 'release' then
  redis.call('SET', tomb, 'R', 'PX', ARGV[4])
  return answer(held and 'OK' or 'GONE')
end
if op == 'commit' then
  for i = 5, #ARGV, 3 do add(c, 'u:' .. ARGV[i], ARGV[i + 1], ARGV[i + 2]) end
  redis.call('SET', tomb, 'C', 'PX', ARGV[4])
  return answer(held and 'OK' or 'LATE')
end
if not held then -- an undo that overtook its commit has given the hold back, which is all there is
  for i = 5, #ARGV, 3 do take(c, 'u:' .. ARGV[i], ARGV[i + 1]) end
end
redis.call('SET', tomb, 'U', 'PX', ARGV[4])
return answer('OK')
