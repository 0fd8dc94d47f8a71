"""The document: its operations, and the parts that they refer to."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from inference.catalogue import load_catalogue
from inference.dialects import sagemaker
from inference.failures import Failure
from inference.http import Response
from inference.openapi import examples, headers, refusals, schemas, usage
from inference.openapi.examples import Examples
from inference.openapi.refusals import RATE_LIMITS, RETRY_SOON, Refusal
from inference.openapi.schemas import Schema, reference
from inference.views import Request

Operation = dict[str, Any]
Responses = dict[str, dict[str, Any]]
Security = list[dict[str, list[str]]]

TAGS = {
    "OpenAI and Heroku": "OpenAI's parameters and answers, and Heroku's.",
    "Cohere": "Cohere's parameters, answers and errors.",
    "SageMaker": "A SageMaker container's routes, and the runtime's call of an endpoint.",
    "Usage": "What was used, and what a Prometheus reads.",
    "Service": "Without a key.",
}
SECURITY_SCHEMES = {
    "key": {
        "type": "http",
        "scheme": "bearer",
        "description": "The key of an attachment, from the app's config vars.",
    },
    "signature": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": "A signature of AWS's version 4 whose access key id is the key.",
    },
    "token": {
        "type": "http",
        "scheme": "bearer",
        "description": "An access token of an account, as the Platform API takes it.",
    },
    "metrics_key": {
        "type": "http",
        "scheme": "bearer",
        "description": "METRICS_KEY, which an operator sets.",
    },
}
KEY: Security = [{"key": []}]
KEY_OR_SIGNATURE: Security = [*KEY, {"signature": []}]


async def get_document(request: Request) -> Response:
    """`GET /openapi.json`, without a key."""
    return Response(body=_encoded())


@lru_cache(maxsize=1)
def _encoded() -> bytes:
    return json.dumps(document()).encode()


def document() -> dict[str, Any]:
    """The OpenAPI document, in version 3.1 of that specification."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Annex inference",
            "version": "1",
            "description": "Text embeddings. JSON bodies are read whatever their content type.",
        },
        "tags": [{"name": name, "description": said} for name, said in TAGS.items()],
        "paths": {
            **_openai_paths(),
            **_cohere_paths(),
            **_sagemaker_paths(),
            **_usage_paths(),
            **_open_paths(),
        },
        "components": {
            "schemas": {**schemas.components(), **usage.components()},
            "headers": headers.COMPONENTS,
            "securitySchemes": SECURITY_SCHEMES,
        },
    }


def _openai_paths() -> dict[str, Any]:
    return {
        "/v1/embeddings": {
            "post": _operation(
                "OpenAI and Heroku",
                "Embeddings of texts",
                body=_body("EmbeddingsRequest", examples.EMBEDDINGS),
                parameters=[headers.IDEMPOTENCY_KEY],
                responses=_computed("EmbeddingList", examples.EMBEDDING_LIST)
                | _openai_refusals(refusals.EMBEDDINGS),
            )
        },
        "/v1/tokenize": {
            "post": _operation(
                "OpenAI and Heroku",
                "What a request would be computed from and cost",
                body=_body("TokenizeRequest", examples.TOKENIZE),
                responses=_answer("TokenList", required=_requests_only())
                | _openai_refusals(refusals.DRY_RUN),
            )
        },
        "/v1/models": {
            "get": _reading("The models that the key's plan serves", "ModelList", refusals.KEY)
        },
        "/v1/models/{id}": {
            "get": _reading(
                "One model",
                "Model",
                (*refusals.KEY, *refusals.MODEL, *refusals.PATH),
                parameters=[_model_in_path("id")],
            )
        },
        "/v1/models/{id}/quantization": {"get": _quantization()},
        "/models/{addon_id}": {
            "get": _reading(
                "The model of the add-on that the key belongs to",
                "AddonModel",
                (*refusals.KEY, *refusals.ADDON, *refusals.MODEL),
                parameters=[_in_path("addon_id", {"type": "string", "format": "uuid"})],
            )
        },
    }


def _cohere_paths() -> dict[str, Any]:
    return {
        "/v2/embed": {
            "post": _operation(
                "Cohere",
                "Embeddings of texts, by type",
                body=_body("EmbedV2Request", examples.EMBED_V2),
                parameters=[headers.IDEMPOTENCY_KEY],
                responses=_computed("EmbedV2Answer") | _cohere_refusals(refusals.EMBEDDINGS),
            )
        },
        "/v1/embed": {
            "post": _operation(
                "Cohere",
                "Embeddings of texts, in version 1",
                body=_body("EmbedV1Request", examples.EMBED_V1),
                parameters=[headers.IDEMPOTENCY_KEY],
                responses=_computed("EmbedV1Answer") | _cohere_refusals(refusals.EMBEDDINGS),
            )
        },
    }


