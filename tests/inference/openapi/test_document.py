"""The document: a valid one, which has every route, parameter, status and code, and no others."""

import ast
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import jsonschema
import openapi_spec_validator
import pytest
from redis.exceptions import RedisError

import inference
from billing.prices import ModelHasNoPrice, PlanHasNoPrice
from billing.rate_limits import (
    Cap,
    LimiterUnavailable,
    Limits,
    RateLimitExceeded,
    RequestExceedsLimit,
    SpendCapReached,
    Standing,
)
from inference import errors, token_views, usage_views
from inference.authentication import Caller, InvalidKey, KeysUnavailable, MissingKey, WrongRegion
from inference.aws_authentication import ContainerKeyInvalid
from inference.calibration import InvalidCalibration
from inference.catalogue import ModelNotInstalled, UnknownModel, load_catalogue
from inference.dialects import cohere, openai, sagemaker
from inference.dialects.json_bodies import InvalidRequest
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
from inference.errors import MethodNotAllowed, describe
from inference.http import (
    BodyTooLarge,
    BodyTooSlow,
    ClientDisconnected,
    UnknownPath,
    UnsupportedEncoding,
)
from inference.idempotency import (
    AnswersUnavailable,
    IdempotencyKeyInUse,
    IdempotencyKeyReused,
    InvalidIdempotencyKey,
    TooMuchKept,
)
from inference.lanes import Overloaded, TooMuchWaiting
from inference.model_views import ModelNotCalibrated, UnknownAddon
from inference.openapi import refusals
from inference.openapi.document import document
from inference.quantization import VectorsNotFinite
from inference.upstream.calls import UpstreamFailed, UpstreamRejected, UpstreamUnavailable
from inference.urls import ROUTES, dialect_of

DOCS = Path(__file__).parents[3] / "docs"
HOP_BY_HOP = {"connection"}
MODEL = load_catalogue()["all-minilm-l6-v2"]
LIMITS = Limits(requests=1, tokens=9)
STANDING = Standing(limits=LIMITS, used_requests=1, used_tokens=8, reset_s=1, asked_at=0)
CALLER = cast(Caller, SimpleNamespace(plan_name="heroku-inference:small", model_id=MODEL.id))

# One or more of each exception in the table of inference/errors.py.
FAILURES: list[Exception] = [
    InvalidRequest("'input' must be that.", "input"),
    InvalidRequest("'input' is required.", "input", "missing_required_parameter"),
    InvalidRequest("Unknown parameter: 'x'.", "x", "unknown_parameter"),
    MissingKey(),
    InvalidKey(),
    UnknownModel("x", (MODEL.id,)),
    ModelNotInstalled(MODEL),
    ModelNotCalibrated(MODEL),
    UnknownAddon(),
    ModelNotInPlan("x", CALLER),
    TooManyInputs("input", 97, 96),
    TooManyCharacters("input[0]", 2049, 2048),
    InputTooLong("input[0]", 9, 8),
    MaxTokensTooLow("max_tokens", 3),
    TooManyTokens("input", 9, 8),
    DimensionNotOffered("dimensions", 7, MODEL),
    TypeNotOffered("embedding_type", "int8", 7, MODEL),
    RequestExceedsLimit("tokens", tokens=9, limits=LIMITS),
    RateLimitExceeded("requests", asked=1, standing=STANDING, retry_after_s=3),
    RateLimitExceeded("tokens", asked=2, standing=STANDING, retry_after_s=3),
    RateLimitExceeded("concurrent requests", asked=1, standing=STANDING, retry_after_s=1),
    SpendCapReached(
        Cap(scope="app", scope_id="shop", limit_microunits=2_000_000),
        spent_picounits=1_999_999_999_999,
        asked_picounits=2,
        resets_at=datetime(2026, 12, 1, tzinfo=UTC),
        standing=STANDING,
    ),
    ModelHasNoPrice("the plan has none"),
    PlanHasNoPrice("none is in force"),
    InvalidIdempotencyKey(),
    IdempotencyKeyReused(),
    IdempotencyKeyInUse(),
    TooMuchKept(1, 30),
    BodyTooLarge(1),
    BodyTooSlow(),
    UnsupportedEncoding("gzip"),
    WrongRegion("eu"),
    UnknownPath("/v1/x"),
    ClientDisconnected(),
    MethodNotAllowed("PUT", "POST"),
    WorkerUnavailable(MODEL.id, "no worker"),
    UpstreamUnavailable(MODEL.id, "it is down"),
    LimiterUnavailable(),
    LedgerUnavailable(),
    KeysUnavailable(),
    AnswersUnavailable(),
    RedisError(),
    ContainerKeyInvalid(),
    TooMuchWaiting(wait_s=9, retry_after_s=3),
    Overloaded(wait_s=9, retry_after_s=3),
    UpstreamRejected(MODEL.id, 400),
    UpstreamFailed(MODEL.id),
    EncodeFailed((1,)),
    InvalidCalibration(DOCS, "it is damaged"),
    VectorsNotFinite((1,)),
    ZeroDivisionError(),
]


