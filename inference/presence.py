"""Presence: which workers consume a queue and how fast each is, by heartbeats in Redis.

A worker writes when it lapses, by Redis's clock, every second. A web process that finds no live
worker refuses at once instead of letting a client wait for its deadline; one that sees a worker
lapse, which never says good-bye, sends again what that worker may have held.
"""

from collections.abc import Iterable
from typing import Any

import msgspec
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

HEARTBEAT_S = 1.0
LAPSE_S = 4.0
# How long a lapsed worker is remembered as such.
MEMORY_S = 60

# KEYS: workers of a queue (hash: worker id → lapses at, in µs, a space, its report)
# ARGV: worker id, report, µs until it lapses, µs that a lapsed one is remembered
_ANNOUNCE = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
for _, id in ipairs(redis.call('HKEYS', KEYS[1])) do
    local lapses = tonumber(string.match(redis.call('HGET', KEYS[1], id), '^%d+'))
    if lapses + ARGV[4] < now then redis.call('HDEL', KEYS[1], id) end
end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', now + ARGV[3]) .. ' ' .. ARGV[2])
redis.call('PEXPIRE', KEYS[1], math.ceil((ARGV[3] + ARGV[4]) / 1000))
"""
# Returns {now in µs, worker id, its entry, …}
_LIST = """
local time = redis.call('TIME')
local found = redis.call('HGETALL', KEYS[1])
table.insert(found, 1, string.format('%.0f', time[1] * 1000000 + time[2]))
return found
"""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker says of itself: tokens it packs into a batch and computes a second, how many
    batches it computes at once (or one and prepares one), whether it takes new work (one that is
    stopping does not), and whether it has the model in memory."""

    token_budget: int
    tokens_per_s: float
    batches_at_once: int = 2
    is_accepting: bool = True
    is_loaded: bool = False


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """A worker of a queue, as last heard of."""

    id: str
    report: Report
    has_lapsed: bool

    @property
    def is_accepting(self) -> bool:
        """Whether it lives and takes new work."""
        return self.report.is_accepting and not self.has_lapsed


def _key(queue: str) -> str:
    return f"workers:{queue}"


def announce(redis: Redis, queue: str, worker_id: str, report: Report) -> None:
    """Say that `worker_id` consumes the queue, for the next LAPSE_S seconds."""
    redis.register_script(_ANNOUNCE)(
        keys=[_key(queue)],
        args=[
            worker_id,
            msgspec.json.encode(report),
            round(LAPSE_S * 1e6),
            round(MEMORY_S * 1e6),
        ],
    )


def withdraw(redis: Redis, queue: str, worker_id: str) -> None:
    """Say good-bye: it holds nothing any more."""
    redis.hdel(_key(queue), worker_id)


async def list_workers(redis: AsyncRedis, queue: str) -> list[Worker]:
    """The workers of a queue, those that lapsed within MEMORY_S too."""
    now, *entries = await redis.register_script(_LIST)(keys=[_key(queue)])
    return list(_parse(int(now), entries))


def find_workers(redis: Redis) -> dict[str, list[Worker]]:
    """The workers of every queue that has had any of late, by the queue."""
    listing = redis.register_script(_LIST)
    workers = {}
    for key in redis.scan_iter(match=_key("*")):
        now, *entries = listing(keys=[key])
        workers[key.decode().removeprefix(_key(""))] = list(_parse(int(now), entries))
    return workers


def _parse(now_us: int, entries: list[Any]) -> Iterable[Worker]:
    for worker_id, entry in zip(entries[::2], entries[1::2], strict=True):
        lapses_us, _, report = entry.partition(b" ")
        yield Worker(
            id=worker_id.decode(),
            report=msgspec.json.decode(report, type=Report),
            has_lapsed=int(lapses_us) <= now_us,
        )
