-- Takes from all of a request's limits, or from none (the algorithm is window.py's; time is Redis' own).
-- KEYS: for each limit its counter, "window:previous:current"; then the marks to be looked up.
-- ARGV[1]: 1 to take, 0 to look. ARGV[3i-1 .. 3i+1]: amount, window in ms, cost of limit i.
-- Returns for each limit: passed (1 or 0), remaining, ms until the window ends, ms until the cost would pass; then for
-- each mark its number, -1 where there is none.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local counters, reply, passed, limits = {}, {}, true, (#ARGV - 1) / 3

for i = 1, limits do
  local key = KEYS[i]
  local amount, window, cost = tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i]), tonumber(ARGV[3 * i + 1])
  local index = math.floor(now / window)
  local elapsed = now - index * window
  local previous, current = 0, 0
  local kept = redis.call('GET', key)
  if kept then
    local at, before, count = string.match(kept, '^(%d+):(%d+):(%d+)$')
    at = tonumber(at)
    if at == index or at == index + 1 then
      -- in the next window: the clock was set back a little, and what is known stays the best guess
      index, previous, current = at, tonumber(before), tonumber(count)
    elseif at == index - 1 then
      previous = tonumber(count)
    end
  end
  -- what the sliding window still covers of the previous one, rounded up; doubles hold these whole numbers exactly
  local left = amount - current - math.ceil(previous * (window - elapsed) / window)
  local spare, wait = amount - cost, 0
  if cost > left then
    passed = false
    if spare < 0 then
      wait = window
    elseif current <= spare then
      wait = window - math.floor((spare - current) * window / previous) - elapsed
    else
      wait = window - elapsed + window - math.floor(spare * window / current)
    end
  end
  counters[i] = {key, index, previous, current + cost, window}
  reply[4 * i - 3] = wait == 0 and 1 or 0
  reply[4 * i - 2] = math.max(0, left)
  reply[4 * i - 1] = window - elapsed
  reply[4 * i] = wait
end

if passed and ARGV[1] == '1' then
  for i, counter in ipairs(counters) do
    local value = string.format('%.0f:%.0f:%.0f', counter[2], counter[3], counter[4])
    redis.call('SET', counter[1], value, 'PX', 2 * counter[5])
    reply[4 * i - 2] = math.max(0, reply[4 * i - 2] - tonumber(ARGV[3 * i + 1]))
  end
end
-- what stands there is a number and what it is about
for i = limits + 1, #KEYS do
  local mark = redis.call('GET', KEYS[i])
  reply[#reply + 1] = mark and tonumber(string.match(mark, '^%d+') or 0) or -1
end
return reply
