"""Rate limits: requests and tokens in any rolling 60 seconds, both or neither."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from django.conf import settings
from redis.asyncio import Redis
from redis.exceptions import RedisError

from billing import rate_limits
from billing.rate_limits import (
    Limiter,
    Limits,
    RateLimitExceeded,
    RequestExceedsLimit,
    Reservation,
    subject_of,
)
from billing.redis_connection import Command
from tests.billing.limiting import ATTACHMENT_ID, CUSTOMER_ID, LIMITS, Ledger, new_share

Reserve = Callable[..., Awaitable[Reservation]]
CLOCKS_S = 0.05  # how far the server's clock and ours may be apart within a second


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


@pytest.fixture
def reserve(limiter: Limiter) -> Reserve:
    async def reserve(
        tokens: int = 1, *, subject: str = "s", requests: int = 5, limit: int = 100
    ) -> Reservation:
        share = new_share(tokens, model_id=subject)
        return await limiter.reserve(share, Limits(requests=requests, tokens=limit))

    return reserve


async def test_a_reservation_says_what_is_left(reserve: Reserve) -> None:
    standing = (await reserve(30)).standing
    assert (standing.remaining_requests, standing.remaining_tokens) == (4, 70)
    assert standing.reset_s == pytest.approx(60, abs=0.1)


async def test_the_request_over_the_requests_limit_is_refused(reserve: Reserve) -> None:
    for _ in range(5):
        await reserve()
    with pytest.raises(RateLimitExceeded) as refusal:
        await reserve()
    assert refusal.value.limit == "requests"
    assert refusal.value.standing.remaining_requests == 0
    assert 59 < refusal.value.retry_after_s <= 60


async def test_the_request_over_the_tokens_limit_is_refused_and_takes_nothing(
    reserve: Reserve,
) -> None:
    await reserve(60)
    with pytest.raises(RateLimitExceeded) as refusal:
        await reserve(41)
    assert refusal.value.limit == "tokens"
    assert (await reserve(40)).standing.remaining_tokens == 0


async def test_a_request_larger_than_the_limit_is_refused_for_good(reserve: Reserve) -> None:
    with pytest.raises(RequestExceedsLimit):
        await reserve(101)


async def test_subjects_do_not_share_limits(reserve: Reserve) -> None:
    await reserve(100, subject="a")
    await reserve(100, subject="b")


async def test_what_is_given_back_can_be_reserved_again_once(
    limiter: Limiter, reserve: Reserve
) -> None:
    share = (await reserve(100)).share
    assert await limiter.give_back(share)
    assert not await limiter.give_back(share)
    standing = (await reserve(100)).standing
    assert (standing.used_requests, standing.used_tokens) == (1, 100)


async def test_reserving_a_share_again_changes_nothing(limiter: Limiter) -> None:
    share = new_share(60)
    for _ in range(2):
        standing = (await limiter.reserve(share, LIMITS)).standing
        assert (standing.used_requests, standing.used_tokens) == (1, 60)
    assert await limiter.give_back(share)
    assert (await limiter.reserve(new_share(100), LIMITS)).standing.used_tokens == 100


@pytest.mark.parametrize(
    ("limits", "limit"),
    [
        (Limits(requests=0, tokens=9), "requests"),
        (Limits(requests=9, tokens=0), "tokens"),
        (Limits(requests=9, tokens=9, concurrent=0), "concurrent requests"),
    ],
)
async def test_a_limit_of_nothing_is_refused_for_good(
    limiter: Limiter, limits: Limits, limit: str
) -> None:
    with pytest.raises(RequestExceedsLimit) as refusal:
        await limiter.reserve(new_share(), limits)
    assert refusal.value.limit == limit
    assert (await limiter.reserve(new_share(), replace(limits, is_shadow=True))).standing.shadow


async def test_concurrent_requests_never_exceed_the_limit(reserve: Reserve) -> None:
    outcomes = await asyncio.gather(
        *[reserve(1, requests=50, limit=1000) for _ in range(300)], return_exceptions=True
    )
    admitted = [outcome for outcome in outcomes if isinstance(outcome, Reservation)]
    assert len(admitted) == 50


async def test_reservations_leave_the_window_one_by_one_and_retry_after_is_exact(
    reserve: Reserve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limits, "WINDOW_S", 1)
    now = asyncio.get_running_loop().time
    earliest = now()
    await reserve(60)
    latest = now()
    await asyncio.sleep(0.5)
    second_at = now()
    await reserve(40)
    asked_at = now()
    with pytest.raises(RateLimitExceeded) as refusal:
        await reserve(50)
    # The first 60 leave the window in half a second; the 40 alone would not be enough.
    retry_after_s = refusal.value.retry_after_s
    assert earliest + 1 - now() - CLOCKS_S < retry_after_s < latest + 1 - asked_at + CLOCKS_S
    await asyncio.sleep(retry_after_s + CLOCKS_S)
    standing = (await reserve(50)).standing
    assert standing.used_tokens == 90 or now() > second_at + 1


async def test_no_rolling_window_exceeds_the_limit_across_a_fixed_windows_edge(
    reserve: Reserve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limiter of fixed windows would admit twice the limit around the edge."""
    monkeypatch.setattr(rate_limits, "WINDOW_S", 1)
    admitted_at: list[float] = []
    loop = asyncio.get_running_loop()
    until = loop.time() + 2.5
    while loop.time() < until:
        try:
            await reserve(10)
        except RateLimitExceeded:
            await asyncio.sleep(0.005)
        else:
            admitted_at.append(loop.time())
    assert len(admitted_at) >= 10
    for index, start in enumerate(admitted_at):
        # A clock read on our side jitters by a few milliseconds against the server's.
        assert sum(start <= at < start + 0.98 for at in admitted_at[index:]) <= 5


