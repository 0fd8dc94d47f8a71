"""The line of a request for embeddings, from its texts to metered vectors."""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from redis.exceptions import RedisError
from uuid_utils.compat import uuid7

from billing.metering import Ledger, Usage, UsageNotRecorded
from billing.rate_limits import (
    Limiter,
    RateLimitExceeded,
    RequestExceedsLimit,
    Reservation,
    Share,
    Standing,
)
from inference.authentication import Caller
from inference.catalogue import Model, check_inputs, get_model
from inference.dispatch import Dispatcher, WorkerUnavailable
from inference.tokenization import TokenBatch, tokenize

logger = logging.getLogger(__name__)

R = TypeVar("R")


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbeddingsRequest:
    """What a client wants, in no dialect."""

    model_id: str
    texts: tuple[str, ...]
    input_type: str


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Embeddings:
    """The answer. vectors: (B, D) float32; truncated: indexes of texts cut to the context."""

    model: Model
    vectors: NDArray[np.float32]
    token_count: int
    truncated: tuple[int, ...]
    standing: Standing


class LimiterUnavailable(Exception):
    """The rate limits cannot be checked, so nothing is admitted."""


class LedgerUnavailable(Exception):
    """The usage cannot be recorded, so the answer is not given."""


async def create_embeddings(
    request: EmbeddingsRequest,
    caller: Caller,
    *,
    request_id: str,
    deadline_at: float,
    limiter: Limiter,
    dispatcher: Dispatcher,
    ledger: Ledger,
    render: Callable[[Embeddings], R],
) -> R:
    """Vectors for the request's texts, reserved before and metered after they are computed.

    `deadline_at` is in unix seconds. `render` makes the answer before it is metered, so that a
    failure to make it is not billed either. Whatever is raised, nothing is billed and the
    reservation is given back: UnknownModel, TooManyInputs, InputTooLong, RateLimitExceeded,
    RequestExceedsLimit, WorkerUnavailable, Overloaded, EncodeFailed, LimiterUnavailable,
    LedgerUnavailable.
    """
    usage_id, requested_at = uuid7(), datetime.now(UTC)
    model = get_model(request.model_id)
    check_inputs(model, request.texts)
    batch = await _tokenize(model, request, deadline_at)
    async with _reserved(limiter, caller, model, batch, usage_id) as reservation:
        vectors = await dispatcher.encode(
            model,
            batch,
            pool=caller.pool,
            flow_id=str(caller.identity.attachment_id),
            deadline_at=deadline_at,
        )
        embeddings = Embeddings(
            model=model,
            vectors=vectors,
            token_count=batch.token_count,
            truncated=batch.truncated,
            standing=reservation.standing,
        )
        answer = render(embeddings)
        await _meter(
            ledger,
            Usage(
                id=usage_id,
                request_id=request_id,
                resource_id=caller.identity.resource_id,
                attachment_id=caller.identity.attachment_id,
                credential_id=caller.identity.credential_id,
                attachment_name=caller.identity.attachment_name,
                app_name=caller.identity.app_name,
                plan_name=caller.plan_name,
                model_id=model.id,
                inputs=len(request.texts),
                tokens=batch.token_count,
                requested_at=requested_at,
            ),
        )
    return answer


async def _tokenize(model: Model, request: EmbeddingsRequest, deadline_at: float) -> TokenBatch:
    try:
        async with asyncio.timeout(max(0.0, deadline_at - time.time())):
            return await tokenize(model, request.texts, request.input_type)
    except TimeoutError:
        raise WorkerUnavailable(model.id, "too much text waits to be tokenised") from None


@asynccontextmanager
async def _reserved(
    limiter: Limiter, caller: Caller, model: Model, batch: TokenBatch, usage_id: uuid.UUID
) -> AsyncIterator[Reservation]:
    """Hold the request's share of the limits; give it back unless the block succeeds.

    A client that hangs up cancels the request at any moment. The share is known beforehand, so it
    is given back also when the script may have run and its answer was not awaited.
    """
    share = Share(
        id=usage_id,
        subject=f"{caller.identity.attachment_id}:{model.id}",
        tokens=batch.token_count,
    )
    try:
        yield await limiter.reserve(share, caller.limits)
    except (RateLimitExceeded, RequestExceedsLimit):
        raise  # nothing was taken
    except BaseException as error:
        await asyncio.shield(_give_back(limiter, share))
        if isinstance(error, RedisError):
            raise LimiterUnavailable from error
        raise


async def _give_back(limiter: Limiter, share: Share) -> None:
    try:
        await limiter.give_back(share)
    except RedisError:
        logger.exception("could not give back reservation %s; it lapses by itself", share.id)


async def _meter(ledger: Ledger, usage: Usage) -> None:
    try:
        await ledger.record(usage)
    except UsageNotRecorded as error:
        raise LedgerUnavailable from error
