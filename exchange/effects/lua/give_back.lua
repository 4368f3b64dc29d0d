#!lua flags=allow-oom
-- Gives a taken offer back, for a post that was refused before anything was done: another key may take it.
-- KEYS: 1 {o:PING}:k
-- ARGV: 1 idempotency key
-- Answers 1, or 0 when this key did not have it.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
