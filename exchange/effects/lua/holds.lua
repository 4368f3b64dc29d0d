-- Shared by the scripts of caps, which take it in at their line `-- include holds`.
--
-- A buyer's keys, all in one slot:
--   {b:ID}:c        hash    u:WIN used, h:WIN held, ep generation, sq sequence, re restore under way
--   {b:ID}:h        hash    token -> 'WIN=AMOUNT@FORGET;...', the active holds
--   {b:ID}:x        zset    token -> Unix ms when the hold expires; a kept hold is not in it
--   {b:ID}:t:TOKEN  string  how the token ended: C committed, R released, U undone
-- Amounts and times are integers as text; nothing here does arithmetic on them beyond 2^53.

local PART = '([^=;]+)=(%d+)@(%d+)'
local SWEPT_MAX = 32 -- a bound on the work of one call; what is left waits for the next

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Adds to a counter; a fresh one gets the moment when it may be forgotten. Servers without expiry of
-- hash fields (before Valkey 9.0 and Redis 7.4) answer an error: there, counters of ended windows stay
-- until the next rebuild or the hash's own expiry.
local function add(c, field, amount, forget_at)
  local total = redis.call('HINCRBY', c, field, amount)
  if forget_at ~= '0' and total == tonumber(amount) then
    redis.pcall('HPEXPIREAT', c, forget_at, 'FIELDS', 1, field)
  end
end

-- Takes from a counter, never below zero; one that is gone stays gone.
local function take(c, field, amount)
  local have = tonumber(redis.call('HGET', c, field) or '0')
  if have > 0 and amount ~= '0' then
    if have < tonumber(amount) then amount = string.format('%.0f', have) end
    redis.call('HINCRBY', c, field, '-' .. amount)
  end
end

-- Ends a hold and gives its room back. Answers what it held, or false.
local function let_go(c, h, x, token)
  local held = redis.call('HGET', h, token)
  if held then
    for win, amount in string.gmatch(held, PART) do take(c, 'h:' .. win, amount) end
    redis.call('HDEL', h, token)
    redis.call('ZREM', x, token)
  end
  return held
end

-- Holds past their time give their room back.
local function sweep(c, h, x)
  local expired = redis.call('ZRANGE', x, '-inf', now_ms(), 'BYSCORE', 'LIMIT', 0, SWEPT_MAX)
  for _, token in ipairs(expired) do let_go(c, h, x, token) end
end
