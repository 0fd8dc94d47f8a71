"""Rate limits: requests and tokens a minute, requests at once and spend, reserved together.

One atomic script takes all of what a request needs, or nothing. A subject (an attachment's use of a
model) has a log of what it was admitted to in the last 60 seconds, so no rolling 60-second window
ever exceeds a limit. Redis's own clock is used, so the clocks of web processes do not matter. What
is reserved has a lease: after a crash it lapses by itself. A request that fails gives its
reservation back; one that was metered settles it. Calls that wait at the same moment share a round
trip, and all keys of a call are in one slot of a Redis Cluster.
"""

import asyncio
import logging
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal, NoReturn, Self

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from billing.coalescing import Coalescer
from billing.counters import REFUSALS, RESERVATIONS, SHADOW_REFUSALS
from billing.periods import Period, month_of
from billing.prices import PICOUNITS_PER_MICROUNIT
from billing.redis_connection import Command, RedisConnection
from billing.reservation_scripts import (
    DIGESTS,
    GIVE_BACK,
    READ_SPEND,
    RESERVE,
    SEED,
    SETTLE,
    STANDING,
)
from billing.spend import ACCOUNT, LedgerSpend, Spend, app_scope, attachment_scope

logger = logging.getLogger(__name__)

WINDOW_S = 60
ROUND_TRIP_MAX_CALLS = 64
WAIT_MAX_S = 5.0
ROUND_TRIP_TIMEOUT_S = 5.0
# A request under way may end at any moment, so a client may ask soon.
CONCURRENCY_RETRY_AFTER_S = 1.0
# How long to read spend from the ledger anew while what is held changes.
SEED_MAX_S = 5.0
SEED_PAUSE_S = 0.01

Limit = Literal["requests", "tokens", "concurrent requests"]
LIMITS: tuple[Limit, ...] = ("requests", "tokens", "concurrent requests")
# As the name of a limit, where a cap binds.
SPEND = "spend"


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What one subject may do in any 60 seconds, and at once. A shadow's refuse nothing."""

    requests: int
    tokens: int
    concurrent: int | None = None
    is_shadow: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Cap:
    """What may be spent in a month; `scope` is attachment, app or account."""

    scope: str
    scope_id: str
    limit_microunits: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """How a subject stands with its limits at `asked_at`, unix seconds of Redis's clock;
    durations in seconds. `shadow` names the limit that would have refused the request."""

    limits: Limits
    used_requests: int
    used_tokens: int
    used_concurrent: int = 0
    reset_s: float
    asked_at: float
    shadow: str | None = None

    @property
    def remaining_requests(self) -> int:
        return max(0, self.limits.requests - self.used_requests)

    @property
    def remaining_tokens(self) -> int:
        return max(0, self.limits.tokens - self.used_tokens)


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """One request, its tokens and its cost. `id` is unique to the request; the subject is the
    attachment's use of the model. Its lease must outlast the request's metering."""

    id: uuid.UUID
    customer_id: uuid.UUID
    attachment_id: uuid.UUID
    model_id: str
    app_name: str = ""
    tokens: int
    cost_picounits: int = 0
    lease_s: float

    @property
    def subject(self) -> str:
        return subject_of(self.attachment_id, self.model_id)

    @property
    def log_entry(self) -> str:
        return f"{self.id}:{self.tokens}"

    @property
    def hold(self) -> str:
        if not self.cost_picounits:
            return ""
        return f"{self.id}:{self.cost_picounits}:{self.attachment_id}:{self.app_name}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Reservation:
    """A share that was admitted, and how its subject stands since."""

    share: Share
    standing: Standing


class RateLimitExceeded(Exception):
    """The request does not fit now; it will in `retry_after_s`, if nothing else is admitted.

    That is a guess where too many requests are under way: one of them must end first.
    """

    def __init__(
        self, limit: Limit, *, asked: int, standing: Standing, retry_after_s: float
    ) -> None:
        super().__init__(limit)
        self.limit = limit
        self.asked = asked
        self.standing = standing
        self.retry_after_s = retry_after_s


class RequestExceedsLimit(Exception):
    """The request alone is larger than the whole limit: waiting does not help."""

    def __init__(self, limit: Limit, *, tokens: int, limits: Limits) -> None:
        super().__init__(limit)
        self.limit = limit
        self.tokens = tokens
        self.limits = limits


