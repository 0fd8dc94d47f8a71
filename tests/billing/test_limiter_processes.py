"""The limiter across processes: some are killed, some have a wrong clock."""

import binascii
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator

import pytest
from django.conf import settings
from redis.asyncio import Redis

from billing.rate_limits import Cap, Limiter, Limits, RateLimitExceeded
from billing.redis_connection import Command, RedisConnection
from tests.billing.limiting import ATTACHMENT_ID, Ledger, new_share, settled

# Reserves as often as its argument says, with its clock off by so many seconds.
RESERVE = """
import asyncio, sys, time
count, off_s, lease_s = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
true_time = time.time
time.time = lambda: true_time() + off_s
import django
django.setup()
from django.conf import settings
from redis.asyncio import Redis
from billing.rate_limits import Limiter, Limits, RateLimitExceeded, Reservation
from tests.billing.limiting import Ledger, new_share

async def main():
    limiter = Limiter(Redis.from_url(settings.REDIS_URL), read_ledger=Ledger().read)
    limits = Limits(requests=100, tokens=1_000_000, concurrent=100)
    shares = [new_share(10, lease_s=lease_s, cost_picounits=1) for _ in range(count)]
    reservations = [limiter.reserve(share, limits) for share in shares]
    outcomes = await asyncio.gather(*reservations, return_exceptions=True)
    assert all(isinstance(o, (Reservation, RateLimitExceeded)) for o in outcomes), outcomes
    refused = [o for o in outcomes if isinstance(o, RateLimitExceeded)]
    # On a busy machine the processes begin seconds apart; the wrong clock is an hour off.
    assert all(30 < o.retry_after_s <= 60 for o in refused), refused
    assert all(abs(o.standing.asked_at - true_time()) < 30 for o in refused), refused
    print(len(outcomes) - len(refused))

asyncio.run(main())
"""


def reserve_elsewhere(
    count: int, *, off_s: float = 0, lease_s: float = 40
) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", RESERVE, str(count), str(off_s), str(lease_s)],
        cwd=settings.BASE_DIR,
        env={**os.environ, "REDIS_URL": settings.REDIS_URL},
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
async def redis() -> AsyncIterator[Redis]:
    client = Redis.from_url(settings.REDIS_URL)
    await client.flushdb()
    yield client
    await client.aclose()


@pytest.fixture
async def limiter(redis: Redis) -> AsyncIterator[Limiter]:
    limiter = Limiter(redis, read_ledger=Ledger().read)
    yield limiter
    await limiter.close()


async def test_of_2000_requests_at_once_exactly_100_pass_whatever_the_clocks_say(
    redis: Redis,
) -> None:
    processes = [reserve_elsewhere(500, off_s=off_s) for off_s in (0, 0, 3_600, -3_600)]
    admitted = [int(process.communicate(timeout=60)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    assert sum(admitted) == 100


async def test_what_a_dead_process_held_lapses_by_itself(limiter: Limiter) -> None:
    limits = Limits(requests=1_000, tokens=1_000_000, concurrent=100)
    process = reserve_elsewhere(100, lease_s=1.0)  # it ends without settling
    assert int(process.communicate(timeout=60)[0]) == 100
    deadline = time.monotonic() + 15
    while True:
        try:
            await limiter.reserve(new_share(), limits)
        except RateLimitExceeded as refusal:
            assert refusal.limit == "concurrent requests"  # noqa: PT017 - until it lapses
            assert time.monotonic() < deadline
        else:
            break


async def test_a_request_too_many_at_once_is_refused_until_one_ends(limiter: Limiter) -> None:
    limits = Limits(requests=1_000, tokens=1_000_000, concurrent=2)
    first, second = new_share(), new_share()
    for share in (first, second):
        await limiter.reserve(share, limits)
    with pytest.raises(RateLimitExceeded) as refusal:
        await limiter.reserve(new_share(), limits)
    assert (refusal.value.limit, refusal.value.asked) == ("concurrent requests", 1)
    assert refusal.value.retry_after_s == 1.0
    await settled(limiter, first)
    third = new_share()
    assert (await limiter.reserve(third, limits)).standing.used_concurrent == 2
    await limiter.give_back(third)
    assert (await limiter.reserve(new_share(), limits)).standing.used_concurrent == 2


async def test_the_keys_of_a_call_are_in_one_slot_of_a_cluster(
    limiter: Limiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Command] = []
    call = RedisConnection.call

    async def spy(self: RedisConnection, *commands: Command, timeout_s: float) -> list[object]:
        sent.extend(commands)
        return await call(self, *commands, timeout_s=timeout_s)

    monkeypatch.setattr(RedisConnection, "call", spy)
    share = new_share(cost_picounits=5)
    cap = Cap(scope="attachment", scope_id=str(ATTACHMENT_ID), limit_microunits=1)
    await limiter.reserve(share, Limits(requests=1, tokens=1, concurrent=1), [cap])
    await settled(limiter, share)
    await limiter.give_back(share)
    await limiter.forget_spend(share.customer_id)
    keys = [
        list(map(str, command[3 : 3 + int(command[2])]))
        for command in sent
        if command[0] == "EVALSHA"
    ]
    assert {len(each) for each in keys} == {5, 3, 2}
    slots = {slot(key) for each in keys for key in each}
    assert len(slots) == 1
    assert slots != {slot(str(share.customer_id)[1:])}


def slot(key: str) -> int:
    """Redis Cluster's slot of a key: CRC16 of what stands between the first braces."""
    start = key.find("{") + 1
    hashed = key[start : key.index("}", start)] if start else key
    return binascii.crc_hqx(hashed.encode(), 0) % 16384