def _sagemaker_paths() -> dict[str, Any]:
    parameters = [headers.IDEMPOTENCY_KEY, headers.CUSTOM_ATTRIBUTES]
    body = _body("InvocationRequest", examples.INVOCATIONS)
    return {
        "/ping": {
            "get": _operation(
                "SageMaker",
                "Whether the container can serve",
                security=[],
                responses=_empty(200, "It can.") | _cohere_refusals(_open()),
            )
        },
        "/invocations": {
            "post": _operation(
                "SageMaker",
                "Embeddings of texts by the model of the key's plan",
                security=[*KEY_OR_SIGNATURE, {}],
                body=body,
                parameters=parameters,
                responses=_invoked(headers.CONTAINER) | _cohere_refusals(refusals.EMBEDDINGS),
            )
        },
        "/endpoints/{name}/invocations": {
            "post": _operation(
                "SageMaker",
                "Embeddings of texts by the model that the endpoint's name says",
                security=KEY_OR_SIGNATURE,
                body=body,
                parameters=[_model_in_path("name"), *parameters],
                responses=_invoked(headers.RUNTIME) | _runtime_refusals(refusals.EMBEDDINGS),
            )
        },
    }


def _usage_paths() -> dict[str, Any]:
    refused = (*refusals.KEY, *_open())
    page = _answer("UsagePage", optional=("x-next-page",))
    page["200"]["content"]["text/csv"] = {"schema": {"type": "string"}}
    metrics = _response("The figures.", {}, headers.answer_headers(()))
    metrics["content"] = {"text/plain": {"schema": {"type": "string"}}}
    return {
        "/v1/usage": {
            "get": _operation(
                "Usage",
                "What was used, by hour or day",
                security=[*KEY, {"token": []}],
                parameters=usage.parameters(),
                responses=page | _openai_refusals((*refusals.QUERY, *refused)),
            )
        },
        "/metrics": {
            "get": _operation(
                "Usage",
                "Metrics in Prometheus's text format",
                security=[{"metrics_key": []}],
                responses={"200": metrics} | _openai_refusals((*refusals.PATH, *refused)),
            )
        },
    }


def _open_paths() -> dict[str, Any]:
    return {
        "/available-models": {
            "get": _reading("The installed models", "AvailableModels", (), security=[])
        },
        "/healthz": {
            "get": _reading("Whether this process serves", "Health", (), security=[]),
        },
        "/openapi.json": {
            "get": _operation(
                "Service",
                "This document",
                security=[],
                responses={
                    "200": _response(
                        "The document.", {"type": "object"}, headers.answer_headers(())
                    )
                }
                | _openai_refusals(refusals.ANY),
            )
        },
    }


def _operation(
    tag: str,
    summary: str,
    *,
    responses: Responses,
    security: Security = KEY,
    parameters: Sequence[dict[str, Any]] = (),
    body: dict[str, Any] | None = None,
) -> Operation:
    operation: Operation = {"tags": [tag], "summary": summary, "security": security}
    if parameters:
        operation["parameters"] = list(parameters)
    if body:
        operation["requestBody"] = body
    return {**operation, "responses": dict(sorted(responses.items()))}


def _reading(
    summary: str,
    schema: str,
    refused: Iterable[Refusal],
    *,
    security: Security = KEY,
    parameters: Sequence[dict[str, Any]] = (),
) -> Operation:
    """A GET of what there is, with OpenAI's errors."""
    return _operation(
        "OpenAI and Heroku" if security else "Service",
        summary,
        security=security,
        parameters=parameters,
        responses=_answer(schema) | _openai_refusals((*refused, *_open())),
    )


def _quantization() -> Operation:
    refused = (*refusals.KEY, *refusals.MODEL, *refusals.INSTALLED, *refusals.CALIBRATED)
    cached = ("etag", "cache-control")
    operation = _reading(
        "The ranges of a model's int8 and uint8",
        "Calibration",
        (*refused, *refusals.PATH),
        parameters=[_model_in_path("id"), headers.IF_NONE_MATCH],
    )
    operation["responses"] |= _answer("Calibration", required=cached)
    operation["responses"] |= _empty(304, "The client has it.", cached)
    return operation


