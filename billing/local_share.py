"""The local share: what one web process may admit by itself while Redis is gone.

Each of LIMITS_PROCESSES processes may admit its part of each limit, rounded down, in any 60
seconds, and for at most LIMITS_LOCAL_SHARE_S seconds since it lost Redis. Together they then admit
no more than the limit; in the 60 seconds around the loss, and around the return, at most twice as
much (see docs/limits.md). A spend cap cannot be checked without Redis, so whoever has one is
refused at once.
"""

import asyncio
import logging
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic, time
from typing import Literal

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from billing import rate_limits
from billing.counters import IS_LOCAL, LOCAL_ADMISSIONS, REFUSALS
from billing.rate_limits import (
    CONCURRENCY_RETRY_AFTER_S,
    Cap,
    Limiter,
    LimiterUnavailable,
    Limits,
    RateLimitExceeded,
    ReadLedger,
    RequestExceedsLimit,
    Reservation,
    Share,
    SpendCapReached,
    Standing,
    check_size,
)

logger = logging.getLogger(__name__)

# How often Redis is asked whether it is back, by a request that waits for it.
PROBE_EVERY_S = 1.0


@dataclass(slots=True)
class _Log:
    """What was admitted to one subject in the last window, and what is under way."""

    entries: deque[tuple[float, Share]] = field(default_factory=deque)
    tokens: int = 0
    running: set[uuid.UUID] = field(default_factory=set)


class LocalShare:
    """The logs of one process. `now` is in monotonic seconds throughout."""

    def __init__(self, *, processes: int) -> None:
        self._processes = processes
        self._logs: dict[str, _Log] = {}

    def admit(self, share: Share, limits: Limits, *, now: float) -> Standing:
        """Raises RateLimitExceeded, RequestExceedsLimit, LimiterUnavailable."""
        check_size(share, limits)
        own = self._part(limits)
        log = self._logs.setdefault(share.subject, _Log())
        _expire(log, now)
        standing = _standing(log, limits, now)
        if not limits.is_shadow:
            _check(log, own, share, standing, now)
        log.entries.append((now, share))
        log.tokens += share.tokens
        log.running.add(share.id)
        return _standing(log, limits, now)

    def standing(self, subject: str, limits: Limits, *, now: float) -> Standing:
        log = self._logs.get(subject) or _Log()
        _expire(log, now)
        return _standing(log, limits, now)

    def end(self, share: Share) -> bool:
        """The share's request is no longer under way. False where it was not admitted here."""
        log = self._logs.get(share.subject)
        if log is None or share.id not in log.running:
            return False
        log.running.remove(share.id)
        return True

    def give_back(self, share: Share) -> bool:
        """Return the share too. False where it was not admitted here."""
        if not self.end(share):
            return False
        log = self._logs[share.subject]
        for entry in log.entries:
            if entry[1].id == share.id:
                log.entries.remove(entry)
                log.tokens -= share.tokens
                break
        return True

    def forget_idle(self, now: float) -> None:
        """Drop the logs of which nothing is left."""
        for subject, log in list(self._logs.items()):
            _expire(log, now)
            if not log.entries and not log.running:
                del self._logs[subject]

    def _part(self, limits: Limits) -> Limits:
        concurrent = limits.concurrent
        return Limits(
            requests=limits.requests // self._processes,
            tokens=limits.tokens // self._processes,
            concurrent=None if concurrent is None else concurrent // self._processes,
        )


def _check(log: _Log, own: Limits, share: Share, standing: Standing, now: float) -> None:
    """Raises RateLimitExceeded; LimiterUnavailable where the process's part is too small."""
    if share.tokens > own.tokens or not own.requests or own.concurrent == 0:
        raise LimiterUnavailable("the request is larger than this process's part of the limits")
    if len(log.entries) >= own.requests or log.tokens + share.tokens > own.tokens:
        limit, wait_s = _wait(log, own, share, now)
        raise RateLimitExceeded(
            limit,
            asked=share.tokens if limit == "tokens" else 1,
            standing=standing,
            retry_after_s=wait_s,
        )
    if own.concurrent is not None and len(log.running) >= own.concurrent:
        raise RateLimitExceeded(
            "concurrent requests",
            asked=1,
            standing=standing,
            retry_after_s=CONCURRENCY_RETRY_AFTER_S,
        )


def _wait(
    log: _Log, own: Limits, share: Share, now: float
) -> tuple[Literal["requests", "tokens"], float]:
    """What binds last, and for how many seconds."""
    count, tokens = len(log.entries), log.tokens
    limit: Literal["requests", "tokens"] = "requests" if count >= own.requests else "tokens"
    wait_s = 0.0
    for at, entry in log.entries:
        fits_requests = count < own.requests
        if fits_requests and tokens + share.tokens <= own.tokens:
            break
        if fits_requests:
            limit = "tokens"
        count -= 1
        tokens -= entry.tokens
        wait_s = at + rate_limits.WINDOW_S - now
    return limit, wait_s


