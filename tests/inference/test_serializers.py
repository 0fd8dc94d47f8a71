"""The OpenAI dialect: what is accepted, and what is said about what is not."""

import base64
import json
import re
import time
from typing import Any

import numpy as np
import pytest

from billing.rate_limits import Limits, Standing
from inference.catalogue import get_model
from inference.embeddings import Embeddings
from inference.serializers import InvalidRequest, parse_embeddings_body, render_embeddings

BASE: dict[str, Any] = {"model": "m", "input": "hello"}


def parse(**fields: Any) -> Any:
    return parse_embeddings_body(json.dumps({**BASE, **fields}).encode())


def test_a_string_is_one_text_and_defaults_apply() -> None:
    parsed = parse()
    assert parsed.request.texts == ("hello",)
    assert parsed.request.input_type == "search_document"
    assert parsed.encoding_format == "float"


def test_null_counts_as_absent_and_user_is_accepted() -> None:
    parsed = parse(encoding_format=None, input_type=None, user="u-1")
    assert parsed.encoding_format == "float"


@pytest.mark.parametrize(
    ("given", "meant"), [("raw", "float"), ("float", "float"), ("base64", "base64")]
)
def test_raw_and_float_are_one_format(given: str, meant: str) -> None:
    assert parse(encoding_format=given).encoding_format == meant


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"model": None}, "model", "'model' is required"),
        ({"model": 7}, "model", "must be a non-empty string, not a number"),
        ({"model": ""}, "model", "non-empty string"),
        ({"input": None}, "input", "'input' is required"),
        ({"input": 7}, "input", "a string or a list of strings, not a number"),
        ({"input": {"a": 1}}, "input", "not an object"),
        ({"input": []}, "input", "at least one string"),
        ({"input": ""}, "input", "must not be an empty string"),
        ({"input": ["a", ""]}, "input[1]", "must not be an empty string"),
        ({"input": ["a", None]}, "input[1]", "must be a string, not null"),
        ({"input": ["a", True]}, "input[1]", "not a boolean"),
        ({"input": [[1, 2]]}, "input[0]", "must be a string, not a list"),
        ({"input_type": "image"}, "input_type", "search_document, search_query, classification"),
        ({"input_type": 3}, "input_type", "not a number"),
        ({"input_type": ["search_query"]}, "input_type", "not a list"),
        ({"encoding_format": "hex"}, "encoding_format", "raw, float, base64"),
        ({"dimension": 3}, "dimension", "Unknown parameter: 'dimension'. Allowed: model, input"),
    ],
)
def test_a_bad_field_is_named_with_what_is_allowed(
    fields: dict[str, Any], param: str, words: str
) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        parse(**fields)
    assert refusal.value.param == param
    assert words in refusal.value.message


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "not valid JSON"),
        (b"model=m&input=hello", "not valid JSON"),
        (b'{"model": "m"', "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
        (b"[1]", "must be a JSON object, not a list"),
        (b"null", "must be a JSON object, not null"),
        (b'{"model":"m","input":"\\ud800"}', "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
    ],
)
def test_a_body_that_is_no_json_object_is_refused(body: bytes, words: str) -> None:
    with pytest.raises(InvalidRequest, match="body") as refusal:
        parse_embeddings_body(body)
    assert words in refusal.value.message


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (b"0," * 1_000_000, "got `int` - at `$.input[0]`"),
        (b"[]," * 1_000_000, "got `array` - at `$.input[0]`"),
        (b'"a",' * 1_000_000, "at most 10000 strings"),
        (b'"\\\\",' * 1_000_000, "at most 10000 strings"),
        (b'"\\' * 1_000_000 + b'"', "not valid JSON"),
    ],
)
def test_a_large_body_of_tiny_values_is_refused_before_they_are_made(
    values: bytes, words: str
) -> None:
    started = time.perf_counter()
    with pytest.raises(InvalidRequest, match=re.escape(words)):
        parse_embeddings_body(b'{"model": "m", "input": [' + values + b'"z"]}')
    assert time.perf_counter() - started < 0.5  # for at most 5 MB; the full decoding takes seconds


def test_a_large_body_is_read_like_a_small_one() -> None:
    texts = [f'a "quoted" text\\ with, commas {number} ' * 100 for number in range(96)]
    parsed = parse(input=texts, user={"any": ["thing"]}, encoding_format="base64")
    assert parsed.request.texts == tuple(texts)
    assert parsed.encoding_format == "base64"
    with pytest.raises(InvalidRequest, match="unknown field `dimension`"):
        parse(input=texts, dimension=3)


def test_both_formats_carry_the_same_floats() -> None:
    vectors = np.random.default_rng(1).normal(size=(3, 384)).astype(np.float32)
    standing = Standing(
        limits=Limits(requests=1, tokens=1), used_requests=1, used_tokens=1, reset_s=1
    )
    embeddings = Embeddings(
        model=get_model("all-minilm-l6-v2"),
        vectors=vectors,
        token_count=12,
        truncated=(),
        standing=standing,
    )
    plain = json.loads(render_embeddings(embeddings, "float"))
    packed = json.loads(render_embeddings(embeddings, "base64"))
    assert plain["usage"] == {"prompt_tokens": 12, "total_tokens": 12}
    for index, (a, b) in enumerate(zip(plain["data"], packed["data"], strict=True)):
        assert a["index"] == b["index"] == index
        decoded = np.frombuffer(base64.b64decode(b["embedding"]), dtype="<f4")
        assert np.array_equal(np.array(a["embedding"], dtype=np.float32), decoded)
        assert np.array_equal(decoded, vectors[index])
