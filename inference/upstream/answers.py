"""What upstreams answer: vectors, or a status that says whose fault it is."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import msgspec
import numpy as np
from numpy.typing import NDArray

ANSWER_MAX_BYTES = 64_000_000


class AnswerInvalid(Exception):
    """An upstream answered 200 with something that is not the vectors that were asked for."""


class _ByType(msgspec.Struct):
    floats: list[list[float]] = msgspec.field(name="float")


class _Answer(msgspec.Struct):
    """API v2; a bare list is what packages of API v1 answer."""

    embeddings: _ByType | list[list[float]]


_decoder = msgspec.json.Decoder(_Answer)


def read_vectors(answer: bytes, shape: tuple[int, int]) -> NDArray[np.float32]:
    """The vectors (B, D) float32 of an answer, of unit length as a worker's are. Raises
    AnswerInvalid unless they are of that shape, finite, and none is nothing but zeros."""
    try:
        embeddings = _decoder.decode(answer).embeddings
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise AnswerInvalid(f"the answer holds no embeddings: {error}") from None
    rows = embeddings if isinstance(embeddings, list) else embeddings.floats
    lengths = {len(row) for row in rows}
    if len(rows) != shape[0] or lengths != {shape[1]}:
        found = ", ".join(map(str, sorted(lengths)))
        raise AnswerInvalid(f"{shape} vectors were asked for, not {len(rows)} of {found}")
    vectors = np.array(rows)  # (B, D)
    with np.errstate(over="ignore"):  # becomes infinite, and is refused
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)  # (B, 1)
    if not np.isfinite(norms).all() or not norms.all():
        raise AnswerInvalid("a vector is zero or not finite")
    unit: NDArray[np.float32] = (vectors / norms).astype(np.float32)
    return unit


def is_temporary(status: int) -> bool:
    """Whether the same call may succeed a little later."""
    return status in (408, 429) or status >= 500


def is_operators_fault(status: int) -> bool:
    """Whether the key, the account or the model's name is wrong: no client can change it. 498 is
    Cohere's for an invalid token, 402 for an account that is not paid."""
    return status in (401, 402, 403, 404, 498)


def find_retry_after_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """What an answer says of how long to wait: in milliseconds, seconds, or until a date."""
    if (wait_ms := _find_number(headers.get("retry-after-ms"))) is not None:
        return wait_ms / 1000
    value = headers.get("retry-after")
    if (wait_s := _find_number(value)) is not None:
        return wait_s
    try:
        at = parsedate_to_datetime(value or "")
    except ValueError:
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds())


def _find_number(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None
