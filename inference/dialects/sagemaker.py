"""The dialects of Amazon SageMaker: of a container (`POST /invocations`), and of the runtime that
clients such as boto3 call (`POST /endpoints/NAME/invocations`).

Contract: SageMaker's page on your own inference code, its API reference (InvokeEndpoint), and the
fields of Cohere's packages on AWS Marketplace.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from inference.dialects import Dialect, Parsed, cohere
from inference.dialects.json_bodies import InvalidRequest, decode_fields, refuse_unknown
from inference.embeddings import Embeddings
from inference.failures import Failure
from inference.http import Response, Scope, find_header, json_response

# AWS Marketplace's page says embeddings_type.
TYPES_NAMES = ("embedding_types", "embeddings_type", "embedding_type")
# The endpoint stands for the model, the service for a priority.
PARAMETERS = (
    *(name for name in cohere.V2_PARAMETERS if name not in ("model", "priority")),
    *TYPES_NAMES[1:],
)
# What boto3 shows as InvokedProductionVariant; there is one.
VARIANT = {"x-amzn-invoked-production-variant": "AllTraffic"}
CUSTOM_ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"
CUSTOM_ATTRIBUTES_MAX_CHARACTERS = 1024


class _LargeBody(cohere.LargeBody):
    embeddings_type: str | list[str] | None = None
    embedding_type: str | list[str] | None = None


def parse(body: bytes, scope: Scope) -> Parsed:
    """The request in the body, which names no model. Raises InvalidRequest."""
    headers = _custom_attributes(scope)
    fields = decode_fields(body, _LargeBody)
    cohere.refuse_images(fields)
    refuse_unknown(fields, PARAMETERS)
    # SageMaker drops an answer over 6 MB: the texts would take most of it.
    parsed = cohere.read_v2(
        fields, model_id=None, types_name=_types_name(fields), echoes_texts=False
    )
    return Parsed(
        request=parsed.request,
        render=partial(_render, render=parsed.render, headers=headers),
    )


def parse_runtime(body: bytes, scope: Scope) -> Parsed:
    """As `parse`; the answer has the runtime's headers too."""
    parsed = parse(body, scope)

    def render(embeddings: Embeddings) -> Response:
        answer = parsed.render(embeddings)
        return replace(answer, headers={**answer.headers, **VARIANT})

    return Parsed(request=parsed.request, render=render)


def _types_name(fields: Mapping[str, Any]) -> str:
    given = [name for name in TYPES_NAMES if name in fields]
    if len(given) > 1:
        raise InvalidRequest(f"'{given[0]}' and '{given[1]}' cannot both be given.", given[1])
    return given[0] if given else TYPES_NAMES[0]


def _custom_attributes(scope: Scope) -> dict[str, str]:
    """The header with the caller's own attributes, which gets them back."""
    attributes = find_header(scope, CUSTOM_ATTRIBUTES.encode())
    if attributes is None:
        return {}
    is_visible = attributes.isascii() and attributes.isprintable()
    if not is_visible or len(attributes) > CUSTOM_ATTRIBUTES_MAX_CHARACTERS:
        raise InvalidRequest(
            f"'{CUSTOM_ATTRIBUTES}' must have at most {CUSTOM_ATTRIBUTES_MAX_CHARACTERS} visible "
            "ASCII characters.",
            CUSTOM_ATTRIBUTES,
        )
    return {CUSTOM_ATTRIBUTES: attributes}


def _render(
    embeddings: Embeddings,
    *,
    render: Callable[[Embeddings], Response],
    headers: Mapping[str, str],
) -> Response:
    """Cohere's answer; its client for AWS takes the number of tokens from headers."""
    answer = render(embeddings)
    counts = {
        "x-amzn-bedrock-input-token-count": str(embeddings.token_count),
        "x-amzn-bedrock-output-token-count": "0",
    }
    return replace(answer, headers={**answer.headers, **counts, **headers})


def render_runtime_failure(failure: Failure, request_id: str) -> Response:
    """The failure as the runtime reports it: its own by a type, the container's as ModelError."""
    status, kind = runtime_error(failure)
    error: dict[str, object] = {"Message": failure.message, "message": failure.message}
    if kind == "ModelError":
        container = cohere.render_failure(failure, request_id)
        side = "client" if failure.status < 500 else "server"
        error = {
            "Message": f"Received {side} error ({failure.status}) from primary with message "
            f'"{container.body.decode()}".',
            "OriginalStatusCode": failure.status,
            "OriginalMessage": container.body.decode(),
        }
    headers = {**failure.headers, "x-amzn-errortype": kind}
    if "retry-after-ms" in headers:
        headers["x-amz-retry-after"] = headers["retry-after-ms"]  # the only one botocore reads
    return json_response(error, status=status, headers=headers)


def runtime_error(failure: Failure) -> tuple[int, str]:
    """The status that the runtime gives a failure, and the exception that boto3 raises."""
    match failure.status, failure.code:
        case 401, "missing_api_key":
            return 403, "MissingAuthenticationTokenException"
        case 401, _:
            return 403, "UnrecognizedClientException"
        case ((403 | 404 | 421), _):
            return 400, "ValidationError"
        case ((405 | 408 | 413 | 415 | 499), _):
            return failure.status, "ValidationError"
        case 429, _:
            return 429, "ThrottlingException"
        case 503, _:
            return 503, "ServiceUnavailable"
        case _:
            return 424, "ModelError"


CONTAINER_DIALECT = Dialect(parse=parse, render_failure=cohere.render_failure)
RUNTIME_DIALECT = Dialect(parse=parse_runtime, render_failure=render_runtime_failure)
