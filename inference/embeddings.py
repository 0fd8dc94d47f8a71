"""The line of a request for embeddings, from its texts to metered vectors."""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from redis.exceptions import RedisError

from billing.metering import Ledger, Usage, UsageNotRecorded
from billing.rate_limits import (
    Cap,
    Limiter,
    Limits,
    RateLimitExceeded,
    RequestExceedsLimit,
    Reservation,
    Share,
    SpendCapReached,
    Standing,
)
from inference.authentication import Caller
from inference.calibration import Calibration, find_calibration
from inference.cap_alerts import tell_of_refusal
from inference.catalogue import Model, get_model
from inference.dispatch import Dispatcher, WorkerUnavailable
from inference.embedding_requests import (
    EmbeddingsRequest,
    InputTooLong,
    MaxTokensTooLow,
    TooManyTokens,
    TypeNotOffered,
    check_texts,
    choose_dimension,
)
from inference.fingerprint import fingerprint
from inference.quantization import EmbeddingType, is_quantizable, quantize, reduce
from inference.tokenization import MaxTokensTooFew, TextTooLong, TokenBatch, tokenize
from inference.upstream.upstreams import Upstreams

logger = logging.getLogger(__name__)

R = TypeVar("R")

# A request may take longer than its deadline by what the database may take at its end.
LEASE_MARGIN_S = 15.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Space:
    """Where the vectors of a request lie: what must be the same for vectors to be compared."""

    model: Model
    input_type: str
    dimension: int
    calibration: Calibration | None

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.model, self.input_type, self.dimension, self.calibration)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Embeddings:
    """The answer. vectors: (B, D) float32 of unit length; types: what was asked for."""

    request_id: str
    space: Space
    types: tuple[EmbeddingType, ...]
    vectors: NDArray[np.float32]
    tokens: TokenBatch
    standing: Standing

    @property
    def model(self) -> Model:
        return self.space.model

    @property
    def token_count(self) -> int:
        return self.tokens.token_count

    def typed(self, embedding_type: EmbeddingType) -> NDArray[Any]:
        """The vectors as one of `types`: (B, D), or (B, D / 8) where a byte holds eight."""
        calibration = self.space.calibration
        ranges = calibration.ranges(self.space.dimension) if calibration else None
        return quantize(self.vectors, embedding_type, ranges)


class ModelNotInPlan(Exception):
    """The caller's plan serves another model only."""

    def __init__(self, model_id: str, caller: Caller) -> None:
        super().__init__(model_id)
        self.model_id = model_id
        self.caller = caller


class LedgerUnavailable(Exception):
    """The usage cannot be recorded, so the answer is not given."""


async def create_embeddings(
    request: EmbeddingsRequest,
    caller: Caller,
    *,
    request_id: uuid.UUID,
    deadline_at: float,
    limiter: Limiter,
    dispatcher: Dispatcher,
    upstreams: Upstreams,
    ledger: Ledger,
    render: Callable[[Embeddings], R],
    keep: Callable[[R, Usage], Awaitable[None]] | None = None,
) -> R:
    """Vectors for the request's texts, reserved before and metered after they are computed.

    `request_id` is a uuid7, and that of the usage event. `deadline_at` is in unix seconds. `render`
    makes the answer before it is metered, so that a failure to make it is not billed either; `keep`
    stores it with its usage, for a repeat. Whatever is raised, nothing is billed and the
    reservation is given back; inference/errors.py lists it all.
    """
    requested_at = caller.now()
    price = caller.price(requested_at)
    model = find_model(request.model_id, caller)
    check_texts(model, request)
    price.token_price(model.id)  # or it has none
    space = _find_space(model, request)
    batch = await tokenize_texts(model, request, deadline_at)
    share = Share(
        id=request_id,
        customer_id=caller.customer_id,
        attachment_id=caller.identity.attachment_id,
        model_id=model.id,
        app_name=caller.identity.app_name,
        tokens=batch.token_count,
        cost_picounits=price.cost_picounits(model.id, text_tokens=batch.token_count),
        lease_s=lease_s(deadline_at),
    )
    async with reserved(limiter, share, caller.limits_for(model.id), caller.caps) as reservation:
        flow_id = str(caller.identity.attachment_id)
        if model.upstream is None:
            vectors = await dispatcher.encode(
                model, batch, pool=caller.pool, flow_id=flow_id, deadline_at=deadline_at
            )
        else:
            vectors = await upstreams.embed(
                model,
                request.texts,
                batch,
                input_type=request.input_type,
                truncate=request.truncate,
                flow_id=flow_id,
                deadline_at=deadline_at,
            )
        embeddings = Embeddings(
            request_id=str(request_id),
            space=space,
            types=request.embedding_types,
            vectors=reduce(vectors, space.dimension),
            tokens=batch,
            standing=reservation.standing,
        )
        answer = render(embeddings)
        usage = Usage(
            id=request_id,
            customer_id=caller.customer_id,
            resource_id=caller.identity.resource_id,
            attachment_id=caller.identity.attachment_id,
            credential_id=caller.identity.credential_id,
            attachment_name=caller.identity.attachment_name,
            app_name=caller.identity.app_name,
            plan_name=caller.plan_name,
            price_id=price.id,
            model_id=model.id,
            inputs=len(request.texts),
            text_tokens=batch.token_count,
            cost_picounits=share.cost_picounits,
            requested_at=requested_at,
        )
        if keep is not None:
            await keep(answer, usage)
        await meter(ledger, usage)
    return answer