class SpendCapReached(Exception):
    """With the request's cost, more would be spent in the month than the cap allows."""

    def __init__(
        self,
        cap: Cap,
        *,
        spent_picounits: int,
        asked_picounits: int,
        resets_at: datetime,
        standing: Standing,
    ) -> None:
        super().__init__(f"{cap.scope} {cap.scope_id}")
        self.cap = cap
        self.spent_picounits = spent_picounits
        self.asked_picounits = asked_picounits
        self.resets_at = resets_at
        self.standing = standing


class LimiterUnavailable(Exception):
    """The limits cannot be checked, so nothing is admitted."""


ReadLedger = Callable[[uuid.UUID, Period, Collection[uuid.UUID]], Awaitable[LedgerSpend]]


class Limiter:
    """The limits kept in one Redis, for the event loop of one process.

    `read_ledger` is asked, as `spend_in_ledger` is, where Redis does not know what was spent.
    """

    def __init__(self, redis: Redis, *, read_ledger: ReadLedger) -> None:
        self._read_ledger = read_ledger
        self._connection = RedisConnection(redis)
        self._calls = Coalescer(
            self._call_together,
            max_items=ROUND_TRIP_MAX_CALLS,
            max_wait_s=WAIT_MAX_S,
            refusal=lambda: RedisTimeoutError("Redis does not answer"),
        )
        self._seeding: dict[uuid.UUID, asyncio.Task[None]] = {}

    async def reserve(self, share: Share, limits: Limits, caps: Sequence[Cap] = ()) -> Reservation:
        """Reserve all that the share needs, or nothing. Repeating it changes nothing.

        Raises RateLimitExceeded, SpendCapReached, RequestExceedsLimit where it could never fit, or
        LimiterUnavailable or RedisError, after which the share may be held.
        """
        check_size(share, limits)
        caps = caps if share.cost_picounits else ()
        call = _reserve(share, limits, caps)
        loop = asyncio.get_running_loop()
        seed_until = loop.time() + SEED_MAX_S
        while (reply := await self._calls.submit(call))[0] == _UNSEEDED:
            if loop.time() > seed_until:
                raise LimiterUnavailable("spend cannot be read from the ledger")
            await self._seed_once(share.customer_id, reply)
        return _admitted(reply, share, limits, caps)

    def settle(self, share: Share) -> None:
        """End the lease of a share whose usage is in the ledger. Nobody waits for it: what is not
        settled lapses, and is then read from the ledger."""
        settled = self._calls.submit(_run(SETTLE, _keys(share)[2:], str(share.id), share.hold))
        settled.add_done_callback(_log_failure)

    async def give_back(self, share: Share) -> bool:
        """Return a share that was reserved, or may have been. False when it was not held.

        It never overtakes the reservation: calls reach Redis in the order in which they were made.
        """
        returned = await self._calls.submit(
            _run(
                GIVE_BACK,
                _keys(share),
                share.log_entry,
                str(share.id),
                share.tokens,
                -share.cost_picounits,
                share.hold,
                *_fields(share),
            )
        )
        return bool(returned)

    async def standing(self, customer_id: uuid.UUID, subject: str, limits: Limits) -> Standing:
        """How the subject stands now, its requests at once excepted. Nothing is reserved.

        Raises RedisError.
        """
        now_us, requests, tokens, reset_us = await self._calls.submit(
            _run(STANDING, _subject_keys(customer_id, subject)[:2], WINDOW_S * 1_000_000)
        )
        return Standing(
            limits=limits,
            used_requests=requests,
            used_tokens=tokens,
            reset_s=reset_us / 1e6,
            asked_at=now_us / 1e6,
        )

    async def read_spend(self, customer_id: uuid.UUID) -> Spend | None:
        """What is counted as spent; None where nothing is, until a request asks."""
        fields, holds = await self._calls.submit(_run(READ_SPEND, _spend_keys(customer_id)))
        values = {
            name.decode(): int(value) for name, value in zip(fields[::2], fields[1::2], strict=True)
        }
        if not values:
            return None
        until = datetime.fromtimestamp(values.pop("until") / 1e6, UTC)
        return Spend(until=until, picounits=values, held=_sum_up(map(_Hold.read, holds)))

    async def forget_spend(self, customer_id: uuid.UUID) -> None:
        """Have spend read from the ledger again, by the next request."""
        await self._calls.submit(("DEL", *_spend_keys(customer_id)[:1]))

    async def close(self) -> None:
        """Disconnect, once what was settled is sent. A later call would connect again."""
        await self._calls.drain()
        await self._connection.close()

    async def _seed_once(self, customer_id: uuid.UUID, reply: list[Any]) -> None:
        """One of those who wait for the customer's spend reads it, for all of them."""
        if customer_id not in self._seeding:
            task = asyncio.create_task(self._seed(customer_id, reply))
            task.add_done_callback(partial(self._seeded, customer_id))
            self._seeding[customer_id] = task
        await asyncio.shield(self._seeding[customer_id])

    def _seeded(self, customer_id: uuid.UUID, task: asyncio.Task[None]) -> None:
        del self._seeding[customer_id]
        if not task.cancelled():
            task.exception()  # those who wait are told, if any are left

    async def _seed(self, customer_id: uuid.UUID, reply: list[Any]) -> None:
        """Tell Redis what the ledger says. Nothing where a hold changed meanwhile: its event may
        be stored since."""
        _, now_us, members = reply
        holds = [_Hold.read(member) for member in members]
        period = month_of(datetime.fromtimestamp(now_us / 1e6, UTC))
        ledger = await self._read_ledger(customer_id, period, [hold.id for hold in holds])
        stored = [hold.member for hold in holds if hold.id in ledger.stored]
        missing = [hold for hold in holds if hold.id not in ledger.stored]
        spent = _sum_up(missing)
        spent.update(ledger.picounits)
        is_seeded = await self._calls.submit(
            _run(
                SEED,
                _spend_keys(customer_id),
                int(period.end_at.timestamp()) * 1_000_000,
                len(stored),
                *stored,
                len(missing),
                *(hold.member for hold in missing),
                *(part for field in spent.items() for part in field),
            )
        )
        if not is_seeded:
            await asyncio.sleep(SEED_PAUSE_S)

    async def _call_together(self, calls: list[Command]) -> list[Any]:
        """One outcome a call, in one round trip; more only when Redis does not know the scripts."""
        outcomes = await self._connection.call(*calls, timeout_s=ROUND_TRIP_TIMEOUT_S)
        if any(isinstance(outcome, NoScriptError) for outcome in outcomes):
            loads = [("SCRIPT", "LOAD", script) for script in DIGESTS]
            await self._connection.call(*loads, timeout_s=ROUND_TRIP_TIMEOUT_S)
            # Repeating them does no harm.
            outcomes = await self._connection.call(*calls, timeout_s=ROUND_TRIP_TIMEOUT_S)
        return outcomes


