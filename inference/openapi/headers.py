"""The headers of answers and requests, as the document describes them."""

from collections.abc import Iterable
from typing import Any

from billing.rate_limits import LIMITS, SPEND
from inference.dialects import sagemaker
from inference.idempotency import HEADER
from inference.openapi.refusals import RATE_LIMITS

Definition = dict[str, Any]

COUNT: Definition = {"type": "integer", "minimum": 0}
DURATION: Definition = {"type": "string", "pattern": r"^(\d+m)?\d+(\.\d+)?m?s$"}
FLAG: Definition = {"type": "string", "enum": ["true", "false"]}

ALWAYS = ("x-request-id", "openai-processing-ms")
COMPUTED = (*RATE_LIMITS, "x-embedding-fingerprint")
SOMETIMES = (
    "x-ratelimit-shadow",
    "x-truncated-inputs",
    "idempotent-replayed",
    "original-request-id",
)
CONTAINER = ("x-amzn-bedrock-input-token-count", "x-amzn-bedrock-output-token-count")
RUNTIME = (*CONTAINER, *sagemaker.VARIANT)

_SCHEMAS: dict[str, tuple[str, Definition]] = {
    "x-request-id": ("Of this request, to quote in a report.", {"type": "string"}),
    "openai-processing-ms": ("How long the answer took.", COUNT),
    "retry-after": ("In so many seconds.", {"type": "integer", "minimum": 1}),
    "retry-after-ms": ("In so many milliseconds.", {"type": "integer", "minimum": 1}),
    "x-should-retry": ("Whether a repeat may succeed.", FLAG),
    "www-authenticate": ("How keys are given.", {"type": "string", "pattern": "^Bearer"}),
    "allow": ("The methods that are allowed.", {"type": "string"}),
    "x-embedding-fingerprint": (
        "Vectors under different fingerprints must not be compared.",
        {"type": "string", "pattern": "^[0-9a-f]{16}$"},
    ),
    "x-truncated-inputs": (
        "The indexes of the texts that were cut.",
        {"type": "string", "pattern": r"^\d+(,\d+)*$"},
    ),
    "idempotent-replayed": ("The answer is that of the first request.", FLAG),
    "original-request-id": ("The x-request-id of the first request.", {"type": "string"}),
    "x-amzn-bedrock-input-token-count": ("The tokens of the texts.", COUNT),
    "x-amzn-bedrock-output-token-count": ("Always 0.", COUNT),
    "x-amzn-invoked-production-variant": (
        "The only one.",
        {"type": "string", "enum": list(sagemaker.VARIANT.values())},
    ),
    sagemaker.CUSTOM_ATTRIBUTES: (
        "As the request has it.",
        {"type": "string", "maxLength": sagemaker.CUSTOM_ATTRIBUTES_MAX_CHARACTERS},
    ),
    "x-amzn-errortype": ("The exception that AWS's clients raise.", {"type": "string"}),
    "x-amz-retry-after": ("In so many milliseconds.", {"type": "integer", "minimum": 1}),
    "etag": ("Of this answer.", {"type": "string", "pattern": '^"[0-9a-f]{32}"$'}),
    "cache-control": ("Whose answer it is.", {"type": "string"}),
    "x-next-page": ("Of CSV: for the parameter `page`.", {"type": "string"}),
    **{
        name: (
            f"Of {name.rpartition('-')[2]} with this model, in any 60 seconds.",
            DURATION if "-reset-" in name else COUNT,
        )
        for name in RATE_LIMITS
        if name != "x-ratelimit-reset"
    },
    "x-ratelimit-reset": (
        "In unix seconds: when nothing of the limits is used; of a refusal, when to repeat.",
        COUNT,
    ),
    "x-ratelimit-shadow": (
        "The limit that would have refused the request, were it not in shadow mode.",
        {"type": "string", "enum": [*LIMITS, SPEND]},
    ),
}

COMPONENTS = {
    name: {"description": description, "schema": schema}
    for name, (description, schema) in _SCHEMAS.items()
}

IDEMPOTENCY_KEY: Definition = {
    "name": HEADER,
    "in": "header",
    "description": "For 24 hours a repeat with this key gets the same answer, billed once.",
    "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
}
CUSTOM_ATTRIBUTES: Definition = {
    "name": sagemaker.CUSTOM_ATTRIBUTES,
    "in": "header",
    "description": "Comes back with the answer.",
    "schema": {
        "type": "string",
        "pattern": f"^[ -~]{{0,{sagemaker.CUSTOM_ATTRIBUTES_MAX_CHARACTERS}}}$",
    },
}
IF_NONE_MATCH: Definition = {
    "name": "If-None-Match",
    "in": "header",
    "description": "ETags of answers that the client has.",
    "schema": {"type": "string"},
}


def answer_headers(
    required: Iterable[str], optional: Iterable[str] = ()
) -> dict[str, dict[str, Any]]:
    """Headers of a response, those of every response among them."""
    always = {name: {**COMPONENTS[name], "required": True} for name in (*ALWAYS, *required)}
    return always | {
        name: {"$ref": f"#/components/headers/{name}"} for name in optional if name not in always
    }
