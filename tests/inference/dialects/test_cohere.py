"""The Cohere dialects: what is accepted, what is answered, and in which words what is refused."""

import base64
import json
import time
from typing import Any

import numpy as np
import pytest

from inference.authentication import InvalidKey, MissingKey
from inference.catalogue import UnknownModel
from inference.dialects import Parsed
from inference.dialects.cohere import V1_DIALECT, V2_DIALECT
from inference.dialects.json_bodies import InvalidRequest
from inference.embedding_requests import TooManyInputs
from inference.errors import describe
from inference.failures import Failure
from inference.quantization import EMBEDDING_TYPES
from tests.inference.dialects.made import make_embeddings

BASE: dict[str, Any] = {"model": "m", "texts": ["hello", "world"], "input_type": "search_query"}
SCOPE: dict[str, Any] = {"headers": []}


def parse(**fields: Any) -> Parsed:
    return V2_DIALECT.parse(json.dumps({**BASE, **fields}).encode(), SCOPE)


def parse_v1(**fields: Any) -> Parsed:
    return V1_DIALECT.parse(json.dumps({**BASE, **fields}).encode(), SCOPE)


def inputs(*contents: Any) -> dict[str, Any]:
    return {"texts": None, "inputs": [{"content": content} for content in contents]}


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def answer(parsed: Parsed, **made: Any) -> dict[str, Any]:
    embeddings = make_embeddings(*parsed.request.embedding_types, **made)
    body: dict[str, Any] = json.loads(parsed.render(embeddings).body)
    return body


def test_a_v2_request_is_read_with_its_defaults() -> None:
    request = parse().request
    assert (request.model_id, request.texts) == ("m", ("hello", "world"))
    assert request.input_type == "search_query"
    assert request.embedding_types == ("float",)
    assert (request.truncate, request.max_tokens, request.output_dimension) == ("end", None, None)


def test_every_v2_parameter_is_understood() -> None:
    request = parse(
        embedding_types=["int8", "float"],
        output_dimension=256,
        max_tokens=12,
        truncate="START",
        priority=0,
        allow_untrained_dimensions=True,
        images=None,
    ).request
    assert request.embedding_types == ("int8", "float")
    assert (request.output_dimension, request.max_tokens) == (256, 12)
    assert request.truncate == "start"
    assert request.allows_untrained_dimension


@pytest.mark.parametrize(
    ("given", "meant"),
    [("NONE", "none"), ("START", "start"), ("END", "end"), ("LEFT", "start"), ("RIGHT", "end")],
)
def test_left_is_start_and_right_is_end(given: str, meant: str) -> None:
    assert parse(truncate=given).request.truncate == meant
    assert parse_v1(truncate=given).request.truncate == meant


def test_the_text_parts_of_an_input_become_one_text() -> None:
    request = parse(**inputs([text("one"), text("two")], [text("three")])).request
    assert request.texts == ("one\ntwo", "three")
    assert request.names.input_at(1) == "inputs[1]"


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"model": None}, "model", "'model' is required"),
        ({"texts": None}, "texts", "'texts' is required"),
        ({"texts": "hello"}, "texts", "must be a list of at least one, not a string"),
        ({"texts": []}, "texts", "not an empty list"),
        ({"texts": ["a", ""]}, "texts[1]", "the empty string at index 1"),
        ({"texts": ["a", 7]}, "texts[1]", "must be a string, not a number"),
        ({"texts": ["a", ["b"]]}, "texts[1]", "must be a string, not a list"),
        ({"texts": ["\0"]}, "texts[0]", "NUL"),
        ({"input_type": None}, "input_type", "valid input_type must be provided"),
        ({"input_type": "query"}, "input_type", "search_document, search_query"),
        ({"input_type": "image"}, "input_type", "images are not embedded here"),
        ({"images": ["data:image/png;base64,AAAA"]}, "images", "images are not embedded here"),
        ({"inputs": [{"content": [text("a")]}]}, "inputs", "cannot both be given"),
        ({"embedding_types": ["float", "int4"]}, "embedding_types[1]", "ubinary, base64, not"),
        ({"embedding_types": ["float", "float"]}, "embedding_types", "each type once"),
        ({"embedding_types": []}, "embedding_types", "at least one"),
        ({"output_dimension": 0}, "output_dimension", "at least 1"),
        ({"output_dimension": "256"}, "output_dimension", "not a string"),
        ({"output_dimension": True}, "output_dimension", "not a boolean"),
        ({"max_tokens": 1.5}, "max_tokens", "not a number"),
        ({"truncate": "end"}, "truncate", "NONE, START, END, LEFT, RIGHT, not 'end'"),
        ({"priority": 1}, "priority", "must be 0"),
        ({"text": "a"}, "text", "Unknown parameter: 'text'. Allowed: model, texts, inputs"),
        (inputs([]), "inputs[0].content", "not an empty list"),
        (inputs("a"), "inputs[0].content", "not a string"),
        (inputs([text("a")], [text("")]), "inputs[1].content[0].text", "empty string"),
        (inputs([{"type": "text"}]), "inputs[0].content[0].text", "not null"),
        (inputs([{"type": "sound"}]), "inputs[0].content[0].type", "one of text, image_url"),
        (inputs(["a"]), "inputs[0].content[0]", "must be an object, not a string"),
        (inputs([{**text("a"), "x": 1}]), "inputs[0].content[0].x", "Unknown parameter"),
        ({"texts": None, "inputs": ["a"]}, "inputs[0]", "an object with 'content'"),
        ({"texts": None, "inputs": [{"texts": []}]}, "inputs[0].texts", "Unknown parameter"),
        (
            inputs([text("a"), {"type": "image_url", "image_url": {"url": "data:"}}]),
            "inputs[0].content[1]",
            "is an image: images are not embedded here",
        ),
        (
            inputs([{"type": "image", "image": "data:"}]),
            "inputs[0].content[0]",
            "is an image: images are not embedded here",
        ),
    ],
)
def test_a_bad_field_is_named_with_what_is_allowed(
    fields: dict[str, Any], field: str, words: str
) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        parse(**fields)
    assert refusal.value.field == field
    assert words in refusal.value.message


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"texts=a",
        b'{"texts": ["\\ud800"]}',
        b'{"output_dimension": NaN}',
        b'{"texts": ' + b"[" * 9_000 + b" " * 100_000,
        b'{"texts": "' + b"\xff" + b'"}',
    ],
)
def test_a_body_that_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="not valid JSON"):
        V2_DIALECT.parse(body, SCOPE)