def subject_of(attachment_id: uuid.UUID, model_id: str) -> str:
    return f"{attachment_id}:{model_id}"


def check_size(share: Share, limits: Limits) -> None:
    """Raises RequestExceedsLimit."""
    if limits.is_shadow:
        return
    asked = (1, limits.requests), (share.tokens, limits.tokens), (1, limits.concurrent)
    for limit, (amount, most) in zip(LIMITS, asked, strict=True):
        if most is not None and amount > most:
            raise RequestExceedsLimit(limit, tokens=share.tokens, limits=limits)


_UNSEEDED = -1


@dataclass(frozen=True, kw_only=True, slots=True)
class _Hold:
    """A member of the holds."""

    member: bytes
    id: uuid.UUID
    picounits: int
    attachment_id: str
    app_name: str

    @classmethod
    def read(cls, member: bytes) -> Self:
        id_, picounits, attachment_id, app_name = member.decode().split(":", 3)
        return cls(
            member=member,
            id=uuid.UUID(id_),
            picounits=int(picounits),
            attachment_id=attachment_id,
            app_name=app_name,
        )


def _sum_up(holds: Iterable[_Hold]) -> Counter[str]:
    """The holds' picounits by scope."""
    summed: Counter[str] = Counter()
    for hold in holds:
        for scope in (ACCOUNT, app_scope(hold.app_name), attachment_scope(hold.attachment_id)):
            summed[scope] += hold.picounits
    return summed


