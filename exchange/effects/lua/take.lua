#!lua flags=allow-oom
-- Takes up an offer for one idempotency key; the same key may take it again. Allowed when the server is
-- out of memory, as reserve.
-- KEYS: 1 {o:PING}  2 {o:PING}:k
-- ARGV: 1 seller id  2 idempotency key  3 ms that an offer is kept past its expiry
-- The offer is 'SELLER DOCUMENT'. Its key outlives it by ARGV 3, to tell expired from unknown; another
-- seller's offer is unknown. The mark of the key that took it lives as long.
-- Answers {'OK', document}, {'UNKNOWN'}, {'TAKEN'} or {'EXPIRED'}.

local offer = redis.call('GET', KEYS[1])
if not offer then return { 'UNKNOWN' } end
local seller, document = string.match(offer, '^(%d+) (.*)$')
if seller ~= ARGV[1] then return { 'UNKNOWN' } end
local taken_by = redis.call('GET', KEYS[2])
if taken_by and taken_by ~= ARGV[2] then return { 'TAKEN' } end
local left_ms = redis.call('PTTL', KEYS[1])
if left_ms <= tonumber(ARGV[3]) then return { 'EXPIRED' } end
if not taken_by then redis.call('SET', KEYS[2], ARGV[2], 'PX', left_ms) end
return { 'OK', document }
