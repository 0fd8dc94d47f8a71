"""The endpoints: each translates in, makes one domain call, and translates out."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from django.conf import settings
from redis.asyncio import Redis

from billing.metering import Ledger
from billing.plans import SHARED_POOL
from billing.rate_limits import Limiter
from inference import presence
from inference.authentication import authenticate
from inference.catalogue import installed_models, queue_name
from inference.dispatch import Dispatcher
from inference.embeddings import Embeddings, create_embeddings
from inference.http import (
    Receive,
    Response,
    Scope,
    find_header,
    json_response,
    read_body,
    unless_disconnected,
)
from inference.rate_limit_headers import rate_limit_headers
from inference.serializers import (
    EncodingFormat,
    parse_embeddings_body,
    render_embeddings,
    render_model,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One HTTP request, and what this process serves it with."""

    id: str
    scope: Scope
    receive: Receive
    redis: Redis
    limiter: Limiter
    dispatcher: Dispatcher
    ledger: Ledger


View = Callable[[Request], Awaitable[Response]]


async def post_embeddings(request: Request) -> Response:
    """`POST /v1/embeddings`, the OpenAI dialect."""
    caller = await authenticate(find_header(request.scope, b"authorization"))
    body = await read_body(
        request.scope,
        request.receive,
        max_bytes=settings.REQUEST_BODY_MAX_BYTES,
        timeout_s=settings.REQUEST_TIMEOUT_S,
    )
    deadline_at = time.time() + settings.REQUEST_TIMEOUT_S
    parsed = parse_embeddings_body(body)
    return await unless_disconnected(
        request.receive,
        create_embeddings(
            parsed.request,
            caller,
            request_id=request.id,
            deadline_at=deadline_at,
            limiter=request.limiter,
            dispatcher=request.dispatcher,
            ledger=request.ledger,
            render=partial(_render, encoding_format=parsed.encoding_format),
        ),
    )


def _render(embeddings: Embeddings, *, encoding_format: EncodingFormat) -> Response:
    headers = rate_limit_headers(embeddings.standing)
    if embeddings.truncated:
        headers["x-truncated-inputs"] = ",".join(map(str, embeddings.truncated))
    return Response(body=render_embeddings(embeddings, encoding_format), headers=headers)


async def list_models(request: Request) -> Response:
    """`GET /v1/models`: what can be asked for."""
    await authenticate(find_header(request.scope, b"authorization"))
    models = [render_model(model) for model in installed_models().values()]
    return json_response({"object": "list", "data": models})


async def get_health(request: Request) -> Response:
    """`GET /healthz`: whether this process serves, and how many workers each model has."""
    models = {}
    for model_id in installed_models():
        workers = await presence.list_workers(request.redis, queue_name(model_id, SHARED_POOL))
        models[model_id] = {"workers": sum(worker.is_accepting for worker in workers)}
    return json_response({"web": "ok", "models": models})
