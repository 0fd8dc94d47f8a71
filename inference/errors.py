"""Every failure of the embeddings API, in no dialect: status, message, field, code, headers."""

import math
from decimal import Decimal

from redis.exceptions import RedisError

from addon.provider.endpoints import endpoint_of
from billing.prices import PICOUNITS_PER_MICROUNIT, ModelHasNoPrice, PlanHasNoPrice
from billing.rate_limits import (
    LimiterUnavailable,
    RateLimitExceeded,
    RequestExceedsLimit,
    SpendCapReached,
)
from inference.authentication import InvalidKey, KeysUnavailable, MissingKey, WrongRegion
from inference.aws_authentication import ContainerKeyInvalid
from inference.calibration import InvalidCalibration
from inference.catalogue import ModelNotInstalled, UnknownModel
from inference.dialects.json_bodies import SHOWN_MAX_CHARACTERS, InvalidRequest
from inference.dispatch import EncodeFailed, WorkerUnavailable
from inference.embedding_requests import (
    DimensionNotOffered,
    InputTooLong,
    MaxTokensTooLow,
    TooManyCharacters,
    TooManyInputs,
    TooManyTokens,
    TypeNotOffered,
)
from inference.embeddings import LedgerUnavailable, ModelNotInPlan
from inference.failures import Failure
from inference.http import (
    BodyTooLarge,
    BodyTooSlow,
    ClientDisconnected,
    UnknownPath,
    UnsupportedEncoding,
)
from inference.idempotency import (
    HEADER,
    RETRY_AFTER_S,
    AnswersUnavailable,
    IdempotencyKeyInUse,
    IdempotencyKeyReused,
    InvalidIdempotencyKey,
    TooMuchKept,
)
from inference.lanes import Overloaded, TooMuchWaiting
from inference.model_views import ModelNotCalibrated, UnknownAddon
from inference.quantization import VectorsNotFinite
from inference.rate_limit_headers import rate_limit_headers, retry_headers
from inference.upstream.calls import UpstreamFailed, UpstreamRejected, UpstreamUnavailable


class MethodNotAllowed(Exception):
    def __init__(self, method: str, allowed: str) -> None:
        super().__init__(method)
        self.method = method
        self.allowed = allowed


