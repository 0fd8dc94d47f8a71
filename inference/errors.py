"""Every failure of the embeddings API, in OpenAI's shape: `{"error": {message, type, …}}`."""

import math

from redis.exceptions import RedisError

from billing.rate_limits import RateLimitExceeded, RequestExceedsLimit
from inference.authentication import InvalidKey, KeysUnavailable, MissingKey
from inference.catalogue import InputTooLong, TooManyInputs, UnknownModel
from inference.dispatch import EncodeFailed, WorkerUnavailable
from inference.embeddings import LedgerUnavailable, LimiterUnavailable
from inference.http import (
    BodyTooLarge,
    BodyTooSlow,
    ClientDisconnected,
    Response,
    UnknownPath,
    UnsupportedEncoding,
    json_response,
)
from inference.lanes import Overloaded, TooMuchWaiting
from inference.rate_limit_headers import rate_limit_headers
from inference.serializers import InvalidRequest


class MethodNotAllowed(Exception):
    def __init__(self, method: str, allowed: str) -> None:
        super().__init__(method)
        self.method = method
        self.allowed = allowed


def error_response(error: Exception) -> Response:
    """The answer to a request that ended in `error`. Unforeseen ones become a plain 500."""
    match error:
        case InvalidRequest():
            return _invalid(error.message, error.param, error.code)
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
        case UnknownModel():
            return _error(
                404,
                f"The model {error.model_id[:100]!r} does not exist. Known: "
                f"{', '.join(error.known) or 'none is installed'}.",
                param="model",
                code="model_not_found",
            )
        case TooManyInputs():
            return _invalid(
                f"'input' must hold at most {error.model.max_inputs} strings, not {error.count}.",
                "input",
            )
        case InputTooLong():
            return _invalid(
                f"'input[{error.index}]' must have at most {error.model.max_input_characters} "
                f"characters, not {error.characters}.",
                f"input[{error.index}]",
            )
        case RequestExceedsLimit():
            return _invalid(
                f"The request has {error.tokens} tokens; your plan allows {error.limits.tokens} a "
                "minute, so it can never be served. Send fewer or shorter inputs.",
                "input",
                "request_exceeds_limit",
            )
        case RateLimitExceeded():
            return _rate_limited(error)
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
                f"There is nothing at {str(error)[:100]!r}. There are POST /v1/embeddings and "
                "GET /v1/models.",
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
        case WorkerUnavailable():
            return _unavailable(
                f"The model {error.model_id} cannot answer now: {error}. Nothing was billed.",
                error.retry_after_s,
            )
        case LimiterUnavailable() | LedgerUnavailable() | KeysUnavailable() | RedisError():
            return _unavailable(
                "The service cannot check keys or meter requests now, so it serves none. "
                "Nothing was billed.",
                5,
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
        case EncodeFailed():
            which = ", ".join(f"input[{index}]" for index in error.failed[:5])
            return _error(
                500,
                f"The model failed on {which or 'this request'}. Nothing was billed.",
                kind="server_error",
                code="model_error",
            )
        case _:
            return _error(500, "Something went wrong on our side.", kind="server_error")


def _rate_limited(error: RateLimitExceeded) -> Response:
    limits = error.standing.limits
    if error.limit == "requests":
        limit, used = limits.requests, error.standing.used_requests
    else:
        limit, used = limits.tokens, error.standing.used_tokens
    return _error(
        429,
        f"Rate limit reached: {limit} {error.limit} per minute, {used} used. Please try again in "
        f"{error.retry_after_s:.3f}s.",
        kind=error.limit,
        code="rate_limit_exceeded",
        headers={
            "retry-after": str(max(1, math.ceil(error.retry_after_s))),
            "retry-after-ms": str(max(1, math.ceil(error.retry_after_s * 1000))),
            **rate_limit_headers(error.standing),
        },
    )


def _overloaded(status: int, message: str, error: Overloaded) -> Response:
    seconds = math.ceil(error.retry_after_s)
    return _error(
        status,
        f"{message} Nothing was billed. Please try again in {seconds} s.",
        kind="requests" if status == 429 else "server_error",
        code="overloaded",
        headers={"retry-after": str(seconds), "retry-after-ms": str(seconds * 1000)},
    )


def _unavailable(message: str, retry_after_s: int) -> Response:
    return _error(
        503,
        message,
        kind="server_error",
        code="unavailable",
        headers={"retry-after": str(retry_after_s)},
    )


def _invalid(message: str, param: str | None = None, code: str | None = None) -> Response:
    return _error(400, message, param=param, code=code)


def _error(
    status: int,
    message: str,
    *,
    kind: str = "invalid_request_error",
    param: str | None = None,
    code: str | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    return json_response(body, status=status, headers=headers)