async def test_asking_how_a_subject_stands_takes_nothing_and_counts_the_window_alone(
    redis: Redis, limiter: Limiter, reserve: Reserve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limits, "WINDOW_S", 1)
    subject = subject_of(ATTACHMENT_ID, "s")

    async def stands() -> tuple[int, int, Any]:
        keys = sorted(await redis.keys("limits:*"))
        before = [await redis.dump(key) for key in keys]
        standing = await limiter.standing(CUSTOMER_ID, subject, LIMITS)
        assert sorted(await redis.keys("limits:*")) == keys
        assert [await redis.dump(key) for key in keys] == before
        assert abs(standing.asked_at - (await redis.time())[0]) <= 1
        return standing.used_requests, standing.used_tokens, standing.reset_s

    assert await stands() == (0, 0, 0.0)
    await reserve(60)
    await asyncio.sleep(0.5)
    now = asyncio.get_running_loop().time
    earliest = now()
    last = await reserve(30)
    slack_s = now() - earliest + CLOCKS_S
    standing = await stands()
    assert standing == (2, 90, pytest.approx(1, abs=now() - earliest + CLOCKS_S))
    await asyncio.sleep(0.6)
    asked_at = now()
    standing = await stands()
    if now() < earliest + 1:  # or the machine stood still
        left_s = pytest.approx(earliest + 1 - asked_at, abs=now() - asked_at + slack_s)
        assert standing == (1, 30, left_s)  # the 60 are still in the log
    await limiter.give_back(last.share)
    assert await stands() == (0, 0, 0.0)


async def test_an_idle_subject_leaves_nothing_behind(
    redis: Redis, reserve: Reserve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limits, "WINDOW_S", 1)
    await reserve(10)
    await asyncio.sleep(1.1)
    assert await redis.keys("limits:*") == []


async def test_reservations_that_wait_together_share_round_trips(
    limiter: Limiter, reserve: Reserve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And each is told how its own subject stands."""
    await reserve(subject="warm")  # the script is loaded
    call, round_trips = limiter._connection.call, []

    async def counted(*commands: Command, timeout_s: float) -> list[Any]:
        round_trips.append(len(commands))
        return await call(*commands, timeout_s=timeout_s)

    monkeypatch.setattr(limiter._connection, "call", counted)
    standings = await asyncio.gather(*[reserve(n, subject=f"s{n % 3}") for n in range(1, 13)])
    assert len(round_trips) <= 2  # the first alone, the others together
    assert sum(round_trips) == 12
    assert [r.standing.used_requests for r in standings] == [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]
    assert [r.standing.used_tokens for r in standings[-3:]] == [1 + 4 + 7 + 10, 26, 30]


async def test_a_refusal_does_not_touch_what_travels_with_it(reserve: Reserve) -> None:
    outcomes = await asyncio.gather(
        *[reserve(tokens) for tokens in (60, 41, 40)], return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [Reservation, RateLimitExceeded, Reservation]


async def test_a_share_given_back_while_it_is_being_reserved_is_not_held(
    redis: Redis, limiter: Limiter
) -> None:
    """A cancelled request gives back at once; that never overtakes its own reservation."""
    limits = Limits(requests=1_000, tokens=1_000)
    shares = [new_share() for _ in range(50)]
    for turns, share in enumerate(shares):
        reserving = asyncio.ensure_future(limiter.reserve(share, limits))
        for _ in range(turns % 10):
            await asyncio.sleep(0)
        reserving.cancel()
        await limiter.give_back(share)
    subject = f"limits:{{{CUSTOMER_ID}}}:{ATTACHMENT_ID}:m"
    assert await redis.zcard(f"{subject}:log") == 0
    assert int(await redis.get(f"{subject}:tokens") or 0) == 0


async def test_a_cancelled_reservation_does_not_harm_its_neighbours(
    limiter: Limiter, reserve: Reserve
) -> None:
    share = new_share(model_id="s")
    tasks = [asyncio.ensure_future(reserve()) for _ in range(2)]
    cancelled = asyncio.ensure_future(limiter.reserve(share, LIMITS))
    tasks += [asyncio.ensure_future(reserve()) for _ in range(2)]
    await asyncio.sleep(0)
    cancelled.cancel()
    assert len(await asyncio.gather(*tasks)) == 4


async def test_scripts_that_redis_forgot_are_loaded_again(redis: Redis, reserve: Reserve) -> None:
    await reserve()
    await redis.script_flush()
    assert (await reserve()).standing.used_requests == 2


async def test_a_redis_that_hangs_is_an_error_in_time(
    redis: Redis, reserve: Reserve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limits, "ROUND_TRIP_TIMEOUT_S", 0.2)
    await reserve()
    await redis.client_pause(20_000, all=False)  # what writes; unpausing goes through
    started = asyncio.get_running_loop().time()
    with pytest.raises(RedisError):
        await reserve()
    assert asyncio.get_running_loop().time() - started < 10
    await redis.client_unpause()