def describe(error: Exception) -> Failure:
    """What a request that ended in `error` is told. Unforeseen errors become a plain 500."""
    match error:
        case InvalidRequest():
            return _invalid(error.message, error.field, error.code)
        case MissingKey():
            return _error(
                401,
                "No API key given. Send it as 'Authorization: Bearer KEY', with the key from your "
                "app's config vars (such as EMBEDDING_KEY).",
                code="missing_api_key",
                headers={"www-authenticate": "Bearer"},
            )
        case InvalidKey():
            return _error(
                401,
                "Incorrect API key: it is mistyped, or its attachment was detached or destroyed. "
                "The current one is in your app's config vars (heroku config -a APP).",
                code="invalid_api_key",
                headers={"www-authenticate": 'Bearer error="invalid_token"'},
            )
        case WrongRegion():
            return _error(
                421,
                f"This key belongs to a resource in the region {error.region}, whose data stays "
                f"there: send its requests to {endpoint_of(error.region)}, which is the _URL of "
                "your app's config vars. Nothing of this one was read or billed.",
                code="wrong_region",
            )
        case UnknownModel():
            return _error(
                404,
                f"The model {error.model_id[:100]!r} does not exist. Known: "
                f"{', '.join(error.known) or 'none is installed'}.",
                field="model",
                code="model_not_found",
            )
        case ModelNotInstalled():
            return _error(
                404,
                f"The model {error.model.id!r} is in the catalogue, but its weights are not "
                f"installed. An operator installs them: manage.py models install {error.model.id}",
                field="model",
                code="model_not_installed",
            )
        case ModelNotCalibrated():
            return _error(
                404,
                f"The model {error.model.id!r} is not calibrated, so it has no int8 and uint8. An "
                f"operator does that: manage.py models calibrate {error.model.id}",
                field="model",
                code="model_not_calibrated",
            )
        case UnknownAddon():
            return _error(
                404,
                "This key belongs to no add-on of that id.",
                field="addon_id",
                code="addon_not_found",
            )
        case ModelNotInPlan():
            return _error(
                403,
                f"The plan {error.caller.plan_name} serves {error.caller.model_id} only, not "
                f"{error.model_id[:100]!r}.",
                field="model",
                code="model_not_in_plan",
            )
        case ModelHasNoPrice() | PlanHasNoPrice():
            return _error(
                403,
                f"The model has no price in your plan, so it is not served: {error}.",
                field="model",
                code="model_not_priced",
            )
        case TooManyInputs():
            return _invalid(
                f"'{error.field}' must hold at most {error.maximum} texts, not {error.count}.",
                error.field,
            )
        case TooManyCharacters():
            return _invalid(
                f"'{error.field}' must have at most {error.maximum} characters, not "
                f"{error.characters}.",
                error.field,
            )
        case InputTooLong():
            return _invalid(
                f"'{error.field}' has {error.tokens} tokens, more than {error.maximum}, and is not "
                "to be cut.",
                error.field,
                "context_length_exceeded",
            )
        case MaxTokensTooLow():
            return _invalid(
                f"'{error.field}' must be at least {error.minimum} here: the prompt and the "
                "special tokens take the others.",
                error.field,
            )
        case TooManyTokens():
            return _invalid(
                f"'{error.field}' has {error.tokens} tokens; a request may have {error.maximum}.",
                error.field,
                "max_tokens_per_request",
            )
        case DimensionNotOffered():
            return _invalid(_dimension_not_offered(error), error.field)
        case TypeNotOffered():
            return _invalid(_type_not_offered(error), error.field)
        case RequestExceedsLimit():
            return _request_exceeds_limit(error)
        case RateLimitExceeded():
            return _rate_limited(error)
        case SpendCapReached():
            return _spend_cap_reached(error)
        case InvalidIdempotencyKey():
            return _invalid(
                f"The header '{HEADER}' must have 1 to 255 visible ASCII characters.",
                HEADER,
                "invalid_idempotency_key",
            )
        case IdempotencyKeyReused():
            return _error(
                409,
                f"This {HEADER} was used with another path or body in the last "
                "24 hours. Take a new key for each request.",
                field=HEADER,
                code="idempotency_key_reused",
                headers={"x-should-retry": "false"},
            )
        case IdempotencyKeyInUse():
            return _error(
                409,
                f"The first request with this {HEADER} is still under way. Repeat it in a moment.",
                field=HEADER,
                code="idempotency_key_in_use",
                headers=retry_headers(RETRY_AFTER_S),
            )
        case TooMuchKept():
            # Not a 429: clients would repeat it, and it stays true for hours.
            return _error(
                400,
                f"The answers kept for repeats of this attachment's requests take {error.max_mb} "
                f"MB, and no more are kept. Send the request without {HEADER}, or later. Nothing "
                "was billed.",
                field=HEADER,
                code="idempotency_space_exceeded",
                headers={"retry-after": str(math.ceil(error.retry_after_s))},
            )
        case BodyTooLarge():
            return _error(
                413,
                f"The body must have at most {error.max_bytes} bytes.",
                code="body_too_large",
                headers={"connection": "close"},
            )
        case BodyTooSlow():
            return _error(
                408,
                "The body did not arrive in time.",
                code="body_too_slow",
                headers={"connection": "close"},
            )
        case UnsupportedEncoding():
            return _error(
                415,
                f"Content-Encoding {str(error)[:50]!r} is not supported: send the body as it is.",
                code="unsupported_encoding",
            )
        case UnknownPath():
            return _error(
                404,
                f"There is nothing at {str(error)[:100]!r}. GET /openapi.json says what there is.",
                code="unknown_path",
            )
        case ClientDisconnected():
            # Mostly nobody reads this; a client that only ended its sending does.
            return _error(
                499,
                "The request was ended before it was answered. Nothing was billed.",
                code="client_disconnected",
                headers={"connection": "close"},
            )
        case MethodNotAllowed():
            return _error(
                405,
                f"Method {error.method} is not allowed here. Allowed: {error.allowed}.",
                code="method_not_allowed",
                headers={"allow": error.allowed},
            )
        case WorkerUnavailable() | UpstreamUnavailable():
            return _unavailable(
                f"The model {error.model_id} cannot answer now: {error}. Nothing was billed.",
                error.retry_after_s,
            )
        case (
            LimiterUnavailable()
            | LedgerUnavailable()
            | KeysUnavailable()
            | AnswersUnavailable()
            | RedisError()
        ):
            return _unavailable(
                "The service cannot check keys or meter requests now, so it serves none. "
                "Nothing was billed.",
                5,
            )
        case ContainerKeyInvalid():
            return _unavailable(
                "SAGEMAKER_KEY is not the key of a live attachment, so this container serves no "
                "calls without a key.",
                60,
            )
        case TooMuchWaiting():
            return _overloaded(
                429,
                "Too much of your own is waiting already: the queue for this key would take "
                f"{error.wait_s:.0f} s.",
                error,
            )
        case Overloaded():
            return _overloaded(
                503,
                f"All workers are busy: this request would wait about {error.wait_s:.0f} s.",
                error,
            )
        case InvalidCalibration():
            return _unavailable(
                "The ranges of this model's int8 and uint8 cannot be read; its other types can be "
                "had. Nothing was billed.",
                60,
            )
        case UpstreamRejected() | UpstreamFailed():
            return _error(
                502,
                f"The model {error.model_id} did not answer: {error}. Nothing was billed.",
                kind="server_error",
                code="upstream_error",
                headers={"x-should-retry": "false"},
            )
        case EncodeFailed(failed=failed) | VectorsNotFinite(rows=failed):
            texts = ", ".join(map(str, failed[:5]))
            which = f"these texts, counted from 0: {texts}" if texts else "this request"
            return _error(
                500,
                f"The model failed on {which}. Nothing was billed.",
                kind="server_error",
                code="model_error",
                # Those texts fail again; what failed as a whole may have met a worker's trouble.
                headers={"x-should-retry": "false"} if texts else None,
            )
        case _:
            return _error(500, "Something went wrong on our side.", kind="server_error")


