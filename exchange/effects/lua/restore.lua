#!lua flags=allow-oom
-- Loads a buyer's counters anew, in several calls under one restore id; a call of an older restore
-- that arrives late is refused, so two rebuilders cannot mix.
-- KEYS: 1 {b:ID}:c  2 {b:ID}:h  3 {b:ID}:x  4.. of ended, {b:ID}:t:TOKEN of each token
-- ARGV: 1 begin | load | ended | open  2 restore id  then
--   begin  3 sequence to go on from at least
--          Shuts the door (no generation: every reserve answers REBUILD) and empties the counters. Holds
--          that are still running stay: their sales may be on their way to the database.
--   load   3.. triples: 'used', window, 'AMOUNT@FORGET' | 'hold', token, what it holds (never expires)
--   ended  3 ms until tombstones expire  4.. pairs: token, C | U. They are counted already: a hold of
--          theirs is dropped, and who tells their end late changes nothing
--   open   3 generation  4 ms until idle keys expire. Opens the door.
-- Answers {'OK', sq} or {'STALE'}.
-- include holds

local c, h, x = KEYS[1], KEYS[2], KEYS[3]
local HOLDS_MAX = 1000 -- more cannot be in flight at one buyer; a bound on the work of one call

local function hold(token, held)
  for win, amount, forget_at in string.gmatch(held, PART) do
    add(c, 'h:' .. win, amount, forget_at)
  end
  redis.call('HSET', h, token, held)
end

if ARGV[1] == 'begin' then
  local sq = math.max(tonumber(redis.call('HGET', c, 'sq') or '0'), tonumber(ARGV[3]))
  local running = redis.call('ZRANGE', x, '(' .. now_ms(), '+inf', 'BYSCORE', 'LIMIT', 0, HOLDS_MAX,
    'WITHSCORES')
  local kept = {}
  for i = 1, #running, 2 do
    kept[#kept + 1] = { running[i], running[i + 1], redis.call('HGET', h, running[i]) }
  end
  redis.call('DEL', c, h, x)
  redis.call('HSET', c, 'sq', string.format('%.0f', sq), 're', ARGV[2])
  for _, one in ipairs(kept) do
    if one[3] then
      hold(one[1], one[3])
      redis.call('ZADD', x, one[2], one[1])
    end
  end
  return { 'OK', sq }
end

if redis.call('HGET', c, 're') ~= ARGV[2] then return { 'STALE' } end
if ARGV[1] == 'load' then
  for i = 3, #ARGV, 3 do
    local kind, name, value = ARGV[i], ARGV[i + 1], ARGV[i + 2]
    if kind == 'used' then
      local amount, forget_at = string.match(value, '^(%d+)@(%d+)$')
      add(c, 'u:' .. name, amount, forget_at)
    else
      let_go(c, h, x, name)
      hold(name, value)
    end
  end
elseif ARGV[1] == 'ended' then
  for i = 4, #ARGV, 2 do
    let_go(c, h, x, ARGV[i])
    redis.call('SET', KEYS[2 + i / 2], ARGV[i + 1], 'PX', ARGV[3])
  end
else
  redis.call('HDEL', c, 're')
  redis.call('HSET', c, 'ep', ARGV[3])
  for i = 1, 3 do redis.call('PEXPIRE', KEYS[i], ARGV[4]) end
end
return { 'OK', redis.call('HINCRBY', c, 'sq', 1) }
