"""The refusals of the operations: every status and code that inference/errors.py gives."""

from dataclasses import dataclass, replace

RETRY = ("retry-after",)
RETRY_SOON = ("retry-after", "retry-after-ms", "x-ratelimit-reset")
RATE_LIMITS = (
    *(
        f"x-ratelimit-{what}-{unit}"
        for what in ("limit", "remaining", "reset")
        for unit in ("requests", "tokens")
    ),
    "x-ratelimit-reset",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """`headers` are the names of those that it always has, `optional` of those that it may have."""

    status: int
    code: str | None = None
    when: str
    headers: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()


ANY = (
    Refusal(
        status=405,
        code="method_not_allowed",
        when="another method is allowed here",
        headers=("allow",),
    ),
    Refusal(status=500, when="a fault of the service"),
)
STATE = (
    Refusal(
        status=503,
        code="unavailable",
        when="Redis, the database or the model's workers do not answer",
        headers=RETRY,
    ),
)
KEY = (
    Refusal(
        status=401,
        code="missing_api_key",
        when="no key is given",
        headers=("www-authenticate",),
    ),
    Refusal(
        status=401,
        code="invalid_api_key",
        when="the key is mistyped, unknown or revoked",
        headers=("www-authenticate",),
    ),
    Refusal(
        status=421, code="wrong_region", when="the key's resource is in a region served elsewhere"
    ),
)
KNOWN = (Refusal(status=404, code="model_not_found", when="no model has that id"),)
MODEL = (
    Refusal(status=403, code="model_not_in_plan", when="the key's plan serves another model"),
    *KNOWN,
)
INSTALLED = (
    Refusal(
        status=404, code="model_not_installed", when="the model's weights are not on this machine"
    ),
)
PRICED = (
    Refusal(status=403, code="model_not_priced", when="the key's plan has no price for the model"),
)
CALIBRATED = (
    Refusal(status=404, code="model_not_calibrated", when="the model has no int8 and uint8"),
)
ADDON = (Refusal(status=404, code="addon_not_found", when="the key is of another add-on"),)
# What stands for a part in braces may hold a slash.
PATH = (Refusal(status=404, code="unknown_path", when="there is no such route"),)
QUERY = (
    Refusal(status=400, when="a parameter is wrong"),
    Refusal(status=400, code="unknown_parameter", when="a parameter is not known"),
)
BODY = (
    Refusal(
        status=400,
        when="the body is not JSON, or a field is wrong or over a limit of the model",
    ),
    Refusal(status=400, code="missing_required_parameter", when="a field is missing"),
    Refusal(status=400, code="unknown_parameter", when="a field is not known"),
    Refusal(
        status=400,
        code="context_length_exceeded",
        when="a text has too many tokens, and is not to be cut",
    ),
    Refusal(status=400, code="max_tokens_per_request", when="the texts have too many tokens"),
    Refusal(status=408, code="body_too_slow", when="the body does not arrive in time"),
    Refusal(status=413, code="body_too_large", when="the body has too many bytes"),
    Refusal(status=415, code="unsupported_encoding", when="the body is compressed"),
    Refusal(status=499, code="client_disconnected", when="the client ended its request early"),
    Refusal(
        status=429,
        code="rate_limit_exceeded",
        when="the key's rate limits are used up",
        headers=(*RETRY, "retry-after-ms", *RATE_LIMITS),
    ),
)
COMPUTATION = (
    Refusal(
        status=400,
        code="request_exceeds_limit",
        when="the request has more tokens than a minute allows, or a limit is 0",
    ),
    Refusal(
        status=402,
        code="spend_cap_reached",
        when="the month's hard budget of the attachment, the app or the account is used up",
        headers=("x-should-retry", *RATE_LIMITS),
    ),
    Refusal(
        status=429, code="overloaded", when="too much of the key's own waits", headers=RETRY_SOON
    ),
    Refusal(
        status=500,
        code="model_error",
        when="the model fails on the texts",
        optional=("x-should-retry",),
    ),
    Refusal(
        status=502,
        code="upstream_error",
        when="the service that computes for the model rejects the request or fails",
        headers=("x-should-retry",),
    ),
    Refusal(status=503, code="overloaded", when="all workers are busy", headers=RETRY_SOON),
)
IDEMPOTENCY = (
    Refusal(
        status=400,
        code="invalid_idempotency_key",
        when="the Idempotency-Key is empty, too long or has other characters",
    ),
    Refusal(
        status=400,
        code="idempotency_space_exceeded",
        when="the attachment's kept answers take all their space",
        headers=RETRY,
    ),
    Refusal(
        status=409,
        code="idempotency_key_reused",
        when="the Idempotency-Key was used with another path or body",
        headers=("x-should-retry",),
    ),
    Refusal(
        status=409,
        code="idempotency_key_in_use",
        when="the first request with that Idempotency-Key is under way",
        headers=RETRY_SOON,
    ),
)
DRY_RUN = (*KEY, *BODY, *MODEL, *INSTALLED, *PRICED, *STATE, *ANY)
# The caller's standing, which nobody can tell before the caller is known, or without Redis.
EMBEDDINGS = tuple(
    refusal
    if refusal.status in (401, 405, 421)
    else replace(refusal, optional=(*refusal.optional, *RATE_LIMITS))
    for refusal in (*DRY_RUN, *COMPUTATION, *IDEMPOTENCY)
)
REFUSALS = (*EMBEDDINGS, *CALIBRATED, *ADDON, *PATH)
