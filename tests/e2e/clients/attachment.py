"""What an app has of its attachment, and what the scripts beside this one measure alike."""

import math
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

E = TypeVar("E", bound=Exception)

URL = os.environ["EMBEDDING_URL"]
KEY = os.environ["EMBEDDING_KEY"]
MODEL = os.environ["EMBEDDING_MODEL_ID"]
# Of the product documents, with the dimensions that one can choose from.
MODEL_WITH_DIMENSIONS = "cohere-embed-v4"

DIMENSIONS = 384
MAX_INPUTS = 96
TEXTS = ["The quick brown fox", "jumps over the lazy dog", "Füchse springen über Hunde"]


def is_unit(vector: Sequence[float], dimensions: int = DIMENSIONS) -> bool:
    return len(vector) == dimensions and math.isclose(math.hypot(*vector), 1.0, abs_tol=1e-3)


def is_same(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether no number differs by more than float32's last digits."""
    return len(one) == len(other) and math.dist(one, other) < 1e-5


def refusal(expected: type[E], call: Callable[..., object], *words: Any, **parameters: Any) -> E:
    """The exception that the call raises, which must be of that class."""
    try:
        call(*words, **parameters)
    except expected as error:
        return error
    raise AssertionError(f"not refused: {words} {parameters}")
