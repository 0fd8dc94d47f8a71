"""How many requests an account may make: a bucket that holds an hour's and fills all the time.

Redis keeps of each bucket the moment at which it will be full again. Its clock is the only one, so
all web processes agree. Without Redis nothing is limited: a control plane that answers nobody would
be the greater harm.
"""

import logging
from functools import cache
from typing import cast
from uuid import UUID

from django.conf import settings
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from addon.platform.client_networks import network_of

logger = logging.getLogger(__name__)

# From one client address. A token cannot be guessed anyway; this is what keeps it from being tried.
WRONG_TOKENS_PER_HOUR = 100
# A request waits this long at most for a Redis that does not answer.
TIMEOUT_S = 0.5

_SCRIPT = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local capacity, cost = tonumber(ARGV[1]), tonumber(ARGV[2])
local interval = 3600000000 / capacity
local full_at = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now)
local left = capacity - (full_at - now) / interval
if left < cost then
  return {-1, math.ceil((cost - left) * interval / 1000000)}
end
if cost > 0 then
  full_at = full_at + cost * interval
  local lasts_ms = math.ceil((full_at - now) / 1000)
  redis.call('SET', KEYS[1], string.format('%.0f', full_at), 'PX', lasts_ms)
end
return {math.floor(left - cost), 0}
"""


class RateLimitReached(Exception):
    """In Heroku's words."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(
            "Your account reached the API limit. Please wait a few minutes before making new "
            "requests"
        )
        self.retry_after_s = retry_after_s


def spend_request(account_id: UUID, cost: int = 1) -> int | None:
    """Take `cost` requests from the account's bucket; how many are left, None without Redis.

    Raises RateLimitReached.
    """
    return _spend(f"platform:requests:{account_id}", settings.PLATFORM_REQUESTS_PER_HOUR, cost)


def count_wrong_token(address: str) -> None:
    """A right token is never held up by others' wrong ones. Raises RateLimitReached."""
    _spend(f"platform:wrong_tokens:{network_of(address)}", WRONG_TOKENS_PER_HOUR, 1)


def _spend(key: str, capacity: int, cost: int) -> int | None:
    """What the bucket has left."""
    try:
        reply = _redis(settings.REDIS_URL).eval(_SCRIPT, 1, key, str(capacity), str(cost))
    except RedisError as error:
        logger.warning("requests are not limited, for Redis does not answer: %r", error)
        return None
    left, wait_s = cast(tuple[int, int], reply)
    if left < 0:
        raise RateLimitReached(wait_s)
    return left


@cache
def _redis(url: str) -> Redis:
    return Redis.from_url(
        url,
        socket_timeout=TIMEOUT_S,
        socket_connect_timeout=TIMEOUT_S,
        retry=Retry(NoBackoff(), 1),  # once, on a connection that may have gone stale
    )
