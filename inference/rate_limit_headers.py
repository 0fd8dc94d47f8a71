"""How a caller stands with its limits, in the headers that OpenAI's and Cohere's clients read."""

import math
import time

from billing.rate_limits import Standing


def rate_limit_headers(standing: Standing) -> dict[str, str]:
    reset = format_duration(standing.reset_s)
    headers = {
        "x-ratelimit-limit-requests": str(standing.limits.requests),
        "x-ratelimit-limit-tokens": str(standing.limits.tokens),
        "x-ratelimit-remaining-requests": str(standing.remaining_requests),
        "x-ratelimit-remaining-tokens": str(standing.remaining_tokens),
        "x-ratelimit-reset-requests": reset,
        "x-ratelimit-reset-tokens": reset,
        "x-ratelimit-reset": str(math.ceil(standing.asked_at + standing.reset_s)),
    }
    if standing.shadow is not None:
        headers["x-ratelimit-shadow"] = standing.shadow
    return headers


def refusal_headers(standing: Standing) -> dict[str, str]:
    """Of a refusal for which the limits are not to blame.

    Cohere's clients wait until `x-ratelimit-reset` before they repeat what failed: that is now,
    unless the limits are used up.
    """
    headers = rate_limit_headers(standing)
    if standing.remaining_requests and standing.remaining_tokens:
        headers["x-ratelimit-reset"] = str(math.floor(standing.asked_at))
    return headers


def retry_headers(retry_after_s: float, *, asked_at: float | None = None) -> dict[str, str]:
    """When to try again: in whole seconds and in milliseconds, and for older clients of Cohere in
    unix seconds. `asked_at` is the time of the refusal where another clock than ours decides."""
    asked_at = time.time() if asked_at is None else asked_at
    return {
        "retry-after": str(max(1, math.ceil(retry_after_s))),
        "retry-after-ms": str(max(1, math.ceil(retry_after_s * 1000))),
        "x-ratelimit-reset": str(math.ceil(asked_at + retry_after_s)),
    }


def format_duration(seconds: float) -> str:
    """A duration as OpenAI writes it: `6m0s`, `8.64s`, `12ms`."""
    milliseconds = max(0, round(seconds * 1000))
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{f'{minutes}m' if minutes else ''}{rest / 1000:g}s"
