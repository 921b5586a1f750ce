-- Charges all limits of a request, or none if one refuses. The algorithms are described in algorithms.py; the clock is
-- that of the Redis server.
-- KEYS: the counter of each limit, a text of three numbers; then the revocation keys to read.
-- ARGV[1]: 1 to charge, 0 for a dry run. ARGV[5i-3 .. 5i+1], of limit i: algorithm (0 sliding, 1 fixed, 2 bucket),
-- amount, window in ms, cost, burst.
-- Returns for each limit: passed (1 or 0), remaining, ms until the whole limit is available again, ms until the cost
-- would pass; then for each revocation key its number, -1 if the key does not exist. Lua's numbers are doubles, which
-- hold these integers exactly.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local counters, reply, passed, limits = {}, {}, true, (#ARGV - 1) / 5

-- The text at a key, false if the key does not exist. A key with a value of another type gives '', as it must not fail
-- the request's other limits. Every other error is raised: without its counter a limit would limit nobody.
local function text_at(key)
  local text = redis.pcall('GET', key)
  if type(text) == 'table' then
    if string.find(text.err, 'WRONGTYPE', 1, true) then
      return ''
    end
    text = redis.call('GET', key)
  end
  return text
end

local function read_counter(key)
  local text = text_at(key)
  if text then
    local at, second, third = string.match(text, '^(%d+):(%d+):(%d+)$')
    return tonumber(at), tonumber(second), tonumber(third)
  end
end

for i = 1, limits do
  local key, algorithm = KEYS[i], ARGV[5 * i - 3]
  local amount, window, cost = tonumber(ARGV[5 * i - 2]), tonumber(ARGV[5 * i - 1]), tonumber(ARGV[5 * i])
  local at, second, third = read_counter(key)
  local left, wait, reset, charged, life = 0, 0, 0, 0, 0
  if algorithm == '2' then
    local full, need = tonumber(ARGV[5 * i + 1]) * window, cost * window
    local level = second
    if not at or at > now + window then
      at, level = now, full
    end
    level = math.min(full, level + math.max(0, now - at) * amount)
    at = math.max(at, now)
    -- after the clock was set back, the bucket gains nothing until the clock has caught up
    local late = at - now
    if need > full then
      wait = window
    elseif need > level then
      wait = late + math.ceil((need - level) / amount)
    end
    left = math.floor(level / window)
    if level < full then
      reset = late + math.ceil((full - level) / amount)
    end
    if level - need < full then
      charged = late + math.ceil((full - level + need) / amount)
    end
    second, third, life = level - need, 0, charged
  else
    local index, late = math.floor(now / window), 0
    if at == index + 1 then
      -- the clock was set back a little: the counter's window is treated as beginning now, and lasts longer
      index, late = at, at * window - now
    end
    local elapsed = math.max(0, now - index * window)
    if at == index - 1 then
      at, second, third = index, third, 0
    elseif at ~= index then
      at, second, third = index, 0, 0
    end
    if algorithm == '1' then
      second = 0
    end
    local ends = late + window - elapsed
    -- the share of the previous window is rounded up
    left = amount - third - math.ceil(second * (window - elapsed) / window)
    local spare = amount - cost
    if cost > left then
      if spare < 0 then
        wait = window
      elseif algorithm == '1' then
        wait = ends
      elseif third <= spare then
        wait = ends - math.floor((spare - third) * window / second)
      else
        wait = ends + window - math.floor(spare * window / third)
      end
    end
    -- ms until the whole limit is available again: if something was used in this window; if only in the previous one
    local used, covered = algorithm == '1' and ends or ends + window, second > 0 and ends or 0
    reset = third > 0 and used or covered
    third = third + cost
    charged, life = third > 0 and used or covered, math.max(2 * window, used)
  end
  if wait > 0 then
    passed = false
  end
  counters[i] = {key, string.format('%.0f:%.0f:%.0f', at, second, third), life, charged, left - cost}
  reply[4 * i - 3] = wait == 0 and 1 or 0
  reply[4 * i - 2] = math.max(0, left)
  reply[4 * i - 1] = reset
  reply[4 * i] = wait
end

if passed and ARGV[1] == '1' then
  for i, counter in ipairs(counters) do
    redis.call('SET', counter[1], counter[2], 'PX', math.max(1, counter[3]))
    reply[4 * i - 2] = math.max(0, counter[5])
    reply[4 * i - 1] = counter[4]
  end
end
-- a revocation is stored as a number and a description
for i = limits + 1, #KEYS do
  local revocation = text_at(KEYS[i])
  reply[#reply + 1] = revocation and tonumber(string.match(revocation, '^%d+') or 0) or -1
end
return reply
