"""That what a client decodes is what the engine made: every dialect, type and encoding."""

import base64
import json
from dataclasses import replace
from typing import Any, cast

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from inference.dialects import Dialect, Parsed, cohere, openai, sagemaker
from inference.embeddings import Embeddings
from inference.quantization import EMBEDDING_TYPES, EmbeddingType
from tests.inference.dialects.made import make_embeddings

# As clients have them; base64 is of little-endian bytes.
NUMPY_TYPES: dict[EmbeddingType, str] = {
    "float": "<f4",
    "int8": "i1",
    "uint8": "u1",
    "binary": "i1",
    "ubinary": "u1",
}
TEXTS = 3
COORDINATE = st.floats(-1, 1, width=32)

vectors = st.integers(1, TEXTS).flatmap(
    lambda texts: arrays(np.float32, (texts, 384), elements=COORDINATE)
)
some_types = st.lists(st.sampled_from(EMBEDDING_TYPES), min_size=1, unique=True)


def ask(dialect: Dialect, **fields: Any) -> Parsed:
    return dialect.parse(json.dumps(fields).encode(), {"headers": []})


def answer(parsed: Parsed, made: Embeddings) -> Any:
    return json.loads(parsed.render(made).body)


def make(parsed: Parsed, rows: NDArray[np.float32]) -> Embeddings:
    return replace(make_embeddings(*parsed.request.embedding_types, texts=len(rows)), vectors=rows)


def decode(value: Any, kind: EmbeddingType) -> NDArray[Any]:
    """One vector, from numbers or base64."""
    if isinstance(value, str):
        return np.frombuffer(base64.b64decode(value, validate=True), NUMPY_TYPES[kind])
    return np.array(value, NUMPY_TYPES[kind])


def assert_same(values: list[Any], made: Embeddings, kind: EmbeddingType) -> None:
    """To the bit, so that -0.0 is not 0.0."""
    decoded = np.stack([decode(value, kind) for value in values])
    expected = made.typed(kind)
    assert decoded.dtype == expected.dtype
    assert decoded.tobytes() == expected.tobytes()


@settings(deadline=None)
@given(rows=vectors, types=some_types, encoding=st.sampled_from(openai.ENCODING_FORMATS))
def test_openais_answers(
    rows: NDArray[np.float32], types: list[EmbeddingType], encoding: str
) -> None:
    parsed = ask(
        openai.DIALECT, model="m", input="a", embedding_type=types, encoding_format=encoding
    )
    made = make(parsed, rows)
    embeddings = [item["embedding"] for item in answer(parsed, made)["data"]]
    for kind in types:
        rows_of_kind = [row[kind] for row in embeddings] if len(types) > 1 else embeddings
        assert {type(row) for row in rows_of_kind} == {str if encoding == "base64" else list}
        assert_same(rows_of_kind, made, kind)


@settings(deadline=None)
@given(
    rows=vectors,
    types=st.lists(st.sampled_from(cohere.V2_TYPES), min_size=1, unique=True),
    dialect=st.sampled_from(
        [cohere.V2_DIALECT, sagemaker.CONTAINER_DIALECT, sagemaker.RUNTIME_DIALECT]
    ),
)
def test_answers_by_type(rows: NDArray[np.float32], types: list[str], dialect: Dialect) -> None:
    model = {"model": "m"} if dialect is cohere.V2_DIALECT else {}
    fields = {"texts": ["a"], "input_type": "search_query", "embedding_types": types}
    parsed = ask(dialect, **fields, **model)
    made = make(parsed, rows)
    by_type = answer(parsed, made)["embeddings"]
    assert list(by_type) == types
    for name, values in by_type.items():
        kind = "float" if name == "base64" else name
        assert_same(values, made, cast(EmbeddingType, kind))


@settings(deadline=None)
@given(rows=vectors, types=st.none() | some_types)
def test_cohere_v1s_answers(rows: NDArray[np.float32], types: list[EmbeddingType] | None) -> None:
    parsed = ask(cohere.V1_DIALECT, texts=["a"], embedding_types=types)
    made = make(parsed, rows)
    embeddings = answer(parsed, made)["embeddings"]
    by_type: dict[EmbeddingType, Any] = embeddings if types else {"float": embeddings}
    assert list(by_type) == (types or ["float"])
    for kind, values in by_type.items():
        assert_same(values, made, kind)