def pair(failure: Any) -> tuple[int, str | None]:
    return failure.status, failure.code


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in document()["paths"].items():
        for operation in item.values():
            yield path, operation


def validator(schema: dict[str, Any]) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator({**schema, "components": document()["components"]})


def check(response: dict[str, Any], headers: dict[str, str], body: bytes) -> None:
    """That an answer is as the response says: its headers, all of them, and its body."""
    named = {name.lower(): header for name, header in response["headers"].items()}
    required = {name for name, header in named.items() if header.get("required")}
    plain = {"content-type", "content-length", *HOP_BY_HOP}
    assert required <= headers.keys() <= named.keys() | plain
    if "content" in response:
        media_type = headers["content-type"].partition(";")[0]
        value = json.loads(body) if media_type == "application/json" else body.decode()
        validator(response["content"][media_type]["schema"]).validate(value)
    else:
        assert body == b""


def test_it_is_a_document_of_openapi() -> None:
    openapi_spec_validator.validate(document())


async def test_it_is_answered_without_a_key(client: httpx.AsyncClient) -> None:
    response = await client.get("/openapi.json")
    assert response.json()["openapi"] == "3.1.0"
    check(
        document()["paths"]["/openapi.json"]["get"]["responses"]["200"],
        dict(response.headers),
        response.content,
    )


def test_every_route_is_in_it_and_no_other() -> None:
    routes = {(route.path, method.lower()) for route in ROUTES for method in route.views}
    paths = document()["paths"]
    assert {(path, method) for path, item in paths.items() for method in item} == routes


@pytest.mark.parametrize(
    ("schema", "names"),
    [
        ("EmbeddingsRequest", openai.PARAMETERS),
        ("TokenizeRequest", token_views.PARAMETERS),
        ("EmbedV2Request", cohere.V2_PARAMETERS),
        ("EmbedV1Request", cohere.V1_PARAMETERS),
        ("InvocationRequest", sagemaker.PARAMETERS),
    ],
)
def test_every_parameter_is_in_it_and_no_other(schema: str, names: tuple[str, ...]) -> None:
    assert set(document()["components"]["schemas"][schema]["properties"]) == set(names)


def test_every_parameter_of_usage_is_in_it_and_no_other() -> None:
    operation = document()["paths"]["/v1/usage"]["get"]
    assert [parameter["name"] for parameter in operation["parameters"]] == list(
        usage_views.PARAMETERS
    )


def test_the_failures_here_are_all_that_the_table_of_errors_has() -> None:
    tree = ast.parse(Path(errors.__file__).read_text())
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    (table,) = [function for function in functions if function.name == "describe"]
    named = {ast.unparse(node.cls) for node in ast.walk(table) if isinstance(node, ast.MatchClass)}
    assert named == {type(failure).__name__ for failure in FAILURES} - {"ZeroDivisionError"}


def test_the_codes_here_are_all_that_invalid_requests_have() -> None:
    files = Path(inference.__file__).parent.rglob("*.py")
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text()))]
    codes = {
        ast.literal_eval(node.args[2])
        for node in nodes
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "InvalidRequest"
        if len(node.args) == 3
    }
    here = {failure.code for failure in FAILURES if isinstance(failure, InvalidRequest)}
    assert codes == here - {None}


def test_every_status_and_code_is_in_it_and_no_other() -> None:
    given = {pair(describe(failure)) for failure in FAILURES}
    assert {pair(refusal) for refusal in refusals.REFUSALS} == given


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: repr(failure)[:40])
def test_every_failure_is_rendered_as_documented(failure: Exception) -> None:
    described = describe(failure)
    found = 0
    for path, operation in operations():
        rendered = dialect_of(path).render_failure(described, "request-1")
        response = operation["responses"].get(str(rendered.status))
        said = (f"`{described.code}`" if described.code else "") in str(response)
        if response is not None and said:
            always = {"x-request-id": "request-1", "openai-processing-ms": "1"}
            sent = {"content-type": "application/json", **rendered.headers, **always}
            check(response, sent, rendered.body)
            found += 1
    assert found


def documented_errors(*pages: str) -> set[tuple[int, str | None]]:
    """The statuses and codes in the tables of errors of the pages."""
    found: set[tuple[int, str | None]] = set()
    for page in pages:
        text = (DOCS / page).read_text().partition("\n## Errors\n")[2].partition("\n## ")[0]
        for status, codes in re.findall(r"^\| (\d{3}) \|([^|]*)\|", text, re.MULTILINE):
            found |= {(int(status), code) for code in re.findall(r"`(\w+)`", codes) or [None]}
    return found


def test_the_pages_tables_have_every_status_and_code_and_no_other() -> None:
    tables = documented_errors("embeddings.md", "idempotency.md")
    # What only routes that compute nothing are refused for.
    elsewhere = {pair(refusal) for refusal in (*refusals.CALIBRATED, *refusals.ADDON)}
    assert {pair(refusal) for refusal in refusals.REFUSALS} - elsewhere == tables
    assert "404 `model_not_calibrated`" in (DOCS / "models.md").read_text()
    assert "404 `addon_not_found`" in (DOCS / "models.md").read_text()
