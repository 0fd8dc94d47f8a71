"""The OpenAI dialect: what is accepted, and what is said about what is not."""

import base64
import json
import re
import time
from typing import Any

import numpy as np
import pytest

from billing.rate_limits import Limits, Standing
from inference.calibration import find_calibration
from inference.catalogue import get_model
from inference.dialects import Parsed
from inference.dialects.json_bodies import InvalidRequest
from inference.dialects.openai import DIALECT
from inference.embeddings import Embeddings, Space
from inference.quantization import EmbeddingType
from inference.tokenization import TokenBatch

BASE: dict[str, Any] = {"model": "m", "input": "hello"}
MODEL = get_model("all-minilm-l6-v2")


def scope(**headers: str) -> dict[str, Any]:
    return {"headers": [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()]}


def parse_body(body: bytes) -> Parsed:
    return DIALECT.parse(body, scope())


def parse(**fields: Any) -> Parsed:
    return parse_body(json.dumps({**BASE, **fields}).encode())


def refused(**fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as refusal:
        parse(**fields)
    return refusal.value


def make_embeddings(*types: EmbeddingType, texts: int = 3) -> Embeddings:
    vectors = np.random.default_rng(1).normal(size=(texts, 384)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    lengths = np.full(texts, 4, dtype=np.int32)
    return Embeddings(
        request_id="r-1",
        space=Space(
            model=MODEL,
            input_type="search_document",
            dimension=384,
            calibration=find_calibration(MODEL),
        ),
        types=types,
        vectors=vectors,
        tokens=TokenBatch(
            ids=np.zeros(4 * texts, dtype=np.int32), lengths=lengths, whole_lengths=lengths
        ),
        standing=Standing(
            limits=Limits(requests=1, tokens=1),
            used_requests=1,
            used_tokens=1,
            reset_s=1,
            asked_at=0,
        ),
    )


def answer(parsed: Parsed, *types: EmbeddingType) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(parsed.render(make_embeddings(*types)).body)
    return body


def test_a_string_is_one_text_and_defaults_apply() -> None:
    request = parse().request
    assert request.texts == ("hello",)
    assert request.input_type == "search_document"
    assert request.embedding_types == ("float",)
    assert request.truncate == "end"
    assert (request.output_dimension, request.max_tokens) == (None, None)


def test_null_counts_as_absent_and_user_is_accepted() -> None:
    parsed = parse(encoding_format=None, input_type=None, dimensions=None, user="u-1")
    assert parsed.request == parse().request


def test_lists_of_strings_and_of_token_ids_are_texts() -> None:
    assert parse(input=["a", "b"]).request.texts == ("a", "b")
    # cl100k_base: what OpenAI's clients send, whatever the model.
    assert parse(input=[15339, 1917]).request.texts == ("hello world",)
    assert parse(input=[[15339], [15339, 1917]]).request.texts == ("hello", "hello world")


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"model": None}, "model", "'model' is required"),
        ({"model": 7}, "model", "must be a non-empty string, not a number"),
        ({"model": ""}, "model", "non-empty string"),
        ({"input": None}, "input", "'input' is required"),
        ({"input": 7}, "input", "a string, a list of strings, or lists of token ids, not a number"),
        ({"input": {"a": 1}}, "input", "not an object"),
        ({"input": []}, "input", "at least one string"),
        ({"input": ""}, "input", "must not be an empty string"),
        ({"input": ["a", ""]}, "input[1]", "must not be an empty string"),
        ({"input": ["a", None]}, "input[1]", "must be a string, not null"),
        ({"input": ["a", True]}, "input[1]", "not a boolean"),
        ({"input": [True]}, "input[0]", "not a boolean"),
        ({"input": ["a", [1]]}, "input[1]", "must be a string, not a list"),
        ({"input": [[1], "a"]}, "input[1]", "must be a list of token ids, not a string"),
        ({"input": [[]]}, "input[0]", "at least one token id"),
        ({"input": [1, "a"]}, "input[1]", "must be a token id, not a string"),
        ({"input": [1.5]}, "input[0]", "must be a string, not a number"),
        ({"input": [[1, [2]]]}, "input[0][1]", "must be a token id, not a list"),
        ({"input": [1, -1]}, "input[1]", "a token id of cl100k_base, which -1 is not"),
        ({"input": [[5], [1, 10**9]]}, "input[1][1]", "which 1000000000 is not"),
        ({"input": [10**4_000]}, "input[0]", f"which 1{'0' * 49} is not"),
        ({"input": "nul\0"}, "input", "must not hold the character NUL"),
        ({"input": ["a", "\0"]}, "input[1]", "NUL"),
        ({"input_type": "image"}, "input_type", "search_document, search_query, classification"),
        ({"input_type": 3}, "input_type", "not a number"),
        ({"input_type": ["search_query"]}, "input_type", "not a list"),
        ({"encoding_format": "hex"}, "encoding_format", "raw, float, base64"),
        ({"embedding_type": "int4"}, "embedding_type", "float, int8, uint8, binary, ubinary"),
        ({"embedding_type": []}, "embedding_type", "at least one"),
        ({"embedding_type": ["int8", "int4"]}, "embedding_type[1]", "not 'int4'"),
        ({"embedding_type": ["int8", ["int8"]]}, "embedding_type[1]", "not a list"),
        ({"embedding_type": ["int8", "int8"]}, "embedding_type", "each type once"),
        ({"dimensions": 0}, "dimensions", "an integer of at least 1, not 0"),
        ({"dimensions": 2.5}, "dimensions", "not a number"),
        ({"dimensions": "64"}, "dimensions", "not a string"),
        ({"dimensions": True}, "dimensions", "not a boolean"),
        ({"truncate": "middle"}, "truncate", "none, start, end"),
        ({"max_tokens": 0}, "max_tokens", "an integer of at least 1, not 0"),
        ({"allow_ignored_params": 1}, "allow_ignored_params", "true or false, not a number"),
        ({"dimension": 3}, "dimension", "Unknown parameter: 'dimension'. Allowed: model, input"),
    ],
)
def test_a_bad_field_is_named_with_what_is_allowed(
    fields: dict[str, Any], field: str, words: str
) -> None:
    refusal = refused(**fields)
    assert refusal.field == field
    assert words in refusal.message


