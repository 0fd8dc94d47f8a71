"""Idempotency keys: a repeated request gets the answer of the first, and is billed once.

A request with an `Idempotency-Key` claims the key, computes, stores its answer together with its
usage event, records that event, and answers. A repeat that finds the answer records the same event
again, which changes nothing where it is recorded already, and sends the answer. So nothing is
answered unbilled or billed twice, whatever was killed in between. A claim has a lease: that of a
process that died is free again once it has lapsed. A request that fails lets its claim go.
"""

import asyncio
import logging
import re
import time
import uuid
import zlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import ParamSpec, TypeVar

import msgspec
from django.conf import settings
from django.db import Error as DatabaseError
from django.db import connection
from django.db.models import Min, Sum
from django.db.models.functions import Length
from uuid_utils.compat import uuid7

from billing.metering import Ledger, Usage
from billing.rate_limits import Limiter, Share
from inference.authentication import Caller
from inference.database import run_in_database_thread
from inference.embeddings import LEASE_MARGIN_S, lease_s, meter, reserved
from inference.http import Response, Scope, find_header
from inference.models import IdempotencyKey
from inference.rate_limit_headers import rate_limit_headers

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

HEADER = "Idempotency-Key"
KEPT_FOR = timedelta(hours=24)
LEASE_MARGIN = timedelta(seconds=LEASE_MARGIN_S)
DATABASE_TIMEOUT_S = 5.0
RETRY_AFTER_S = 1
# A claim is tried again where the row in its way has gone before it could be read.
CLAIMS_MAX = 3
# What an attachment's answers take is summed up at most this often in a process.
SIZE_GOOD_FOR_S = 30.0
SIZES_MAX = 10_000
PURGE_BATCH_ROWS = 500
PURGE_MAX_BATCHES = 200
COMPRESSION_LEVEL = 1

_VISIBLE_ASCII = re.compile(r"[!-~]{1,255}")


class InvalidIdempotencyKey(Exception):
    """The header is empty, too long, or has characters other than visible ASCII."""


class IdempotencyKeyReused(Exception):
    """The key belongs to another request: its path or its body is different."""


class IdempotencyKeyInUse(Exception):
    """The first request with this key is still under way."""


class TooMuchKept(Exception):
    """The attachment's answers take all the space they may; the oldest goes in `retry_after_s`."""

    def __init__(self, max_mb: int, retry_after_s: float) -> None:
        super().__init__(max_mb)
        self.max_mb = max_mb
        self.retry_after_s = retry_after_s


class AnswersUnavailable(Exception):
    """The database cannot be asked for the answer, or not be given it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """A request's hold on a key. `deadline_at` is in unix seconds."""

    id: uuid.UUID = field(default_factory=uuid.uuid4)
    attachment_id: uuid.UUID
    key: str
    path: str
    body: bytes
    deadline_at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """An answer, and the usage event that belongs to it."""

    response: Response
    usage: Usage


Keep = Callable[[Response, Usage], Awaitable[None]]


def find_key(scope: Scope) -> str | None:
    """The request's key, or None. Raises InvalidIdempotencyKey."""
    key = find_header(scope, b"idempotency-key")
    if key is not None and not _VISIBLE_ASCII.fullmatch(key):
        raise InvalidIdempotencyKey
    return key


async def answer_once(
    claim: Claim,
    compute: Callable[[Keep], Awaitable[Response]],
    *,
    caller: Caller,
    limiter: Limiter,
    ledger: Ledger,
) -> Response:
    """The answer kept under the key, or else that of `compute`.

    `compute` awaits what it is given with its answer and its usage event, before it records the
    event. Raises IdempotencyKeyReused, IdempotencyKeyInUse, TooMuchKept, AnswersUnavailable, and
    what `compute` raises, after which the key is free, unless its answer was kept.
    """
    try:
        kept = await _finished(_take, claim, datetime.now(UTC))
        if kept is None:
            return await compute(_keeper(claim))
    except (IdempotencyKeyReused, IdempotencyKeyInUse):
        raise  # the key is another's
    except BaseException:
        await asyncio.shield(_let_go(claim))
        raise
    return await _replay(kept, caller, limiter, ledger, deadline_at=claim.deadline_at)


