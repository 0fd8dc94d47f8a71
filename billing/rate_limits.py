"""Rate limits: requests and tokens a minute, reserved together in one atomic script.

A subject (an attachment's use of a model) has a log of what it was admitted to in the last 60
seconds. A request is admitted only if it fits both limits, so no rolling 60-second window ever
exceeds either; Redis's own clock is used, so the clocks of web processes do not matter. A request
that fails gives its reservation back. Calls that wait at the same moment share a round trip.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha1
from typing import Any, Literal

from redis.asyncio import Redis
from redis.exceptions import NoScriptError
from redis.exceptions import TimeoutError as RedisTimeoutError

from billing.coalescing import Coalescer
from billing.redis_connection import RedisConnection

WINDOW_S = 60
ROUND_TRIP_MAX_CALLS = 64
WAIT_MAX_S = 5.0
ROUND_TRIP_TIMEOUT_S = 5.0

# KEYS: log (sorted set: "<reservation id>:<tokens>" by µs of admission), total (tokens in it)
# ARGV: reservation id, tokens, requests per window, tokens per window, window in µs
# Returns {admitted, used requests, used tokens, µs until it would fit, µs until the log is empty,
#          1 if the requests bind / 2 if the tokens do}
RESERVE = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local tokens, requests_limit, tokens_limit = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local window = tonumber(ARGV[5])

local function cost(member) return tonumber(string.match(member, ':(%d+)$')) end

local used = tonumber(redis.call('GET', KEYS[2]) or '0')
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - window)) do
    used = used - cost(member)
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - window)
redis.call('SET', KEYS[2], used, 'KEEPTTL')
local count = redis.call('ZCARD', KEYS[1])
if redis.call('ZSCORE', KEYS[1], ARGV[1] .. ':' .. ARGV[2]) then
    return {1, count, used, 0, window, 0}
end

if count + 1 <= requests_limit and used + tokens <= tokens_limit then
    redis.call('ZADD', KEYS[1], now, ARGV[1] .. ':' .. ARGV[2])
    redis.call('SET', KEYS[2], used + tokens)
    -- Both keys lapse in the same millisecond, so one never outlives the other.
    redis.call('PEXPIREAT', KEYS[1], math.ceil((now + window) / 1000))
    redis.call('PEXPIREAT', KEYS[2], math.ceil((now + window) / 1000))
    return {1, count + 1, used + tokens, 0, window, 0}
end

-- The request fits once enough of the oldest entries have left the window.
local entries = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
local wait, binding, freed = 0, 1, 0
for i = 1, #entries, 2 do
    local fits_requests = count - (i + 1) / 2 + 1 <= requests_limit
    freed = freed + cost(entries[i])
    local fits_tokens = used - freed + tokens <= tokens_limit
    wait = entries[i + 1] + window - now
    if fits_requests and fits_tokens then break end
    if fits_requests then binding = 2 end
end
if count + 1 <= requests_limit then binding = 2 end
local newest = entries[#entries] or (now - window)
return {0, count, used, wait, newest + window - now, binding}
"""

# KEYS: log, total. ARGV: "<reservation id>:<tokens>", tokens
GIVE_BACK = """
if redis.call('ZREM', KEYS[1], ARGV[1]) == 1 then
    redis.call('DECRBY', KEYS[2], ARGV[2])
    return 1
end
return 0
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What one subject may do in any 60 seconds."""

    requests: int
    tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """How a subject stands with its limits at one moment; durations in seconds."""

    limits: Limits
    used_requests: int
    used_tokens: int
    reset_s: float

    @property
    def remaining_requests(self) -> int:
        return max(0, self.limits.requests - self.used_requests)

    @property
    def remaining_tokens(self) -> int:
        return max(0, self.limits.tokens - self.used_tokens)


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """One request and its tokens, out of the limits of `subject`. `id` is unique to the request."""

    id: uuid.UUID
    subject: str
    tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Reservation:
    """A share that was admitted, and how its subject stands since."""

    share: Share
    standing: Standing