def _open() -> tuple[Refusal, ...]:
    """What every operation that asks Redis or the database may be refused for."""
    return (*refusals.STATE, *refusals.ANY)


def _requests_only() -> tuple[str, ...]:
    return tuple(name for name in RATE_LIMITS if not name.endswith("-tokens"))


def _body(schema: str, shown: Examples) -> dict[str, Any]:
    """Examples of models that this deployment knows."""
    known = {
        name: example
        for name, example in shown.items()
        if example["value"].get("model") in (None, *load_catalogue())
    }
    content = {"schema": reference(schema), "examples": known}
    return {"required": True, "content": {"application/json": content}}


def _model_in_path(name: str) -> dict[str, Any]:
    return _in_path(name, reference("ModelId"))


def _in_path(name: str, schema: Schema) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _response(
    description: str, schema: Schema, its_headers: dict[str, Any], shown: Examples | None = None
) -> dict[str, Any]:
    content = {"schema": schema, **({"examples": shown} if shown else {})}
    return {
        "description": description,
        "headers": its_headers,
        "content": {"application/json": content},
    }


def _answer(
    schema: str,
    shown: Examples | None = None,
    *,
    required: Iterable[str] = (),
    optional: Iterable[str] = (),
) -> Responses:
    its_headers = headers.answer_headers(required, optional)
    return {"200": _response("The answer.", reference(schema), its_headers, shown)}


def _computed(schema: str, shown: Examples | None = None) -> Responses:
    return _answer(schema, shown, required=headers.COMPUTED, optional=headers.SOMETIMES)


def _invoked(counts: Iterable[str]) -> Responses:
    return _answer(
        "EmbedV2Answer",
        required=(*headers.COMPUTED, *counts),
        optional=(*headers.SOMETIMES, sagemaker.CUSTOM_ATTRIBUTES),
    )


def _empty(status: int, description: str, required: Iterable[str] = ()) -> Responses:
    return {str(status): {"description": description, "headers": headers.answer_headers(required)}}


def _openai_refusals(refused: Iterable[Refusal]) -> Responses:
    """The error body of each status, with its codes."""

    def schema(group: Sequence[Refusal]) -> Schema:
        codes = {"properties": {"code": {"enum": [refusal.code for refusal in group]}}}
        return {"allOf": [reference("OpenAIError"), {"properties": {"error": codes}}]}

    return _by_status(refused, schema)


def _cohere_refusals(refused: Iterable[Refusal]) -> Responses:
    return _by_status(refused, lambda _: reference("CohereError"))


def _runtime_refusals(refused: Iterable[Refusal]) -> Responses:
    """The runtime's errors, of the statuses that it gives the container's."""
    raised: dict[Refusal, str] = {}
    for refusal in refused:
        failure = Failure(status=refusal.status, code=refusal.code, message="")
        status, kind = sagemaker.runtime_error(failure)
        delays = ("x-amz-retry-after",) if RETRY_SOON[1] in refusal.headers else ()
        its_headers = (*refusal.headers, *delays, "x-amzn-errortype")
        raised[replace(refusal, status=status, headers=its_headers)] = kind

    def schema(group: Sequence[Refusal]) -> Schema:
        kinds = {raised[refusal] for refusal in group}
        return reference("RuntimeModelError" if kinds == {"ModelError"} else "RuntimeError")

    return _by_status(raised, schema)


def _by_status(
    refused: Iterable[Refusal], schema: Callable[[Sequence[Refusal]], Schema]
) -> Responses:
    groups: dict[int, list[Refusal]] = {}
    for refusal in refused:
        groups.setdefault(refusal.status, []).append(refusal)
    return {
        str(status): _response(_describe(group), schema(group), _headers_of(group))
        for status, group in groups.items()
    }


def _describe(group: Sequence[Refusal]) -> str:
    return "\n".join(
        f"- {f'`{refusal.code}`: ' if refusal.code else ''}{refusal.when}" for refusal in group
    )


def _headers_of(group: Sequence[Refusal]) -> dict[str, Any]:
    """Required are those that all of the refusals have."""
    every = [set(refusal.headers) for refusal in group]
    optional = [set(refusal.optional) for refusal in group]
    required, all_of_them = set.intersection(*every), set.union(*every, *optional)
    return headers.answer_headers(sorted(required), sorted(all_of_them))
