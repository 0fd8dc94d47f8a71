"""The scripts of the limiter. Each is atomic, and runs on Redis's own clock.

Of a customer and one subject (an attachment's use of a model):

- log: sorted set of "<id>:<tokens>" by µs of admission, for as long as the window is;
- total: the tokens in the log;
- leases: sorted set of ids by µs of the end of their leases, where concurrency is limited.

Of a customer:

- spend: hash of picounits of cost in this month, those held included, as decimal integers:
  `account`, `app:<name>`, `attachment:<id>`; and `until`, µs of the month's end;
- holds: sorted set of "<id>:<picounits>:<attachment id>:<app name>", by µs of the end of their
  leases: what is in `spend`, and was not seen in the ledger yet.
"""

from hashlib import sha1

# KEYS: log, total, leases, spend, holds
# ARGV: 1 log entry, 2 id, 3 tokens, 4 window in µs, 5 requests per window, 6 tokens per window,
#       7 requests at once or -1, 8 lease in µs, 9 "shadow" or "", 10 picounits, 11 hold,
#       12 field of the app, 13 field of the attachment,
#       then for each cap its field, and the most that may be spent there before this request
# Returns {1 admitted / 0 refused, now, used requests, used tokens, requests under way, µs until the
#          log is empty, what binds (0 nothing, 1 requests, 2 tokens, 3 requests at once, 3 + n the
#          n-th cap), µs until it fits, picounits spent under that cap}
#      or {-1, now, holds} where spend has to be read from the ledger first; nothing is taken then
RESERVE = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local log, total, leases, spend, holds = unpack(KEYS)
local tokens, window = tonumber(ARGV[3]), tonumber(ARGV[4])
local requests_limit, tokens_limit = tonumber(ARGV[5]), tonumber(ARGV[6])
local concurrent_limit, lease_ends = tonumber(ARGV[7]), now + tonumber(ARGV[8])
local is_shadow, picounits = ARGV[9] == 'shadow', ARGV[10]

local function cost(member) return tonumber(string.match(member, ':(%d+)$')) end

-- Decimal integers as text: a number here is a double, exact to 2^53 only.
local function is_more(a, b)
    local is_a_negative, is_b_negative = string.byte(a) == 45, string.byte(b) == 45
    if is_a_negative ~= is_b_negative then return is_b_negative end
    if is_a_negative then a, b = b, a end
    if #a ~= #b then return #a > #b end
    return a > b
end

-- Whether a lapsed hold is in the ledger is not known: spend is read from there again.
if redis.call('ZREMRANGEBYSCORE', holds, '-inf', now) > 0 then redis.call('DEL', spend) end
if picounits ~= '0' and tonumber(redis.call('HGET', spend, 'until') or '0') <= now then
    return {-1, now, redis.call('ZRANGE', holds, 0, -1)}
end

local used = tonumber(redis.call('GET', total) or '0')
local expired = redis.call('ZRANGEBYSCORE', log, '-inf', now - window)
if #expired > 0 then
    for _, member in ipairs(expired) do used = used - cost(member) end
    redis.call('ZREMRANGEBYSCORE', log, '-inf', now - window)
    redis.call('SET', total, used, 'KEEPTTL')
end
local count, running = redis.call('ZCARD', log), 0
if concurrent_limit >= 0 then
    redis.call('ZREMRANGEBYSCORE', leases, '-inf', now)
    running = redis.call('ZCARD', leases)
end
if redis.call('ZSCORE', log, ARGV[1]) then
    return {1, now, count, used, running, window, 0, 0, ''}
end

local binding, spent = 0, ''
for i = 14, #ARGV, 2 do
    spent = redis.call('HGET', spend, ARGV[i]) or '0'
    if is_more(spent, ARGV[i + 1]) then
        binding = 3 + (i - 12) / 2
        break
    end
end
local fits_requests = count + 1 <= requests_limit
if binding == 0 then
    if not fits_requests then binding = 1
    elseif used + tokens > tokens_limit then binding = 2
    elseif concurrent_limit >= 0 and running + 1 > concurrent_limit then binding = 3 end
end