class RateLimitExceeded(Exception):
    """The request does not fit now; it will in `retry_after_s`, if nothing else is admitted."""

    def __init__(
        self, limit: Literal["requests", "tokens"], *, standing: Standing, retry_after_s: float
    ) -> None:
        super().__init__(f"{limit} per minute")
        self.limit = limit
        self.standing = standing
        self.retry_after_s = retry_after_s


class RequestExceedsLimit(Exception):
    """The request alone is larger than the whole limit: waiting does not help."""

    def __init__(self, *, tokens: int, limits: Limits) -> None:
        super().__init__(f"{tokens} tokens, limit {limits.tokens}")
        self.tokens = tokens
        self.limits = limits


class Limiter:
    """The limits kept in one Redis, for the event loop of one process."""

    def __init__(self, redis: Redis) -> None:
        self._connection = RedisConnection(redis)
        self._calls = Coalescer(
            self._call_together,
            max_items=ROUND_TRIP_MAX_CALLS,
            max_wait_s=WAIT_MAX_S,
            refusal=lambda: RedisTimeoutError("Redis does not answer"),
        )

    async def reserve(self, share: Share, limits: Limits) -> Reservation:
        """Reserve the share's request and its tokens, both or neither. Repeating it changes
        nothing.

        Raises RateLimitExceeded, RequestExceedsLimit where it could never fit, or RedisError, after
        which the share may be held.
        """
        if share.tokens > limits.tokens:
            raise RequestExceedsLimit(tokens=share.tokens, limits=limits)
        admitted, requests, used, wait_us, reset_us, binding = await self._calls.submit(
            _Call(
                script=RESERVE,
                keys=_keys(share.subject),
                arguments=(
                    *(str(share.id), share.tokens),
                    *(limits.requests, limits.tokens, WINDOW_S * 1_000_000),
                ),
            )
        )
        standing = Standing(
            limits=limits, used_requests=requests, used_tokens=used, reset_s=reset_us / 1e6
        )
        if not admitted:
            raise RateLimitExceeded(
                "requests" if binding == 1 else "tokens",
                standing=standing,
                retry_after_s=wait_us / 1e6,
            )
        return Reservation(share=share, standing=standing)

    async def give_back(self, share: Share) -> bool:
        """Return a share that was reserved, or may have been. False when it was not held.

        It never overtakes the reservation: calls reach Redis in the order in which they were made.
        """
        returned = await self._calls.submit(
            _Call(
                script=GIVE_BACK,
                keys=_keys(share.subject),
                arguments=(f"{share.id}:{share.tokens}", share.tokens),
            )
        )
        return bool(returned)

    async def close(self) -> None:
        """Disconnect. A later call would connect again."""
        await self._connection.close()

    async def _call_together(self, calls: list["_Call"]) -> list[Any]:
        """One outcome a call, in one round trip; more only when Redis does not know the scripts."""
        outcomes = await self._evaluate(calls)
        if any(isinstance(outcome, NoScriptError) for outcome in outcomes):
            loads = [("SCRIPT", "LOAD", script) for script in (RESERVE, GIVE_BACK)]
            await self._connection.call(*loads, timeout_s=ROUND_TRIP_TIMEOUT_S)
            # Both change nothing when they are repeated.
            outcomes = await self._evaluate(calls)
        return outcomes

    async def _evaluate(self, calls: Sequence["_Call"]) -> list[Any]:
        commands = [
            ("EVALSHA", _DIGESTS[call.script], len(call.keys), *call.keys, *call.arguments)
            for call in calls
        ]
        return await self._connection.call(*commands, timeout_s=ROUND_TRIP_TIMEOUT_S)


_DIGESTS = {
    script: sha1(script.encode(), usedforsecurity=False).hexdigest()
    for script in (RESERVE, GIVE_BACK)
}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Call:
    """One script on one subject's keys."""

    script: str
    keys: tuple[str, str]
    arguments: tuple[str | int, ...]


def _keys(subject: str) -> tuple[str, str]:
    # The braces keep both keys in one slot of a Redis Cluster.
    return f"limits:{{{subject}}}:log", f"limits:{{{subject}}}:tokens"
