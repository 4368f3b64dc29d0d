#!lua flags=allow-oom
-- Reads counters, after giving back what expired: a contract known to be full is not asked, so no
-- reserve would ever sweep it.
-- KEYS: 1 {b:ID}:c  2 {b:ID}:h  3 {b:ID}:x
-- ARGV: 1 generation  2.. windows (none: all there are)
-- Answers {'OK', window, used, held, ...}, or {'REBUILD'} as in reserve.
-- include holds

local c = KEYS[1]
if redis.call('HGET', c, 'ep') ~= ARGV[1] then return { 'REBUILD' } end
sweep(c, KEYS[2], KEYS[3])
local wins, answer = {}, { 'OK' }
for i = 2, #ARGV do wins[#wins + 1] = ARGV[i] end
if #wins == 0 then
  local seen = {}
  for _, field in ipairs(redis.call('HKEYS', c)) do
    local win = string.match(field, '^[uh]:(.+)$')
    if win and not seen[win] then
      seen[win] = true
      wins[#wins + 1] = win
    end
  end
end
for _, win in ipairs(wins) do
  local counts = redis.call('HMGET', c, 'u:' .. win, 'h:' .. win)
  answer[#answer + 1] = win
  answer[#answer + 1] = counts[1] or '0'
  answer[#answer + 1] = counts[2] or '0'
end
return answer
