"""Spend caps: exact, rebuilt from the ledger whenever Redis cannot know."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Collection
from datetime import UTC, datetime

import pytest
from django.conf import settings
from redis.asyncio import Redis

from billing.periods import Period, month_of
from billing.prices import PICOUNITS_PER_MICROUNIT
from billing.rate_limits import Cap, Limiter, Limits, Share, SpendCapReached
from billing.spend import LedgerSpend
from tests.billing.limiting import (
    ATTACHMENT,
    ATTACHMENT_ID,
    CUSTOMER_ID,
    Ledger,
    new_share,
    settled,
)

LIMITS = Limits(requests=1_000, tokens=1_000_000)
ACCOUNT_CAP = Cap(scope="account", scope_id=str(CUSTOMER_ID), limit_microunits=1)
SPEND = f"limits:{{{CUSTOMER_ID}}}:spend"


@pytest.fixture
async def redis() -> AsyncIterator[Redis]:
    client = Redis.from_url(settings.REDIS_URL)
    await client.flushdb()
    yield client
    await client.aclose()


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
async def limiter(redis: Redis, ledger: Ledger) -> AsyncIterator[Limiter]:
    limiter = Limiter(redis, read_ledger=ledger.read)
    yield limiter
    await limiter.close()


def cap(scope: str, scope_id: str, picounits: int) -> Cap:
    assert picounits % PICOUNITS_PER_MICROUNIT == 0
    return Cap(
        scope=scope, scope_id=scope_id, limit_microunits=picounits // PICOUNITS_PER_MICROUNIT
    )


async def spent(limiter: Limiter) -> tuple[int, int]:
    """Of the account: in all, and held."""
    spend = await limiter.read_spend(CUSTOMER_ID)
    assert spend is not None
    return spend.picounits["account"], spend.held.get("account", 0)


async def test_the_last_picounit_fits_and_one_more_does_not(limiter: Limiter) -> None:
    await limiter.reserve(new_share(cost_picounits=999_999), LIMITS, [ACCOUNT_CAP])
    await limiter.reserve(new_share(cost_picounits=1), LIMITS, [ACCOUNT_CAP])
    with pytest.raises(SpendCapReached) as refusal:
        await limiter.reserve(new_share(cost_picounits=1), LIMITS, [ACCOUNT_CAP])
    assert refusal.value.cap == ACCOUNT_CAP
    assert (refusal.value.spent_picounits, refusal.value.asked_picounits) == (1_000_000, 1)
    assert refusal.value.resets_at == month_of(datetime.now(UTC)).end_at


@pytest.mark.parametrize("spent_before", [2**53, 2**60, 9 * 10**18])
async def test_amounts_that_no_double_holds_are_compared_exactly(
    limiter: Limiter, ledger: Ledger, spent_before: int
) -> None:
    limit = -(-spent_before // PICOUNITS_PER_MICROUNIT) * PICOUNITS_PER_MICROUNIT
    ledger.picounits["account"] = limit - 3
    caps = [cap("account", str(CUSTOMER_ID), limit)]
    for cost in (1, 1):
        await limiter.reserve(new_share(cost_picounits=cost), LIMITS, caps)
    with pytest.raises(SpendCapReached) as refusal:
        await limiter.reserve(new_share(cost_picounits=2), LIMITS, caps)
    assert refusal.value.spent_picounits == limit - 1
    await limiter.reserve(new_share(cost_picounits=1), LIMITS, caps)
    assert await spent(limiter) == (limit, 3)


async def test_a_corrected_month_may_be_below_zero(limiter: Limiter, ledger: Ledger) -> None:
    ledger.picounits["account"] = -2_000_000
    await limiter.reserve(new_share(cost_picounits=3_000_000), LIMITS, [ACCOUNT_CAP])
    with pytest.raises(SpendCapReached):
        await limiter.reserve(new_share(cost_picounits=1), LIMITS, [ACCOUNT_CAP])


async def test_each_budget_counts_its_own(limiter: Limiter) -> None:
    other_id = uuid.uuid4()
    caps = [
        cap("app", "shop", 5_000_000),
        cap("attachment", str(ATTACHMENT_ID), 3_000_000),
    ]
    await limiter.reserve(new_share(cost_picounits=3_000_000), LIMITS, caps)
    with pytest.raises(SpendCapReached) as refusal:
        await limiter.reserve(new_share(cost_picounits=1), LIMITS, caps)
    assert refusal.value.cap.scope == "attachment"
    other = [caps[0], cap("attachment", str(other_id), 3_000_000)]
    share = new_share(cost_picounits=2_000_000, attachment_id=other_id)
    await limiter.reserve(share, LIMITS, other)
    with pytest.raises(SpendCapReached) as refusal:
        await limiter.reserve(new_share(cost_picounits=1, attachment_id=other_id), LIMITS, other)
    assert (refusal.value.cap.scope, refusal.value.cap.scope_id) == ("app", "shop")


async def test_a_refused_request_takes_nothing(redis: Redis, limiter: Limiter) -> None:
    with pytest.raises(SpendCapReached):
        await limiter.reserve(new_share(9, cost_picounits=1_000_001), LIMITS, [ACCOUNT_CAP])
    assert await spent(limiter) == (0, 0)
    assert [key async for key in redis.scan_iter("*:log")] == []


async def test_a_request_that_costs_nothing_is_served_over_the_cap(
    limiter: Limiter, ledger: Ledger
) -> None:
    ledger.picounits["account"] = 5_000_000
    await limiter.reserve(new_share(cost_picounits=0), LIMITS, [ACCOUNT_CAP])


async def test_what_is_given_back_can_be_spent_and_what_is_settled_cannot(
    limiter: Limiter,
) -> None:
    kept, returned = [new_share(cost_picounits=500_000) for _ in range(2)]
    for share in (kept, returned):
        await limiter.reserve(share, LIMITS, [ACCOUNT_CAP])
    assert await spent(limiter) == (1_000_000, 1_000_000)
    await limiter.give_back(returned)
    await limiter.give_back(returned)
    await settled(limiter, kept)
    assert await spent(limiter) == (500_000, 0)


async def test_a_shadow_refuses_nothing_and_counts_everything(limiter: Limiter) -> None:
    shadow = Limits(requests=2, tokens=10, concurrent=3, is_shadow=True)
    shadows = []
    for tokens, cost in ((1, 1), (11, 1), (1, 1), (1, 2_000_000)):
        share = new_share(tokens, cost_picounits=cost)
        standing = (await limiter.reserve(share, shadow, [ACCOUNT_CAP])).standing
        shadows.append(standing.shadow)
    assert shadows == [None, "tokens", "requests", "spend"]
    assert (standing.used_requests, standing.used_tokens, standing.used_concurrent) == (4, 14, 4)
    assert await spent(limiter) == (2_000_003, 2_000_003)


async def test_the_ledger_is_read_once_for_those_who_wait_together(
    limiter: Limiter, ledger: Ledger
) -> None:
    ledger.picounits["account"] = 7
    shares = [new_share(cost_picounits=1) for _ in range(20)]
    await asyncio.gather(*[limiter.reserve(share, LIMITS, [ACCOUNT_CAP]) for share in shares])
    assert ledger.reads == 1
    assert await spent(limiter) == (27, 20)


async def test_after_a_flush_the_ledger_and_what_is_held_since_make_the_spend(
    redis: Redis, limiter: Limiter, ledger: Ledger
) -> None:
    """What was under way at the flush is found when it settles."""
    before, lost = [new_share(cost_picounits=100) for _ in range(2)]
    for share in (before, lost):
        await limiter.reserve(share, LIMITS, [ACCOUNT_CAP])
    ledger.store(before)
    await settled(limiter, before)
    await redis.flushall()
    since = new_share(cost_picounits=1)
    await limiter.reserve(since, LIMITS, [ACCOUNT_CAP])
    assert await spent(limiter) == (101, 1)
    ledger.store(lost)
    await settled(limiter, lost)
    await limiter.reserve(new_share(cost_picounits=10), LIMITS, [ACCOUNT_CAP])
    assert await spent(limiter) == (211, 11)


@pytest.mark.parametrize(("is_stored", "expected"), [(True, 101), (False, 1)])
async def test_a_hold_that_lapsed_counts_only_if_the_ledger_has_it(
    limiter: Limiter, ledger: Ledger, is_stored: bool, expected: int
) -> None:
    """Its process was killed, before or after the event was durable."""
    crashed = new_share(cost_picounits=100, lease_s=0.1)
    await limiter.reserve(crashed, LIMITS, [ACCOUNT_CAP])
    if is_stored:
        ledger.store(crashed)
    await asyncio.sleep(0.12)
    await limiter.reserve(new_share(cost_picounits=1), LIMITS, [ACCOUNT_CAP])
    assert await spent(limiter) == (expected, 1)


@pytest.mark.parametrize("is_stored", [True, False])
async def test_what_is_held_while_the_ledger_is_read_counts_once(
    redis: Redis, limiter: Limiter, ledger: Ledger, is_stored: bool
) -> None:
    held = new_share(cost_picounits=100)
    await limiter.reserve(held, LIMITS, [ACCOUNT_CAP])
    if is_stored:
        ledger.store(held)
    await limiter.forget_spend(CUSTOMER_ID)
    await limiter.reserve(new_share(cost_picounits=1), LIMITS, [ACCOUNT_CAP])
    assert await spent(limiter) == (101, 101)
    ledger.stored.add(held.id)
    await settled(limiter, held)
    assert await spent(limiter) == (101, 1)


async def test_a_hold_that_is_settled_while_the_ledger_is_read_is_not_missed(
    redis: Redis,
) -> None:
    """The event became durable after the ledger was read: it is read again."""
    ledger, other = Ledger(), Limiter(redis, read_ledger=Ledger().read)
    held = new_share(cost_picounits=100)

    async def read(
        customer_id: uuid.UUID, period: Period, asked: Collection[uuid.UUID]
    ) -> LedgerSpend:
        answer = await ledger.read(customer_id, period, asked)
        if held.id in asked:
            ledger.store(held)
            await settled(other, held)
        return answer

    limiter = Limiter(redis, read_ledger=read)
    await other.reserve(held, LIMITS, [ACCOUNT_CAP])
    await other.forget_spend(CUSTOMER_ID)
    await limiter.reserve(new_share(cost_picounits=1), LIMITS, [ACCOUNT_CAP])
    assert ledger.reads == 2
    assert await spent(limiter) == (101, 1)
    await limiter.close()
    await other.close()


async def test_a_month_that_is_over_counts_no_more(
    redis: Redis, limiter: Limiter, ledger: Ledger
) -> None:
    ledger.picounits["account"] = 900_000
    await limiter.reserve(new_share(cost_picounits=1), LIMITS, [ACCOUNT_CAP])
    seconds, microseconds = await redis.time()
    await redis.hset(SPEND, "until", seconds * 1_000_000 + microseconds)
    ledger.picounits["account"] = 0  # of the new month
    await limiter.reserve(new_share(cost_picounits=500_000), LIMITS, [ACCOUNT_CAP])
    spend = await limiter.read_spend(CUSTOMER_ID)
    assert spend is not None
    assert spend.until == month_of(datetime.now(UTC)).end_at
    assert spend.picounits[ATTACHMENT] == 500_001


async def test_settling_travels_with_other_calls(redis: Redis, limiter: Limiter) -> None:
    shares = [new_share(cost_picounits=1) for _ in range(10)]
    await asyncio.gather(*[limiter.reserve(share, LIMITS) for share in shares])
    before = (await redis.info("stats"))["total_reads_processed"]
    for share in shares:
        limiter.settle(share)
    assert await spent(limiter) == (10, 0)
    reads = (await redis.info("stats"))["total_reads_processed"] - before
    assert reads <= 3  # the settling, the reading of what is spent, and INFO itself


async def test_unsettled_is_never_more_than_what_is_under_way(
    limiter: Limiter, ledger: Ledger
) -> None:
    """spend - held <= ledger <= spend, at every step."""
    shares = [new_share(cost_picounits=3) for _ in range(6)]
    under_way: list[Share] = []

    async def check() -> None:
        total, held = await spent(limiter)
        assert total - held <= ledger.picounits["account"] <= total

    for number, share in enumerate(shares):
        await limiter.reserve(share, LIMITS, [ACCOUNT_CAP])
        under_way.append(share)
        await check()
        if number % 2:
            ledger.store(done := under_way.pop())
            await check()
            await settled(limiter, done)
        elif number == 4:
            await limiter.give_back(under_way.pop(0))
        await check()
