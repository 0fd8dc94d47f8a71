"""`POST /v1/tokenize`: what a request for embeddings would be computed from and cost."""

import time
from typing import Any, cast

import msgspec
from django.conf import settings

from inference.authentication import authenticate
from inference.catalogue import INPUT_TYPES
from inference.dialects.json_bodies import (
    choice,
    decode_fields,
    integer,
    refuse_unknown,
    required,
    required_string,
)
from inference.dialects.openai import NAMES, TRUNCATE, print_json, read_input
from inference.dry_runs import DryRun, dry_run
from inference.embedding_requests import EmbeddingsRequest
from inference.http import Response, find_header, read_body, unless_disconnected
from inference.rate_limit_headers import rate_limit_headers
from inference.tokenization import Truncate
from inference.views import Request

PARAMETERS = ("model", "input", "input_type", "truncate", "max_tokens")


class _LargeBody(msgspec.Struct):
    """The parameters with their types."""

    model: str | None = None
    input: str | list[str | int | list[int]] | None = None
    input_type: str | None = None
    truncate: str | None = None
    max_tokens: int | None = None


async def tokenize(request: Request) -> Response:
    caller = await authenticate(find_header(request.scope, b"authorization"))
    body = await read_body(
        request.scope,
        request.receive,
        max_bytes=settings.REQUEST_BODY_MAX_BYTES,
        timeout_s=settings.REQUEST_TIMEOUT_S,
    )
    deadline_at = time.time() + settings.REQUEST_TIMEOUT_S
    run = await unless_disconnected(
        request.receive,
        dry_run(parse(body), caller, deadline_at=deadline_at, limiter=request.limiter),
    )
    return Response(body=print_json(_describe(run)), headers=_headers(run))


def parse(body: bytes) -> EmbeddingsRequest:
    """The request in the body. Raises InvalidRequest."""
    fields = decode_fields(body, _LargeBody)
    refuse_unknown(fields, PARAMETERS)
    return EmbeddingsRequest(
        model_id=required_string(fields, "model"),
        texts=read_input(required(fields, "input")),
        input_type=choice(fields, "input_type", INPUT_TYPES, "search_document"),
        truncate=cast(Truncate, choice(fields, "truncate", TRUNCATE, "end")),
        max_tokens=integer(fields, "max_tokens", minimum=1),
        names=NAMES,
    )


def _describe(run: DryRun) -> dict[str, Any]:
    total = run.tokens.token_count
    return {
        "object": "list",
        "model": run.model.id,
        "data": [_describe_text(run, index, ids) for index, ids in enumerate(run.rows())],
        "usage": {"prompt_tokens": total, "total_tokens": total},
        "price": {
            "currency": run.price.currency,
            "microunits_per_million_tokens": run.token_price,
            "microunits": run.cost_microunits,
        },
    }


def _describe_text(run: DryRun, index: int, ids: Any) -> dict[str, Any]:
    """`cut_tokens`: how many a request would lose. `kept_text`: what it would keep, where any."""
    described = {
        "object": "tokens",
        "index": index,
        "tokens": len(ids),
        "cut_tokens": int(run.tokens.whole_lengths[index]) - len(ids),
        "ids": ids,
    }
    if index in run.tokens.cut:
        described["kept_text"] = run.tokens.cut[index]
    return described


def _headers(run: DryRun) -> dict[str, str]:
    """Dry runs have no tokens to be limited."""
    headers = rate_limit_headers(run.standing)
    return {name: value for name, value in headers.items() if not name.endswith("-tokens")}