def purge(now: datetime) -> int:
    """Delete what is no longer kept, in batches; returns how many. What is left over after
    PURGE_MAX_BATCHES is for the next run. Safe to run twice and in parallel."""
    deleted = 0
    for _ in range(PURGE_MAX_BATCHES):
        with connection.cursor() as cursor:
            cursor.execute(_PURGE, {"expired_at": now - KEPT_FOR, "rows": PURGE_BATCH_ROWS})
            deleted += cursor.rowcount
            if cursor.rowcount < PURGE_BATCH_ROWS:
                break
    return deleted


async def _replay(
    kept: Kept, caller: Caller, limiter: Limiter, ledger: Ledger, *, deadline_at: float
) -> Response:
    """The kept answer. It takes a request of the limits, and no tokens: none are computed.

    Raises LedgerUnavailable, LimiterUnavailable, RateLimitExceeded.
    """
    usage = kept.usage
    original = Share(
        id=usage.id,
        customer_id=usage.customer_id,
        attachment_id=usage.attachment_id,
        model_id=usage.model_id,
        app_name=usage.app_name,
        tokens=usage.tokens,
        cost_picounits=usage.cost_picounits,
        lease_s=lease_s(deadline_at),
    )
    share = replace(original, id=uuid7(), tokens=0, cost_picounits=0)
    async with reserved(limiter, share, caller.limits_for(usage.model_id)) as reservation:
        await meter(ledger, usage)
    # Where the first request failed after its answer was kept, its cost is in the ledger only now.
    limiter.settle(original)
    headers = {
        **kept.response.headers,
        **rate_limit_headers(reservation.standing),
        "idempotent-replayed": "true",
        "original-request-id": str(usage.id),
    }
    return Response(status=kept.response.status, body=kept.response.body, headers=headers)


def _keeper(claim: Claim) -> Keep:
    async def keep(response: Response, usage: Usage) -> None:
        """A caller that is cancelled meanwhile comes too late, as it does for the ledger.

        Raises IdempotencyKeyInUse where the claim's lease had lapsed and another took the key.
        """
        keeping = asyncio.ensure_future(_ask(_store, claim, response, usage))
        try:
            is_kept = await asyncio.shield(keeping)
        except asyncio.CancelledError:
            is_kept = await keeping
        if not is_kept:
            raise IdempotencyKeyInUse

    return keep


