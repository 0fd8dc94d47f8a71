"""Presence: which models have a worker that is ready, by heartbeats in Redis.

A worker writes its own lapse time, by Redis's clock, every second; a web process that finds no
unlapsed worker refuses at once instead of letting a client wait for its deadline.
"""

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

HEARTBEAT_S = 1.0
LAPSE_S = 4.0

_BEAT = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('EXPIRE', KEYS[1], 60)
"""
_COUNT = """
local time = redis.call('TIME')
return redis.call('ZCOUNT', KEYS[1], time[1] + time[2] / 1000000, '+inf')
"""


def _key(model_id: str) -> str:
    return f"workers:{model_id}"


def announce(redis: Redis, model_id: str, worker_id: str) -> None:
    """Say that `worker_id` is ready to serve the model, for the next LAPSE_S seconds."""
    redis.register_script(_BEAT)(keys=[_key(model_id)], args=[worker_id, LAPSE_S])


def withdraw(redis: Redis, model_id: str, worker_id: str) -> None:
    """Say that it no longer is."""
    redis.zrem(_key(model_id), worker_id)


async def count_workers(redis: AsyncRedis, model_id: str) -> int:
    """How many workers are ready to serve the model."""
    return int(await redis.register_script(_COUNT)(keys=[_key(model_id)]))