def _dimension_not_offered(error: DimensionNotOffered) -> str:
    model = error.model
    offered = ", ".join(map(str, model.output_dimensions))
    wanted = str(error.dimension)[:SHOWN_MAX_CHARACTERS]
    message = f"'{error.field}' must be one of {offered} for {model.id}, not {wanted}."
    if error.dimension > model.dimensions:
        return message
    return (
        f"{message} Others up to {model.dimensions} are served, at a loss of quality, where "
        "'allow_untrained_dimensions' is true."
    )


def _type_not_offered(error: TypeNotOffered) -> str:
    what = f"{error.embedding_type!r} is not offered for {error.model.id}"
    if error.embedding_type in ("binary", "ubinary"):
        return f"'{error.field}': {what} with {error.dimension} dimensions, not a multiple of 8."
    return (
        f"'{error.field}': {what} with {error.dimension} dimensions, because it is not calibrated. "
        f"An operator does that: manage.py models calibrate {error.model.id}"
    )


def _request_exceeds_limit(error: RequestExceedsLimit) -> Failure:
    code = "request_exceeds_limit"
    if error.limit == "tokens":
        return _invalid(
            f"The request has {error.tokens} tokens; your plan allows {error.limits.tokens} a "
            "minute, so it can never be served. Send fewer or shorter inputs.",
            "input",
            code,
        )
    return _invalid(f"Your limit of {error.limit} is 0, so no request can be served.", code=code)


def _rate_limited(error: RateLimitExceeded) -> Failure:
    standing, limits = error.standing, error.standing.limits
    match error.limit:
        case "requests":
            said = f"{limits.requests} requests per minute, {standing.used_requests} used"
        case "tokens":
            said = f"{limits.tokens} tokens per minute, {standing.used_tokens} used"
        case "concurrent requests":
            said = f"{limits.concurrent} requests at once, {standing.used_concurrent} under way"
    retry = retry_headers(error.retry_after_s, asked_at=standing.asked_at)
    return _error(
        429,
        f"Rate limit reached: {said}, {error.asked} asked. Please try again in "
        f"{error.retry_after_s:.3f}s.",
        kind="tokens" if error.limit == "tokens" else "requests",
        code="rate_limit_exceeded",
        headers={**rate_limit_headers(standing), **retry},
    )


def _spend_cap_reached(error: SpendCapReached) -> Failure:
    cap = error.cap
    limit = _amount(cap.limit_microunits * PICOUNITS_PER_MICROUNIT)
    whose = cap.scope if cap.scope == "account" else f"{cap.scope} {cap.scope_id}"
    return _error(
        402,
        f"Spend cap reached: the budget of the {whose} allows {limit} a month, "
        f"{_amount(error.spent_picounits)} is spent, and this request costs "
        f"{_amount(error.asked_picounits)}. It resets at {error.resets_at:%Y-%m-%dT%H:%M:%SZ}.",
        kind="insufficient_quota",
        code="spend_cap_reached",
        headers={"x-should-retry": "false", **rate_limit_headers(error.standing)},
    )


def _amount(picounits: int) -> str:
    """In whole units of the currency, exact."""
    return f"{Decimal(picounits).scaleb(-12).normalize():f}"


def _overloaded(status: int, message: str, error: Overloaded) -> Failure:
    seconds = math.ceil(error.retry_after_s)
    return _error(
        status,
        f"{message} Nothing was billed. Please try again in {seconds} s.",
        kind="requests" if status == 429 else "server_error",
        code="overloaded",
        headers=retry_headers(seconds),
    )


def _unavailable(message: str, retry_after_s: int) -> Failure:
    return _error(
        503,
        message,
        kind="server_error",
        code="unavailable",
        headers={"retry-after": str(retry_after_s)},
    )


def _invalid(message: str, field: str | None = None, code: str | None = None) -> Failure:
    return _error(400, message, field=field, code=code)


def _error(
    status: int,
    message: str,
    *,
    kind: str = "invalid_request_error",
    field: str | None = None,
    code: str | None = None,
    headers: dict[str, str] | None = None,
) -> Failure:
    return Failure(
        status=status, message=message, kind=kind, field=field, code=code, headers=headers or {}
    )