async def _finished(function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """As `_ask`; a caller that is cancelled meanwhile is so when the database has answered."""
    asked = asyncio.ensure_future(_ask(function, *args, **kwargs))
    try:
        return await asyncio.shield(asked)
    except asyncio.CancelledError:
        await asyncio.gather(asked, return_exceptions=True)
        raise


async def _ask(function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Raises AnswersUnavailable, after which what was asked may still be done."""
    try:
        async with asyncio.timeout(DATABASE_TIMEOUT_S):
            return await run_in_database_thread(function, *args, **kwargs)
    except (DatabaseError, TimeoutError) as error:
        raise AnswersUnavailable("the database cannot be reached") from error


async def _let_go(claim: Claim) -> None:
    try:
        await _ask(_release, claim)
    except AnswersUnavailable:
        logger.exception("could not let go of claim %s; its lease lapses by itself", claim.id)


_CLAIM = """
    INSERT INTO inference_idempotencykey AS held
        (attachment_id, key, request_sha256, claim_id, created_at, lease_until)
    VALUES (%(attachment_id)s, %(key)s, %(sha256)s, %(claim_id)s, %(now)s, %(lease_until)s)
    ON CONFLICT (attachment_id, key) DO UPDATE SET
        request_sha256 = EXCLUDED.request_sha256, claim_id = EXCLUDED.claim_id,
        created_at = EXCLUDED.created_at, lease_until = EXCLUDED.lease_until,
        status = NULL, headers = NULL, body = NULL, usage = NULL
    WHERE held.created_at <= %(expired_at)s
        OR (held.body IS NULL AND held.lease_until <= %(now)s)
"""
_PURGE = """
    DELETE FROM inference_idempotencykey WHERE id IN (
        SELECT id FROM inference_idempotencykey WHERE created_at <= %(expired_at)s
        ORDER BY created_at LIMIT %(rows)s FOR UPDATE SKIP LOCKED
    )
"""


def _take(claim: Claim, now: datetime) -> Kept | None:
    """Claim the key, or find what is kept under it.

    Raises IdempotencyKeyReused, IdempotencyKeyInUse, TooMuchKept.
    """
    request_sha256 = sha256(claim.path.encode() + b"\0" + claim.body).digest()
    for _ in range(CLAIMS_MAX):
        if _insert(claim, request_sha256, now):
            _check_size(claim.attachment_id, now)
            return None
        held = IdempotencyKey.objects.filter(
            attachment_id=claim.attachment_id, key=claim.key
        ).first()
        if held is not None:
            return _read(held, request_sha256)
    raise IdempotencyKeyInUse


def _insert(claim: Claim, request_sha256: bytes, now: datetime) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            _CLAIM,
            {
                "attachment_id": claim.attachment_id,
                "key": claim.key,
                "sha256": request_sha256,
                "claim_id": claim.id,
                "now": now,
                "lease_until": datetime.fromtimestamp(claim.deadline_at, UTC) + LEASE_MARGIN,
                "expired_at": now - KEPT_FOR,
            },
        )
        return bool(cursor.rowcount)


def _read(held: IdempotencyKey, request_sha256: bytes) -> Kept:
    if bytes(held.request_sha256) != request_sha256:
        raise IdempotencyKeyReused
    if held.status is None or held.body is None or held.headers is None:
        raise IdempotencyKeyInUse
    return Kept(
        response=Response(
            status=held.status, body=zlib.decompress(held.body), headers=held.headers
        ),
        usage=msgspec.convert(held.usage, Usage),
    )


def _store(claim: Claim, response: Response, usage: Usage) -> bool:
    """Keep the answer; False where the claim is no longer held."""
    updated = IdempotencyKey.objects.filter(
        claim_id=claim.id,
        attachment_id=claim.attachment_id,
        key=claim.key,
    ).update(
        status=response.status,
        headers=_lasting(response.headers),
        body=zlib.compress(response.body, COMPRESSION_LEVEL),
        usage=msgspec.to_builtins(usage),
    )
    return updated == 1


def _lasting(headers: Mapping[str, str]) -> dict[str, str]:
    """Without how the caller stood with its limits at the time."""
    return {
        name: value
        for name, value in headers.items()
        if not name.lower().startswith("x-ratelimit-")
    }


def _release(claim: Claim) -> None:
    """Free the key, unless its answer is kept."""
    IdempotencyKey.objects.filter(
        claim_id=claim.id, attachment_id=claim.attachment_id, key=claim.key, body=None
    ).delete()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Size:
    """What an attachment's answers take. good_until is by the monotonic clock."""

    good_until: float
    kept_bytes: int
    oldest_at: datetime | None


_sizes: dict[uuid.UUID, _Size] = {}


def _check_size(attachment_id: uuid.UUID, now: datetime) -> None:
    """Raises TooMuchKept. Counts what was kept some seconds ago: many rows take long to sum up."""
    size = _sizes.get(attachment_id)
    if size is None or size.good_until <= time.monotonic():
        if len(_sizes) >= SIZES_MAX:
            _sizes.clear()
        size = _sizes[attachment_id] = _sum_up(attachment_id, now)
    max_mb = settings.IDEMPOTENCY_MAX_MB
    if size.kept_bytes >= max_mb * 1_000_000:  # where that is 0, nothing is ever kept
        wait = (size.oldest_at or now) + KEPT_FOR - now
        raise TooMuchKept(max_mb, max(SIZE_GOOD_FOR_S, wait.total_seconds()))


def _sum_up(attachment_id: uuid.UUID, now: datetime) -> _Size:
    summed = IdempotencyKey.objects.filter(
        attachment_id=attachment_id, created_at__gt=now - KEPT_FOR, status__isnull=False
    ).aggregate(kept_bytes=Sum(Length("body")), oldest_at=Min("created_at"))
    return _Size(
        good_until=time.monotonic() + SIZE_GOOD_FOR_S,
        kept_bytes=summed["kept_bytes"] or 0,
        oldest_at=summed["oldest_at"],
    )
