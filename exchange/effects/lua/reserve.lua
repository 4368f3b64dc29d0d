#!lua flags=allow-oom
-- Holds room in all windows of one sale, or in none. Idempotent by token. Allowed when the server is out
-- of memory: a hold is small and short-lived, and what was promised must not go unsold for the offers'
-- sake, which are neither.
-- KEYS: 1 {b:ID}:c  2 {b:ID}:h  3 {b:ID}:x  4 {b:ID}:t:TOKEN
-- ARGV: 1 generation  2 token  3 ms until the hold expires  4 ms until idle keys expire
--       5.. of each window: name, limit, amount, Unix ms when it may be forgotten (0 never)
-- Answers {'OK', sq}; {'FULL', window}; {'OVER', sq} the token had ended before;
--         {'REBUILD'} the counters are not of this generation and must not be believed.
-- include holds

local c, h, x = KEYS[1], KEYS[2], KEYS[3]
local head = redis.call('HMGET', c, 'ep', 'sq')
if head[1] ~= ARGV[1] then return { 'REBUILD' } end
if redis.call('EXISTS', KEYS[4]) == 1 then return { 'OVER', tonumber(head[2]) } end
if redis.call('HEXISTS', h, ARGV[2]) == 1 then return { 'OK', tonumber(head[2]) } end
sweep(c, h, x)

local fields = {}
for i = 5, #ARGV, 4 do
  fields[#fields + 1] = 'u:' .. ARGV[i]
  fields[#fields + 1] = 'h:' .. ARGV[i]
end
local counts = redis.call('HMGET', c, unpack(fields))
local held = {}
for i = 5, #ARGV, 4 do
  local at = (i - 3) / 2
  local taken = tonumber(counts[at] or '0') + tonumber(counts[at + 1] or '0')
  if taken + tonumber(ARGV[i + 2]) > tonumber(ARGV[i + 1]) then return { 'FULL', ARGV[i] } end
  held[#held + 1] = ARGV[i] .. '=' .. ARGV[i + 2] .. '@' .. ARGV[i + 3]
end

for i = 5, #ARGV, 4 do add(c, 'h:' .. ARGV[i], ARGV[i + 2], ARGV[i + 3]) end
redis.call('HSET', h, ARGV[2], table.concat(held, ';'))
redis.call('ZADD', x, now_ms() + tonumber(ARGV[3]), ARGV[2])
for i = 1, 3 do redis.call('PEXPIRE', KEYS[i], ARGV[4]) end
return { 'OK', redis.call('HINCRBY', c, 'sq', 1) }
