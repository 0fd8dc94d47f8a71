"""How often this web process refused requests for limits, for the log streams of their apps.

Counted in memory and added up in Redis once a second, so no request waits for it; a task makes one
line a minute of all processes' counts (addon/provider/log_lines.py).
"""

import asyncio
import logging
import time
from collections import Counter

from redis.asyncio import Redis
from redis.exceptions import RedisError

from addon.provider.log_lines import MINUTES_KEY, REFUSALS_KEPT_S, refusals_field, refusals_key
from billing.rate_limits import RateLimitExceeded, SpendCapReached
from inference.authentication import Caller
from inference.lanes import TooMuchWaiting

logger = logging.getLogger(__name__)

FLUSH_S = 1.0
# So many attachments and limits, while Redis is gone.
COUNTS_MAX = 10_000


def limit_of(error: Exception) -> str | None:
    """The limit that the request was refused for, if that is why."""
    match error:
        case RateLimitExceeded():
            return error.limit.replace(" ", "_")
        case SpendCapReached():
            return "spend_cap"
        case TooMuchWaiting():
            return "queue"
        case _:
            return None


class RefusalCounts:
    """One per web process. `start` and `stop` run on the event loop that serves requests."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._counts: Counter[str] = Counter()
        self._task: asyncio.Task[None]

    def start(self) -> None:
        self._task = asyncio.create_task(self._flush_forever(), name="count refusals")

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._flush()

    def count(self, caller: Caller | None, error: Exception) -> None:
        """Note a refusal; nothing, where it is for no limit or the app has no log stream."""
        limit = limit_of(error)
        if limit is None or caller is None or not caller.identity.has_log_stream:
            return
        identity = caller.identity
        field = refusals_field(identity.resource_id, identity.attachment_id, limit)
        if field in self._counts or len(self._counts) < COUNTS_MAX:
            self._counts[field] += 1

    async def _flush_forever(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            await self._flush()

    async def _flush(self) -> None:
        """Those that Redis does not take are added to the next."""
        if not self._counts:
            return
        counts, self._counts = self._counts, Counter()
        minute = int(time.time()) // 60
        pipeline = self._redis.pipeline(transaction=True)
        for field, count in counts.items():
            pipeline.hincrby(refusals_key(minute), field, count)
        pipeline.expire(refusals_key(minute), REFUSALS_KEPT_S)
        pipeline.sadd(MINUTES_KEY, minute)
        try:
            await pipeline.execute()
        except RedisError as error:
            logger.warning("refusals are not counted for log streams yet: %r", error)
            self._counts.update(counts)
