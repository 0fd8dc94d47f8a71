"""The endpoints: each translates in, makes one domain call, and translates out."""

import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from django.conf import settings
from redis.asyncio import Redis

from billing.metering import Ledger
from billing.rate_limits import Limiter
from inference.authentication import Caller, authenticate
from inference.catalogue import installed_models
from inference.dialects import Dialect
from inference.dispatch import Dispatcher
from inference.embeddings import create_embeddings
from inference.http import (
    Receive,
    Response,
    Scope,
    find_header,
    json_response,
    read_body,
    unless_disconnected,
)
from inference.idempotency import Claim, answer_once, find_key
from inference.model_states import find_state
from inference.pools import shared_pools
from inference.standings import Asked
from inference.upstream.upstreams import Upstreams


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One HTTP request, and what this process serves it with. What `asked` says is for a refusal's
    headers; the views of computations note it there."""

    id: uuid.UUID  # a uuid7
    scope: Scope
    receive: Receive
    dialect: Dialect
    parameters: Mapping[str, str]
    asked: Asked
    redis: Redis
    limiter: Limiter
    dispatcher: Dispatcher
    upstreams: Upstreams
    ledger: Ledger


View = Callable[[Request], Awaitable[Response]]


async def post_embeddings(request: Request) -> Response:
    """Embeddings in the dialect of the route."""
    caller = await authenticate(find_header(request.scope, b"authorization"))
    return await answer(
        request,
        caller,
        max_bytes=settings.REQUEST_BODY_MAX_BYTES,
        timeout_s=settings.REQUEST_TIMEOUT_S,
    )


async def answer(
    request: Request,
    caller: Caller,
    *,
    max_bytes: int,
    timeout_s: float,
    model_id: str | None = None,
) -> Response:
    """Embeddings for the caller; of `model_id` where the dialect's bodies name no model."""
    request.asked.caller = caller
    request.asked.model_id = model_id
    idempotency_key = find_key(request.scope)
    body = await read_body(request.scope, request.receive, max_bytes=max_bytes, timeout_s=timeout_s)
    request.asked.body = body
    deadline_at = time.time() + timeout_s
    parsed = request.dialect.parse(body, request.scope)
    wanted = parsed.request
    compute = partial(
        create_embeddings,
        wanted if model_id is None else replace(wanted, model_id=model_id),
        caller,
        request_id=request.id,
        deadline_at=deadline_at,
        limiter=request.limiter,
        dispatcher=request.dispatcher,
        upstreams=request.upstreams,
        ledger=request.ledger,
        render=parsed.render,
    )
    if idempotency_key is None:
        return await unless_disconnected(request.receive, compute())
    claim = Claim(
        attachment_id=caller.identity.attachment_id,
        key=idempotency_key,
        path=request.scope["path"],
        body=body,
        deadline_at=deadline_at,
    )
    once = answer_once(
        claim,
        lambda keep: compute(keep=keep),
        caller=caller,
        limiter=request.limiter,
        ledger=request.ledger,
    )
    return await unless_disconnected(request.receive, once)


async def get_health(request: Request) -> Response:
    """`GET /healthz`: whether this process serves, and how many workers each model has."""
    models = {}
    for model in installed_models().values():
        state = await find_state(request.redis, model, *shared_pools())
        models[model.id] = {"workers": state.workers}
    return json_response({"web": "ok", "models": models})