def _reserve(share: Share, limits: Limits, caps: Sequence[Cap]) -> Command:
    rooms: list[str | int] = []
    for cap in caps:
        limit = cap.limit_microunits * PICOUNITS_PER_MICROUNIT
        rooms += (_scope(cap), limit - share.cost_picounits)
    return _run(
        RESERVE,
        _keys(share),
        share.log_entry,
        str(share.id),
        share.tokens,
        WINDOW_S * 1_000_000,
        limits.requests,
        limits.tokens,
        -1 if limits.concurrent is None else limits.concurrent,
        round(share.lease_s * 1e6),
        "shadow" if limits.is_shadow else "",
        share.cost_picounits,
        share.hold,
        *_fields(share),
        *rooms,
    )


def _admitted(reply: list[Any], share: Share, limits: Limits, caps: Sequence[Cap]) -> Reservation:
    """What the script says. Raises RateLimitExceeded, SpendCapReached."""
    is_admitted, now_us, requests, tokens, running, reset_us, binding, wait_us, spent = reply
    standing = Standing(
        limits=limits,
        used_requests=requests,
        used_tokens=tokens,
        used_concurrent=running,
        reset_s=reset_us / 1e6,
        asked_at=now_us / 1e6,
    )
    if is_admitted:
        RESERVATIONS.inc()
    if not binding:
        return Reservation(share=share, standing=standing)
    limit = LIMITS[binding - 1] if binding <= len(LIMITS) else SPEND
    if not is_admitted:
        REFUSALS.labels(limit).inc()
        _refuse(share, caps, standing, binding=binding, wait_s=wait_us / 1e6, spent=spent)
    SHADOW_REFUSALS.labels(limit).inc()
    logger.info("%s: a shadow limit would refuse %s: %s", share.subject, share.id, limit)
    return Reservation(share=share, standing=replace(standing, shadow=limit))


def _refuse(
    share: Share,
    caps: Sequence[Cap],
    standing: Standing,
    *,
    binding: int,
    wait_s: float,
    spent: bytes,
) -> NoReturn:
    if binding > len(LIMITS):
        now = datetime.fromtimestamp(standing.asked_at, UTC)
        raise SpendCapReached(
            caps[binding - len(LIMITS) - 1],
            spent_picounits=int(spent),
            asked_picounits=share.cost_picounits,
            resets_at=month_of(now).end_at,
            standing=standing,
        )
    limit = LIMITS[binding - 1]
    if limit == "concurrent requests":
        wait_s = CONCURRENCY_RETRY_AFTER_S
    raise RateLimitExceeded(
        limit,
        asked=share.tokens if limit == "tokens" else 1,
        standing=standing,
        retry_after_s=wait_s,
    )


def _run(script: str, keys: tuple[str, ...], *arguments: str | bytes | int) -> Command:
    return ("EVALSHA", DIGESTS[script], len(keys), *keys, *arguments)


def _keys(share: Share) -> tuple[str, ...]:
    return (
        *_subject_keys(share.customer_id, share.subject),
        *_spend_keys(share.customer_id),
    )


def _subject_keys(customer_id: uuid.UUID, subject: str) -> tuple[str, ...]:
    # The braces keep all keys of a customer in one slot of a Redis Cluster.
    prefix = f"limits:{{{customer_id}}}:{subject}"
    return f"{prefix}:log", f"{prefix}:tokens", f"{prefix}:leases"


def _spend_keys(customer_id: uuid.UUID) -> tuple[str, ...]:
    return f"limits:{{{customer_id}}}:spend", f"limits:{{{customer_id}}}:holds"


def _fields(share: Share) -> tuple[str, ...]:
    """Those of the spend hash that the share's cost counts in, besides the account's."""
    return app_scope(share.app_name), attachment_scope(share.attachment_id)


def _scope(cap: Cap) -> str:
    return ACCOUNT if cap.scope == ACCOUNT else f"{cap.scope}:{cap.scope_id}"


def _log_failure(settled: "asyncio.Future[Any]") -> None:
    if not settled.cancelled() and isinstance(error := settled.exception(), RedisError):
        logger.warning("a reservation could not be settled (%r); it lapses by itself", error)
