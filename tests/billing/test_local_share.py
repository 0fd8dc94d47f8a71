"""Without Redis: each process's bounded share, for a bounded time, and the way back."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from django.conf import settings
from prometheus_client import Counter, Gauge
from redis.asyncio import Redis
from redis.exceptions import RedisError

from billing import local_share, rate_limits
from billing.counters import IS_LOCAL, LOCAL_ADMISSIONS
from billing.local_share import FailoverLimiter
from billing.rate_limits import (
    Cap,
    LimiterUnavailable,
    Limits,
    RateLimitExceeded,
    RequestExceedsLimit,
    Reservation,
)
from billing.redis_connection import RedisConnection
from tests.billing.limiting import CUSTOMER_ID, Ledger, new_share, settled

PROCESSES = 3
LIMITS = Limits(requests=31, tokens=3_000)
CAP = Cap(scope="account", scope_id=str(CUSTOMER_ID), limit_microunits=10**9)


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
async def limiters(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[list[FailoverLimiter]]:
    """Those of PROCESSES processes."""
    monkeypatch.setattr(local_share, "PROBE_EVERY_S", 0.0)
    async with Redis.from_url(settings.REDIS_URL) as redis:
        await redis.flushdb()
        limiters = [
            FailoverLimiter(redis, read_ledger=ledger.read, processes=PROCESSES, local_share_s=60.0)
            for _ in range(PROCESSES)
        ]
        yield limiters
        for limiter in limiters:
            await limiter.close()


@pytest.fixture
def limiter(limiters: list[FailoverLimiter]) -> FailoverLimiter:
    return limiters[0]


@contextmanager
def without_redis(*limiters: FailoverLimiter) -> Iterator[None]:
    """Their connections lead to where nobody listens."""
    there = [limiter._connection for limiter in limiters]
    for limiter in limiters:
        limiter._connection = RedisConnection(Redis.from_url("redis://127.0.0.1:1"))
    yield
    for limiter, connection in zip(limiters, there, strict=True):
        limiter._connection = connection


async def admitted(limiters: list[FailoverLimiter], count: int, limits: Limits) -> int:
    """How many of so many requests to each pass."""
    outcomes = await asyncio.gather(
        *[limiter.reserve(new_share(10), limits) for limiter in limiters for _ in range(count)],
        return_exceptions=True,
    )
    assert {type(outcome) for outcome in outcomes} <= {Reservation, RateLimitExceeded}
    return sum(isinstance(outcome, Reservation) for outcome in outcomes)


async def test_without_redis_the_standing_is_that_of_the_local_share_for_as_long_as_it_admits(
    limiter: FailoverLimiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = new_share().subject
    await limiter.reserve(new_share(10), LIMITS)
    assert (await limiter.standing(CUSTOMER_ID, subject, LIMITS)).used_tokens == 10
    with without_redis(limiter):
        with pytest.raises(RedisError):
            await limiter.standing(CUSTOMER_ID, subject, LIMITS)
        await limiter.reserve(new_share(20), LIMITS)
        standing = await limiter.standing(CUSTOMER_ID, subject, LIMITS)
        assert (standing.remaining_requests, standing.remaining_tokens) == (30, 2_980)
        assert standing.reset_s == pytest.approx(60, abs=1)
        monkeypatch.setattr(limiter, "_local_share_s", 0.0)
        with pytest.raises(LimiterUnavailable):
            await limiter.standing(CUSTOMER_ID, subject, LIMITS)


@pytest.mark.parametrize("limits", [LIMITS, Limits(requests=1_000, tokens=310)])
async def test_all_processes_together_admit_at_most_the_limit_without_redis(
    limiters: list[FailoverLimiter], limits: Limits
) -> None:
    """31 fit; a third of that, rounded down, is 10. What Redis admitted before is the slack."""
    assert await admitted(limiters, 100, limits) == 31
    with without_redis(*limiters):
        assert await admitted(limiters, 100, limits) == 30
        assert await admitted(limiters, 100, limits) == 0
    assert await admitted(limiters, 100, limits) == 0


async def test_what_left_the_window_may_be_admitted_again(
    limiters: list[FailoverLimiter], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limits, "WINDOW_S", 0.3)
    with without_redis(*limiters):
        assert await admitted(limiters, 11, LIMITS) == 30
        with pytest.raises(RateLimitExceeded) as refusal:
            await limiters[0].reserve(new_share(10), LIMITS)
        assert refusal.value.limit == "requests"
        assert 0 < refusal.value.retry_after_s <= 0.3
        await asyncio.sleep(0.31)
        assert await admitted(limiters, 11, LIMITS) == 30


async def test_requests_at_once_are_divided_too(limiter: FailoverLimiter) -> None:
    limits = Limits(requests=1_000, tokens=1_000_000, concurrent=6)
    with without_redis(limiter):
        first = new_share()
        for share in (first, new_share()):
            await limiter.reserve(share, limits)
        with pytest.raises(RateLimitExceeded) as refusal:
            await limiter.reserve(new_share(), limits)
        assert refusal.value.limit == "concurrent requests"
        limiter.settle(first)
        await limiter.reserve(new_share(), limits)


async def test_what_is_given_back_can_be_reserved_again(limiter: FailoverLimiter) -> None:
    limits = Limits(requests=3, tokens=30)
    with without_redis(limiter):
        for _ in range(3):
            share = new_share(10)
            standing = (await limiter.reserve(share, limits)).standing
            assert (standing.used_requests, standing.used_tokens) == (1, 10)
            assert await limiter.give_back(share)


async def test_after_the_time_of_the_local_share_everything_is_refused(
    limiter: FailoverLimiter,
) -> None:
    limiter._local_share_s = 0.2
    with without_redis(limiter):
        await limiter.reserve(new_share(), LIMITS)
        await asyncio.sleep(0.21)
        with pytest.raises(LimiterUnavailable):
            await limiter.reserve(new_share(), LIMITS)
    await limiter.reserve(new_share(), LIMITS)


async def test_a_caller_with_a_hard_budget_is_refused_at_once(limiter: FailoverLimiter) -> None:
    with without_redis(limiter):
        with pytest.raises(LimiterUnavailable):
            await limiter.reserve(new_share(cost_picounits=1), LIMITS, [CAP])
        await limiter.reserve(new_share(cost_picounits=0), LIMITS, [CAP])


async def test_a_request_larger_than_the_share_is_refused_and_one_larger_than_the_limit_is_wrong(
    limiter: FailoverLimiter,
) -> None:
    with without_redis(limiter):
        with pytest.raises(LimiterUnavailable):
            await limiter.reserve(new_share(1_001), LIMITS)
        with pytest.raises(RequestExceedsLimit):
            await limiter.reserve(new_share(3_001), LIMITS)


async def test_a_shadow_refuses_nothing_without_redis_either(limiter: FailoverLimiter) -> None:
    shadow = Limits(requests=1, tokens=1, is_shadow=True)
    with without_redis(limiter):
        for _ in range(5):
            await limiter.reserve(new_share(10, cost_picounits=1), shadow, [CAP])


async def test_redis_is_asked_once_a_while_and_nobody_else_waits_for_it(
    limiter: FailoverLimiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_share, "PROBE_EVERY_S", 0.2)
    with without_redis(limiter):
        await limiter.reserve(new_share(), LIMITS)
    assert await is_local(limiter)  # it is back, but was not asked
    await asyncio.sleep(0.2)
    assert not await is_local(limiter)


async def is_local(limiter: FailoverLimiter) -> bool:
    """By the metric, after one more request."""
    before = value(LOCAL_ADMISSIONS)
    await limiter.reserve(new_share(), LIMITS)
    was_local = value(LOCAL_ADMISSIONS) == before + 1
    assert value(IS_LOCAL) == was_local
    return was_local


def value(metric: Counter | Gauge) -> float:
    return next(iter(next(iter(metric.collect())).samples)).value


async def test_spend_of_the_time_without_redis_is_read_from_the_ledger(
    limiter: FailoverLimiter, ledger: Ledger
) -> None:
    await limiter.reserve(new_share(cost_picounits=1), LIMITS)
    served, under_way = [new_share(cost_picounits=100) for _ in range(2)]
    with without_redis(limiter):
        for share in (served, under_way):
            await limiter.reserve(share, LIMITS)
        ledger.store(served)
        limiter.settle(served)
    await limiter.reserve(new_share(cost_picounits=1), LIMITS)
    ledger.store(under_way)
    await settled(limiter, under_way)
    await limiter.reserve(new_share(cost_picounits=1), LIMITS)
    spend = await limiter.read_spend(CUSTOMER_ID)
    assert spend is not None
    assert spend.picounits["account"] == 203


async def test_what_redis_refuses_of_one_customer_is_not_its_loss(
    limiter: FailoverLimiter,
) -> None:
    async with Redis.from_url(settings.REDIS_URL) as redis:
        await redis.set(f"limits:{{{CUSTOMER_ID}}}:holds", "no sorted set")
    with pytest.raises(LimiterUnavailable):
        await limiter.reserve(new_share(10, cost_picounits=1), LIMITS)
    assert next(iter(IS_LOCAL.collect())).samples[0].value == 0
    other = replace(new_share(10), customer_id=uuid.uuid4())
    assert (await limiter.reserve(other, LIMITS)).standing.used_requests == 1


async def test_idle_subjects_are_forgotten(
    limiter: FailoverLimiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limits, "WINDOW_S", 0.05)
    with without_redis(limiter):
        for _ in range(5):
            share = new_share(attachment_id=uuid.uuid4())
            await limiter.reserve(share, LIMITS)
            limiter.settle(share)
        await asyncio.sleep(0.06)
        await limiter.reserve(new_share(), LIMITS)
    assert len(limiter._local_share._logs) == 1