def test_a_large_body_is_read_like_a_small_one_and_refused_before_it_is_made() -> None:
    words = "word " * 30_000
    assert parse(**inputs([text(words), text("end")])).request.texts == (f"{words}\nend",)
    body = json.dumps({**BASE, "texts": [0] * 500_000}).encode()
    started = time.thread_time()
    with pytest.raises(InvalidRequest, match="Expected `str`, got `int`"):
        V2_DIALECT.parse(body, SCOPE)
    assert time.thread_time() - started < 0.5


def test_v1_has_defaults_where_v2_insists() -> None:
    request = parse_v1(model=None, input_type=None).request
    assert (request.model_id, request.input_type) == (None, "search_document")


@pytest.mark.parametrize("name", ["output_dimension", "max_tokens", "inputs", "priority"])
def test_v1_has_none_of_the_parameters_of_v2(name: str) -> None:
    with pytest.raises(InvalidRequest, match=f"Unknown parameter: '{name}'"):
        parse_v1(**{name: 1})


def test_v1_has_no_base64() -> None:
    with pytest.raises(InvalidRequest, match="binary, ubinary, not 'base64'"):
        parse_v1(embedding_types=["base64"])


def test_v2_answers_by_type_from_one_pass() -> None:
    types = [*EMBEDDING_TYPES, "base64"]
    parsed = parse(embedding_types=types)
    made = make_embeddings(*parsed.request.embedding_types)
    body = json.loads(parsed.render(made).body)
    assert body["response_type"] == "embeddings_by_type"
    assert body["id"] == "request-1"
    assert body["texts"] == ["hello", "world"]
    assert body["meta"] == {"api_version": {"version": "2"}, "billed_units": {"input_tokens": 8}}
    assert list(body["embeddings"]) == types
    for kind in EMBEDDING_TYPES:
        rows = np.array(body["embeddings"][kind], dtype=made.typed(kind).dtype)
        assert np.array_equal(rows, made.typed(kind))
    packed = [np.frombuffer(base64.b64decode(row), "<f4") for row in body["embeddings"]["base64"]]
    assert np.array_equal(np.stack(packed), made.vectors)


def test_base64_alone_is_made_from_floats() -> None:
    parsed = parse(embedding_types=["base64"])
    assert parsed.request.embedding_types == ("float",)
    assert list(answer(parsed)["embeddings"]) == ["base64"]


def test_v1_answers_floats_unless_types_are_asked_for() -> None:
    floats = answer(parse_v1())
    assert floats["response_type"] == "embeddings_floats"
    assert np.array(floats["embeddings"]).shape == (2, 384)
    assert floats["meta"]["api_version"] == {"version": "1"}
    by_type = answer(parse_v1(embedding_types=["float"]))
    assert by_type["response_type"] == "embeddings_by_type"
    assert by_type["embeddings"] == {"float": floats["embeddings"]}


def test_inputs_are_not_echoed_as_texts() -> None:
    assert answer(parse(**inputs([text("a")], [text("b")])))["texts"] == []


def test_what_was_cut_is_in_the_warnings_and_the_header() -> None:
    parsed = parse(truncate="START")
    made = make_embeddings("float", whole_lengths=(4, 9))
    response = parsed.render(made)
    warning = "texts[1] has 9 tokens and was cut at its start to 4"
    assert json.loads(response.body)["meta"]["warnings"] == [warning]
    assert response.headers["x-truncated-inputs"] == "1"


def said(error: Exception) -> tuple[int, str]:
    failure = describe(error)
    cause = Failure(status=failure.status, message=failure.message, code=failure.code, cause=error)
    response = V2_DIALECT.render_failure(cause, "request-1")
    body = json.loads(response.body)
    assert set(body) == {"id", "message"}
    assert body["id"] == "request-1"
    return response.status, body["message"]


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (MissingKey(), 401, "no api key supplied"),
        (InvalidKey(), 401, "invalid api token"),
        (
            UnknownModel("xyz", ("m",)),
            404,
            "model 'xyz' not found, make sure the correct model ID was used and that you have "
            "access to the model.",
        ),
        (
            TooManyInputs("texts", 97, 96),
            400,
            "invalid request: total number of texts must be at most 96 - received 97",
        ),
        (
            InvalidRequest("'texts' must be that.", "texts"),
            400,
            "invalid request: 'texts' must be that.",
        ),
    ],
)
def test_failures_are_told_in_coheres_words(error: Exception, status: int, words: str) -> None:
    found, message = said(error)
    assert found == status
    assert message.startswith(words)