def _expire(log: _Log, now: float) -> None:
    while log.entries and log.entries[0][0] <= now - rate_limits.WINDOW_S:
        log.tokens -= log.entries.popleft()[1].tokens


def _standing(log: _Log, limits: Limits, now: float) -> Standing:
    newest = log.entries[-1][0] if log.entries else now - rate_limits.WINDOW_S
    return Standing(
        limits=limits,
        used_requests=len(log.entries),
        used_tokens=log.tokens,
        used_concurrent=len(log.running),
        reset_s=newest + rate_limits.WINDOW_S - now,
        asked_at=time(),
    )


class FailoverLimiter(Limiter):
    """The limiter that goes over to the local share when Redis is gone, and back when it is there.

    Afterwards the spend of those who were served here is read from the ledger.
    """

    def __init__(
        self, redis: Redis, *, read_ledger: ReadLedger, processes: int, local_share_s: float
    ) -> None:
        super().__init__(redis, read_ledger=read_ledger)
        self._local_share = LocalShare(processes=processes)
        self._local_share_s = local_share_s
        self._lost_at: float | None = None
        self._probe_at = 0.0
        self._uncounted: set[uuid.UUID] = set()
        self._recounting: asyncio.Task[None] | None = None
        IS_LOCAL.set(0)

    async def reserve(self, share: Share, limits: Limits, caps: Sequence[Cap] = ()) -> Reservation:
        """As Limiter's, with LimiterUnavailable where that has RedisError."""
        if self._lost_at is None or monotonic() >= self._probe_at:
            self._probe_at = monotonic() + PROBE_EVERY_S
            try:
                return await self._reserve_in_redis(share, limits, caps)
            except RedisError as error:
                # Redis is there, and refuses this call alone; being full or read-only has errors
                # of their own.
                if type(error) is ResponseError:
                    raise LimiterUnavailable("Redis refuses the reservation") from error
                self._note_loss(error)
        return self._reserve_here(share, limits, caps)

    async def standing(self, customer_id: uuid.UUID, subject: str, limits: Limits) -> Standing:
        """As Limiter's; without Redis, with the local share. Raises LimiterUnavailable too."""
        if self._lost_at is None:
            return await super().standing(customer_id, subject, limits)
        now = monotonic()
        if now - self._lost_at > self._local_share_s:
            raise LimiterUnavailable("Redis is gone")
        return self._local_share.standing(subject, limits, now=now)

    def settle(self, share: Share) -> None:
        if self._local_share.end(share):
            self._uncounted.add(share.customer_id)
            if self._recounting is None or self._recounting.done():
                self._recounting = asyncio.create_task(self._recount())
        else:
            super().settle(share)

    async def give_back(self, share: Share) -> bool:
        return self._local_share.give_back(share) or await super().give_back(share)

    async def _reserve_in_redis(
        self, share: Share, limits: Limits, caps: Sequence[Cap]
    ) -> Reservation:
        try:
            reservation = await super().reserve(share, limits, caps)
        except (RateLimitExceeded, RequestExceedsLimit, SpendCapReached):
            self._note_return()
            raise
        self._note_return()
        return reservation

    async def _recount(self) -> None:
        """As soon as Redis is back, have the spend of those who were served here read from the
        ledger again, also for the other processes that serve them."""
        while self._uncounted:
            await asyncio.sleep(PROBE_EVERY_S)
            customer_ids = tuple(self._uncounted)
            self._uncounted.clear()  # who is served here meanwhile is for the next round
            for customer_id in customer_ids:
                try:
                    await self.forget_spend(customer_id)
                except RedisError:
                    self._uncounted.add(customer_id)

    async def close(self) -> None:
        if self._recounting is not None:
            self._recounting.cancel()
        await super().close()

    def _reserve_here(self, share: Share, limits: Limits, caps: Sequence[Cap]) -> Reservation:
        now = monotonic()
        lost_s = now - (self._lost_at or now)
        if lost_s > self._local_share_s or (caps and share.cost_picounits and not limits.is_shadow):
            REFUSALS.labels("no limiter").inc()
            raise LimiterUnavailable("Redis is gone")
        standing = self._local_share.admit(share, limits, now=now)
        LOCAL_ADMISSIONS.inc()
        return Reservation(share=share, standing=standing)

    def _note_loss(self, error: RedisError) -> None:
        if self._lost_at is None:
            self._lost_at = monotonic()
            IS_LOCAL.set(1)
            logger.error("Redis is gone (%r): limits are kept by each process for a while", error)
        self._local_share.forget_idle(monotonic())

    def _note_return(self) -> None:
        if self._lost_at is not None:
            logger.warning("Redis is back after %.0f s", monotonic() - self._lost_at)
            self._lost_at = None
            IS_LOCAL.set(0)