def find_model(model_id: str | None, caller: Caller) -> Model:
    """The model to answer with; that of the caller's plan where none is named.

    Raises ModelNotInPlan, UnknownModel, ModelNotInstalled.
    """
    wanted = model_id or caller.model_id
    if wanted != caller.model_id and not caller.serves_all_models:
        raise ModelNotInPlan(wanted, caller)
    return get_model(wanted)


def _find_space(model: Model, request: EmbeddingsRequest) -> Space:
    """Raises DimensionNotOffered, TypeNotOffered."""
    dimension = choose_dimension(model, request)
    needs_ranges = not {"int8", "uint8"}.isdisjoint(request.embedding_types)
    calibration = find_calibration(model) if needs_ranges else None
    ranges = calibration.ranges(dimension) if calibration else None
    for kind in request.embedding_types:
        if not is_quantizable(kind, dimension, ranges):
            raise TypeNotOffered(request.names.embedding_types, kind, dimension, model)
    return Space(
        model=model, input_type=request.input_type, dimension=dimension, calibration=calibration
    )


async def tokenize_texts(
    model: Model, request: EmbeddingsRequest, deadline_at: float
) -> TokenBatch:
    """The request's texts as token ids, cut as it wishes.

    Raises InputTooLong, MaxTokensTooLow, TooManyTokens, WorkerUnavailable.
    """
    names = request.names
    try:
        async with asyncio.timeout(max(0.0, deadline_at - time.time())):
            batch = await tokenize(
                model,
                request.texts,
                request.input_type,
                truncate=request.truncate,
                max_tokens=request.max_tokens,
            )
    except TimeoutError:
        raise WorkerUnavailable(model.id, "too much text waits to be tokenised") from None
    except TextTooLong as error:
        place = names.input_at(error.index)
        raise InputTooLong(place, error.tokens, error.max_tokens) from None
    except MaxTokensTooFew as error:
        raise MaxTokensTooLow(names.max_tokens, error.minimum) from None
    if batch.token_count > model.max_request_tokens:
        raise TooManyTokens(names.input, batch.token_count, model.max_request_tokens)
    return batch


def lease_s(deadline_at: float) -> float:
    """How long a request with that deadline, in unix seconds, may hold what it reserves."""
    return max(0.0, deadline_at - time.time()) + LEASE_MARGIN_S


@asynccontextmanager
async def reserved(
    limiter: Limiter, share: Share, limits: Limits, caps: Sequence[Cap] = ()
) -> AsyncIterator[Reservation]:
    """Hold the request's share of the limits; settle it once the block has metered it, give it back
    where that fails.

    Raises RateLimitExceeded, SpendCapReached, RequestExceedsLimit, LimiterUnavailable.

    A client that hangs up cancels the request at any moment. The share is known beforehand, so it
    is given back also when the script may have run and its answer was not awaited.
    """
    try:
        yield await limiter.reserve(share, limits, caps)
    except SpendCapReached as error:
        await tell_of_refusal(share.customer_id, error)
        raise  # nothing was taken
    except (RateLimitExceeded, RequestExceedsLimit):
        raise  # as above
    except LedgerUnavailable:
        # The event may be stored none the less. What it costs stays held until that is known.
        await asyncio.shield(_give_back(limiter, replace(share, cost_picounits=0)))
        raise
    except BaseException:
        await asyncio.shield(_give_back(limiter, share))
        raise
    limiter.settle(share)


async def _give_back(limiter: Limiter, share: Share) -> None:
    try:
        await limiter.give_back(share)
    except RedisError:
        logger.exception("could not give back reservation %s; it lapses by itself", share.id)


async def meter(ledger: Ledger, usage: Usage) -> None:
    """Raises LedgerUnavailable."""
    try:
        await ledger.record(usage)
    except UsageNotRecorded as error:
        raise LedgerUnavailable from error
