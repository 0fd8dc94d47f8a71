"""The reservation of all limits at once, against a plain model of them over random schedules."""

import asyncio
import uuid
from dataclasses import dataclass, field
from hashlib import sha1

import pytest
from django.conf import settings
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from billing import rate_limits, reservation_scripts
from billing.prices import PICOUNITS_PER_MICROUNIT
from billing.rate_limits import (
    Cap,
    Limiter,
    Limits,
    RateLimitExceeded,
    Share,
    SpendCapReached,
)
from tests.billing.limiting import ATTACHMENT, ATTACHMENT_ID, Ledger, new_share

MINUTE_US = 60_000_000
LEASE_US = 20_000_000
# One of each that binds alone, and one where any may.
LIMITS = (
    Limits(requests=3, tokens=10_000),
    Limits(requests=1_000, tokens=100),
    Limits(requests=1_000, tokens=10_000, concurrent=2),
    Limits(requests=4, tokens=100, concurrent=3),
)
# Beyond 2^53, where a double no longer tells neighbours apart.
SPENT_BEFORE = 2**60 // PICOUNITS_PER_MICROUNIT * PICOUNITS_PER_MICROUNIT
CAP_PICOUNITS = SPENT_BEFORE + 400 * PICOUNITS_PER_MICROUNIT
CAP = Cap(
    scope="attachment",
    scope_id=str(ATTACHMENT_ID),
    limit_microunits=CAP_PICOUNITS // PICOUNITS_PER_MICROUNIT,
)
# Each token costs a whole micro-unit, and a little more, so that rounding would show.
PICOUNITS_PER_TOKEN = PICOUNITS_PER_MICROUNIT + 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripts as they are, but for the time, which they read from a key."""
    scripts = {
        name: getattr(reservation_scripts, name).replace(
            "redis.call('TIME')", "redis.call('HMGET', 'clock', 's', 'us')"
        )
        for name in ("RESERVE", "SEED", "GIVE_BACK", "SETTLE", "READ_SPEND")
    }
    assert sum("clock" in script for script in scripts.values()) == 2
    for name, script in scripts.items():
        monkeypatch.setattr(rate_limits, name, script)
    digests = {script: sha1(script.encode()).hexdigest() for script in scripts.values()}  # noqa: S324
    monkeypatch.setattr(rate_limits, "DIGESTS", digests)


@dataclass
class Model:
    """The limits in plain Python: what was admitted when, what is under way, what was spent."""

    now: int
    limits: Limits
    admitted: dict[uuid.UUID, tuple[int, int]] = field(default_factory=dict)
    leases: dict[uuid.UUID, int] = field(default_factory=dict)
    spent: int = SPENT_BEFORE

    def binds(self, tokens: int) -> str | None:
        recent = [cost for at, cost in self.admitted.values() if at > self.now - MINUTE_US]
        running = [end for end in self.leases.values() if end > self.now]
        if self.spent + tokens * PICOUNITS_PER_TOKEN > CAP_PICOUNITS:
            return "spend"
        if len(recent) + 1 > self.limits.requests:
            return "requests"
        if sum(recent) + tokens > self.limits.tokens:
            return "tokens"
        if self.limits.concurrent is not None and len(running) + 1 > self.limits.concurrent:
            return "concurrent requests"
        return None

    def admit(self, share: Share) -> None:
        self.admitted[share.id] = (self.now, share.tokens)
        self.leases[share.id] = self.now + LEASE_US
        self.spent += share.cost_picounits

    def wait_us(self, tokens: int) -> int:
        """By trying every moment at which something leaves the window."""
        recent = sorted(
            entry for entry in self.admitted.values() if entry[0] > self.now - MINUTE_US
        )
        for at, _ in recent:
            left = [cost for later, cost in recent if later > at]
            if len(left) + 1 <= self.limits.requests and sum(left) + tokens <= self.limits.tokens:
                return at + MINUTE_US - self.now
        raise AssertionError("it never fits")


# Tokens that add up to the limit, and some that just do not; waits that end leases and minutes to
# the microsecond, and others.
TOKENS = (1, 2, 10, 19, 20, 21, 40, 80, 100)
WAITS_US = (1, 1_000_000, 19_999_999, 20_000_000, 40_000_000, 59_999_999, 60_000_000)
KINDS = ("reserve",) * 5 + ("wait",) * 2 + ("settle", "give back", "repeat")
STEPS = st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 62)), min_size=8, max_size=30)


@pytest.mark.usefixtures("clock")
@given(limits=st.sampled_from(LIMITS), steps=STEPS)
@hypothesis_settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_every_schedule_goes_as_in_the_model(limits: Limits, steps: list[tuple[str, int]]) -> None:
    asyncio.run(_go(limits, steps))


async def _go(limits: Limits, steps: list[tuple[str, int]]) -> None:
    async with Redis.from_url(settings.REDIS_URL) as redis:
        await redis.flushdb()
        ledger = Ledger(account=SPENT_BEFORE, app=SPENT_BEFORE, attachment=SPENT_BEFORE)
        limiter = Limiter(redis, read_ledger=ledger.read)
        try:
            await _follow(limits, steps, redis, limiter, ledger)
        finally:
            await limiter.close()


async def _follow(
    limits: Limits,
    steps: list[tuple[str, int]],
    redis: Redis,
    limiter: Limiter,
    ledger: Ledger,
) -> None:
    """Steps of time start from Redis's own, whose expiry of keys stays behind them."""
    started = int((await redis.time())[0]) * 1_000_000
    model = Model(now=started, limits=limits)
    live: list[Share] = []
    for step, number in steps:
        if step == "wait":
            model.now += WAITS_US[number % len(WAITS_US)]
            continue
        await redis.hset("clock", mapping={"s": model.now // 10**6, "us": model.now % 10**6})
        # What lapsed was never metered here.
        for share in [share for share in live if model.leases[share.id] <= model.now]:
            live.remove(share)
            model.spent -= share.cost_picounits
        if step == "reserve":
            await _reserve(limiter, model, live, TOKENS[number % len(TOKENS)])
        elif live:
            await _act(limiter, ledger, model, live, step, number)


async def _reserve(limiter: Limiter, model: Model, live: list[Share], tokens: int) -> None:
    share = new_share(tokens, lease_s=LEASE_US / 1e6, cost_picounits=tokens * PICOUNITS_PER_TOKEN)
    expected = model.binds(tokens)
    refusal: RateLimitExceeded | SpendCapReached | None = None
    try:
        await limiter.reserve(share, model.limits, [CAP])
    except (RateLimitExceeded, SpendCapReached) as error:
        refusal = error
    if refusal is None:
        assert expected is None
        model.admit(share)
        live.append(share)
    elif isinstance(refusal, SpendCapReached):
        assert expected == "spend"
        assert refusal.spent_picounits == model.spent
    elif expected == "concurrent requests":
        assert refusal.limit == expected
    else:
        # Both may bind; the one named is that which binds longer.
        assert {expected, refusal.limit} <= {"requests", "tokens"}
        assert round(refusal.retry_after_s * 1e6) == model.wait_us(tokens)


async def _act(
    limiter: Limiter, ledger: Ledger, model: Model, live: list[Share], step: str, number: int
) -> None:
    share = live[number % len(live)]
    if step == "repeat":
        await limiter.reserve(share, model.limits, [CAP])
        return
    live.remove(share)
    del model.leases[share.id]
    if step == "settle":
        ledger.store(share)
        limiter.settle(share)
    else:
        is_recent = model.admitted.pop(share.id)[0] > model.now - MINUTE_US
        assert await limiter.give_back(share) == is_recent
        model.spent -= share.cost_picounits
    spend = await limiter.read_spend(share.customer_id)
    if spend is not None:  # else it is read from the ledger next time
        held = sum(other.cost_picounits for other in live)
        assert (
            spend.picounits[ATTACHMENT] - spend.held.get(ATTACHMENT, 0)
            == ledger.picounits[ATTACHMENT]
        )
        assert spend.held.get(ATTACHMENT, 0) >= held