@pytest.mark.parametrize("ids", [[5] * 300_001, [[5] * 200_000, [5] * 100_001]])
def test_more_token_ids_than_a_request_may_have_are_refused_undecoded(ids: list[Any]) -> None:
    refusal = refused(input=ids)
    assert (refusal.field, "at most 300000 token ids, not 300001" in refusal.message) == (
        "input",
        True,
    )


def test_unknown_parameters_are_ignored_where_the_request_says_so() -> None:
    parsed = parse(allow_ignored_params=True, logit_bias={"a": 1}, temperature=1)
    assert parsed.request == parse().request
    with pytest.raises(InvalidRequest, match="'temperature'"):
        parse(allow_ignored_params=False, temperature=1)


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
        (b'{"model":"m","input":"x","dimensions":NaN}', "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"input":' + b"[" * 9_000 + b" " * 200_000, "not valid JSON"),
    ],
)
def test_a_body_that_is_no_json_object_is_refused(body: bytes, words: str) -> None:
    with pytest.raises(InvalidRequest, match="body") as refusal:
        parse_body(body)
    assert words in refusal.value.message


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (b"0," * 2_000_000, "at most 1000000 values"),
        (b"null," * 900_000, "got `null` - at `$.input[0]`"),
        (b"{}," * 900_000, "got `object` - at `$.input[0]`"),
        (b'"a",' * 1_000_000, "at most 10000 strings"),
        (b'"\\\\",' * 1_000_000, "at most 10000 strings"),
        (b'"\\' * 1_000_000 + b'"', "not valid JSON"),
        (b"[" * 1_000_000, "at most 10000 lists"),
        (b"[]," * 900_000, "at most 10000 lists"),
    ],
)
def test_a_large_body_of_tiny_values_is_refused_before_they_are_made(
    values: bytes, words: str
) -> None:
    started = time.thread_time()
    with pytest.raises(InvalidRequest, match=re.escape(words)):
        parse_body(b'{"model": "m", "input": [' + values + b'"z"]}')
    assert time.thread_time() - started < 0.5  # for at most 5 MB; the full decoding takes seconds


def test_a_large_body_is_read_like_a_small_one() -> None:
    texts = [f'a "quoted" text\\ with, commas {number} ' * 100 for number in range(96)]
    for user in ("anyone", 7, ["x"]):
        assert parse(input=texts, user=user, dimensions=None).request.texts == tuple(texts)
    assert refused(input=texts, dimension=3).field == "dimension"
    ignoring = parse(input=texts, dimension={"any": ["thing"]}, allow_ignored_params=True)
    assert ignoring.request.texts == tuple(texts)


@pytest.mark.parametrize("encoding_format", ["raw", "float"])
def test_raw_and_float_are_lists_of_numbers(encoding_format: str) -> None:
    body = answer(parse(encoding_format=encoding_format), "float")
    vectors = make_embeddings("float").vectors
    assert np.array_equal(
        np.array([item["embedding"] for item in body["data"]], dtype=np.float32), vectors
    )
    assert [item["index"] for item in body["data"]] == [0, 1, 2]
    assert body["usage"] == {"prompt_tokens": 12, "total_tokens": 12}


@pytest.mark.parametrize("kind", ["float", "int8", "uint8", "binary", "ubinary"])
def test_base64_is_of_the_typed_vectors_little_endian_bytes(kind: EmbeddingType) -> None:
    body = answer(parse(encoding_format="base64"), kind)
    expected = make_embeddings(kind).typed(kind)
    for item, row in zip(body["data"], expected, strict=True):
        little_endian = row.dtype.newbyteorder("<")
        decoded = np.frombuffer(base64.b64decode(item["embedding"]), dtype=little_endian)
        assert np.array_equal(decoded, row)


def test_several_types_are_an_object_by_type() -> None:
    body = answer(parse(embedding_type=["float", "ubinary"]), "float", "ubinary")
    expected = make_embeddings().typed("ubinary")
    for item, row in zip(body["data"], expected, strict=True):
        assert set(item["embedding"]) == {"float", "ubinary"}
        assert item["embedding"]["ubinary"] == row.tolist()


def test_heroku_s_plugin_finds_the_plural_that_it_prints() -> None:
    body = json.dumps(BASE).encode()
    for agent, has_plural in [
        ("heroku-cli-plugin-ai/undefined linux", True),
        ("curl/8.5", False),
    ]:
        parsed = DIALECT.parse(body, scope(user_agent=agent))
        (first, *_) = json.loads(parsed.render(make_embeddings("float")).body)["data"]
        assert ("embeddings" in first) is has_plural
        assert first.get("embeddings", first["embedding"]) == first["embedding"]