if binding == 0 or is_shadow then
    if picounits ~= '0' then
        redis.call('HINCRBY', spend, 'account', picounits)
        redis.call('HINCRBY', spend, ARGV[12], picounits)
        redis.call('HINCRBY', spend, ARGV[13], picounits)
        redis.call('ZADD', holds, lease_ends, ARGV[11])
        redis.call('EXPIRE', holds, 2764800)
    end
    redis.call('ZADD', log, now, ARGV[1])
    redis.call('SET', total, used + tokens)
    -- Both keys lapse in the same millisecond, so one never outlives the other.
    redis.call('PEXPIREAT', log, math.ceil((now + window) / 1000))
    redis.call('PEXPIREAT', total, math.ceil((now + window) / 1000))
    if concurrent_limit >= 0 then
        redis.call('ZADD', leases, lease_ends, ARGV[2])
        redis.call('EXPIRE', leases, 86400)
        running = running + 1
    end
    return {1, now, count + 1, used + tokens, running, window, binding, 0, spent}
end

local newest = redis.call('ZRANGE', log, -1, -1, 'WITHSCORES')[2] or (now - window)
local reset, wait = newest + window - now, 0
if binding <= 2 then
    -- The request fits once enough of the oldest entries have left the window.
    local entries, freed = redis.call('ZRANGE', log, 0, -1, 'WITHSCORES'), 0
    for i = 1, #entries, 2 do
        local fits = count - (i + 1) / 2 + 1 <= requests_limit
        freed = freed + cost(entries[i])
        wait = entries[i + 1] + window - now
        if fits and used - freed + tokens <= tokens_limit then break end
        if fits then binding = 2 end
    end
end
return {0, now, count, used, running, reset, binding, wait, spent}
"""

# KEYS: as above. ARGV: log entry, id, tokens, picounits to take off, hold, field of the app, field
# of the attachment
# Returns 1 if the log had the entry, else 0
GIVE_BACK = """
local log, total, leases, spend, holds = unpack(KEYS)
redis.call('ZREM', leases, ARGV[2])
if redis.call('ZREM', holds, ARGV[5]) == 1 and redis.call('EXISTS', spend) == 1 then
    redis.call('HINCRBY', spend, 'account', ARGV[4])
    redis.call('HINCRBY', spend, ARGV[6], ARGV[4])
    redis.call('HINCRBY', spend, ARGV[7], ARGV[4])
end
if redis.call('ZREM', log, ARGV[1]) == 0 then return 0 end
redis.call('DECRBY', total, ARGV[3])
return 1
"""

# KEYS: leases, spend, holds. ARGV: id, hold or "". The cost is in the ledger.
SETTLE = """
redis.call('ZREM', KEYS[1], ARGV[1])
-- Without its hold (it lapsed, or Redis lost it) the cost may be missing from spend.
if ARGV[2] ~= '' and redis.call('ZREM', KEYS[3], ARGV[2]) == 0 then redis.call('DEL', KEYS[2]) end
return 1
"""

# KEYS: spend, holds. ARGV: µs of the month's end, how many of the holds seen are in the ledger,
# those, how many are not, those, then fields and their picounits
# Returns 1 where spend is known now, 0 where the holds are others than those that were seen
SEED = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
if tonumber(redis.call('HGET', KEYS[1], 'until') or '0') > now then return 1 end
local position, seen = 2, {}
for kind = 1, 2 do
    local count = tonumber(ARGV[position])
    for i = position + 1, position + count do seen[ARGV[i]] = kind end
    position = position + count + 1
end
local missing = tonumber(ARGV[tonumber(ARGV[2]) + 3])
for _, hold in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
    if not seen[hold] then return 0 end
    if seen[hold] == 2 then missing = missing - 1 end
end
if missing ~= 0 then return 0 end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'until', ARGV[1])
for i = position, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('PEXPIREAT', KEYS[1], math.ceil(ARGV[1] / 1000))
return 1
"""

# KEYS: spend, holds. Returns {fields and values of spend, holds}
READ_SPEND = """
return {redis.call('HGETALL', KEYS[1]), redis.call('ZRANGE', KEYS[2], 0, -1)}
"""

# KEYS: log, total. ARGV: window in µs. Changes nothing, so what left the window is still in both.
# Returns {now, used requests, used tokens, µs until the log is empty}
STANDING = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local used = tonumber(redis.call('GET', KEYS[2]) or '0')
local expired = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[1])
for _, member in ipairs(expired) do used = used - string.match(member, ':(%d+)$') end
local newest = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2] or 0
local reset = math.max(0, newest + ARGV[1] - now)
return {now, redis.call('ZCARD', KEYS[1]) - #expired, used, reset}
"""

DIGESTS = {
    script: sha1(script.encode(), usedforsecurity=False).hexdigest()
    for script in (RESERVE, GIVE_BACK, SETTLE, SEED, READ_SPEND, STANDING)
}
