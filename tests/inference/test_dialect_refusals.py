"""What every dialect refuses, in its own shape: a clear 4xx, nothing billed, nothing reserved."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from pytest_django import Settings
from redis.asyncio import Redis

from addon.provider import credentials
from billing.models import Plan
from inference.database import run_in_database_thread
from tests.inference.conftest import MODEL_ID, Attach
from tests.inference.test_refusals import assert_nothing_happened


def openai_message(answer: dict[str, Any]) -> str:
    assert set(answer["error"]) == {"message", "type", "param", "code"}
    return str(answer["error"]["message"])


def cohere_message(answer: dict[str, Any]) -> str:
    assert set(answer) == {"id", "message"}
    return str(answer["message"])


def runtime_message(answer: dict[str, Any]) -> str:
    assert set(answer) == {"Message", "OriginalStatusCode", "OriginalMessage"}
    assert 400 <= answer["OriginalStatusCode"] < 500
    return cohere_message(json.loads(answer["OriginalMessage"]))


@dataclass(frozen=True, kw_only=True)
class Route:
    path: str
    texts: str  # what the field is called
    body: dict[str, Any]
    message: Callable[[dict[str, Any]], str]
    dimension: str | None = None
    status: int = 400


V2 = {"texts": ["a"], "input_type": "search_query"}
ROUTES = [
    Route(
        path="/v1/embeddings",
        texts="input",
        body={"model": MODEL_ID, "input": ["a"]},
        message=openai_message,
        dimension="dimensions",
    ),
    Route(
        path="/v1/tokenize",
        texts="input",
        body={"model": MODEL_ID, "input": ["a"]},
        message=openai_message,
    ),
    Route(
        path="/v2/embed",
        texts="texts",
        body={**V2, "model": MODEL_ID},
        message=cohere_message,
        dimension="output_dimension",
    ),
    Route(path="/v1/embed", texts="texts", body=V2, message=cohere_message),
    Route(
        path="/invocations",
        texts="texts",
        body=V2,
        message=cohere_message,
        dimension="output_dimension",
    ),
    Route(
        path=f"/endpoints/{MODEL_ID}/invocations",
        texts="texts",
        body=V2,
        message=runtime_message,
        dimension="output_dimension",
        status=424,
    ),
]
routes = pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)


async def refuse(
    client: httpx.AsyncClient, attach: Attach, route: Route, body: bytes, words: str
) -> None:
    key = (await attach()).key
    response = await client.post(
        route.path, content=body, headers={"authorization": f"Bearer {key}"}
    )
    assert response.status_code == route.status, response.text
    assert words in route.message(response.json())
    assert response.headers["x-request-id"]


@routes
@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["a"] * 97, "97"),
        (["a", "b" * 8_193], "[1]' must have at most 8192 characters, not 8193"),
        (["a", ""], "1"),
        (["a", "\0b"], "[1]' must not hold the character NUL"),
        (["a" * 1_000_000], "[0]' must have at most 8192 characters, not 1000000"),
        ([], "at least one"),
        ([["a", "b"]], "[0]"),
        ({"a": "b"}, "not an object"),
        (["a", None], "[1]' must be a string, not null"),
        (7, "not a number"),
    ],
    ids=lambda value: repr(value)[:20],
)
async def test_bad_texts(
    client: httpx.AsyncClient,
    attach: Attach,
    redis: Redis,
    route: Route,
    texts: Any,
    words: str,
) -> None:
    body = json.dumps({**route.body, route.texts: texts}).encode()
    await refuse(client, attach, route, body, words)
    await assert_nothing_happened(redis)


@routes
@pytest.mark.parametrize(
    ("value", "words"),
    [
        (b'["\\ud800"]', "not valid JSON"),
        (b'["\\udc00\\ud800"]', "not valid JSON"),
        (b"[" * 50_000, "not valid JSON"),
        (b'{"a":' * 5_000, "not valid JSON"),
        (b'["\xff"]', "not valid JSON"),
        (b"NaN", "not valid JSON"),
    ],
    ids=lambda value: repr(value)[:20],
)
async def test_bad_json(
    client: httpx.AsyncClient,
    attach: Attach,
    redis: Redis,
    route: Route,
    value: bytes,
    words: str,
) -> None:
    body = json.dumps({**route.body, route.texts: "HERE"}).encode().replace(b'"HERE"', value)
    await refuse(client, attach, route, body, words)
    await assert_nothing_happened(redis)


@pytest.mark.parametrize(
    "route", [route for route in ROUTES if route.dimension], ids=lambda route: route.path
)
@pytest.mark.parametrize(
    ("value", "words"),
    [
        (b"NaN", "not valid JSON"),
        (b"Infinity", "not valid JSON"),
        (b"1e999", ""),
        (b"-1", "at least 1, not -1"),
        (b"0", "at least 1, not 0"),
        (b"1.5", "must be an integer"),
        (b"385", "must be one of 384"),
        (b"128", "must be one of 384"),
        (b"1" * 5_000, ""),
        (b"1" * 4_000, f"not {'1' * 50}."),
        (b"[384]", "not a list"),
    ],
    ids=lambda value: repr(value)[:20],
)
async def test_bad_dimensions(
    client: httpx.AsyncClient,
    attach: Attach,
    redis: Redis,
    route: Route,
    value: bytes,
    words: str,
) -> None:
    body = json.dumps({**route.body, route.dimension: "HERE"}).encode().replace(b'"HERE"', value)
    await refuse(client, attach, route, body, words)
    await assert_nothing_happened(redis)


@pytest.mark.parametrize(
    ("path", "body", "status", "message", "words"),
    [
        ("/v2/embed", {**V2, "model": "gpt-9"}, 404, cohere_message, "model 'gpt-9' not found"),
        ("/v1/embed", {**V2, "model": "gpt-9"}, 404, cohere_message, "model 'gpt-9' not found"),
        ("/v1/tokenize", {"model": "gpt-9", "input": "a"}, 404, openai_message, "'gpt-9'"),
        (
            "/v2/embed",
            {**V2, "model": "bge-m3"},
            404,
            cohere_message,
            "manage.py models install bge-m3",
        ),
        (
            "/v2/embed",
            {**V2, "model": MODEL_ID, "texts": ["a b c d"], "truncate": "NONE", "max_tokens": 3},
            400,
            cohere_message,
            "'texts[0]' has 6 tokens, more than 3",
        ),
        (
            "/v2/embed",
            {
                "model": MODEL_ID,
                "input_type": "search_query",
                "inputs": [{"content": [{"type": "text", "text": "a b c"}]}],
                "max_tokens": 2,
            },
            400,
            cohere_message,
            "'max_tokens' must be at least 3",
        ),
        (
            "/v1/embeddings",
            {"model": MODEL_ID, "input": " ", "max_tokens": 1},
            400,
            openai_message,
            "'max_tokens' must be at least 2",
        ),
    ],
)
async def test_what_the_model_cannot_do(
    client: httpx.AsyncClient,
    attach: Attach,
    redis: Redis,
    path: str,
    body: dict[str, Any],
    status: int,
    message: Callable[[dict[str, Any]], str],
    words: str,
) -> None:
    headers = {"authorization": f"Bearer {(await attach()).key}"}
    response = await client.post(path, json=body, headers=headers)
    assert response.status_code == status
    assert words in message(response.json())
    await assert_nothing_happened(redis)


@pytest.mark.parametrize("path", ["/v2/embed", "/v1/embed", "/invocations"])
async def test_keys_are_asked_for_in_coheres_words(
    client: httpx.AsyncClient, attach: Attach, path: str
) -> None:
    await attach()
    without = await client.post(path, json=V2)
    assert without.status_code == 401
    assert cohere_message(without.json()).startswith("no api key supplied")
    wrong = {"authorization": f"Bearer {credentials.new_key()}"}
    refused = await client.post(path, json=V2, headers=wrong)
    assert refused.status_code == 401
    assert cohere_message(refused.json()).startswith("invalid api token")


async def test_keys_are_asked_for_in_the_runtimes_words(
    client: httpx.AsyncClient, attach: Attach
) -> None:
    await attach()
    path = f"/endpoints/{MODEL_ID}/invocations"
    without = await client.post(path, json=V2)
    assert without.status_code == 403
    assert without.headers["x-amzn-errortype"] == "MissingAuthenticationTokenException"
    signature = f"AWS4-HMAC-SHA256 Credential={credentials.new_key()}/a/b/c, Signature=0"
    wrong = await client.post(path, json=V2, headers={"authorization": signature})
    assert wrong.status_code == 403
    assert wrong.headers["x-amzn-errortype"] == "UnrecognizedClientException"


async def test_an_unknown_endpoint_is_a_validation_error(
    client: httpx.AsyncClient, attach: Attach, redis: Redis
) -> None:
    headers = {"authorization": f"Bearer {(await attach()).key}"}
    response = await client.post("/endpoints/gpt-9/invocations", json=V2, headers=headers)
    assert response.status_code == 400
    assert response.headers["x-amzn-errortype"] == "ValidationError"
    assert "'gpt-9'" in response.json()["Message"]
    await assert_nothing_happened(redis)


@pytest.mark.parametrize("path", ["/invocations", f"/endpoints/{MODEL_ID}/invocations"])
async def test_sagemakers_bodies_have_6_mb(
    client: httpx.AsyncClient, attach: Attach, redis: Redis, path: str
) -> None:
    headers = {"authorization": f"Bearer {(await attach()).key}"}
    response = await client.post(path, content=b" " * (6_291_456 + 1), headers=headers)
    assert response.status_code == 413
    assert "6291456 bytes" in response.text
    await assert_nothing_happened(redis)


async def test_what_is_below_v2_is_answered_by_cohere(client: httpx.AsyncClient) -> None:
    unknown = await client.post("/v2/chat", json={})
    assert unknown.status_code == 404
    assert "POST /v2/embed" in cohere_message(unknown.json())
    for path in ("/v2/embed", "/v1/embed"):
        method = await client.get(path)
        assert (method.status_code, method.headers["allow"]) == (405, "POST")
        assert "POST" in cohere_message(method.json())


async def test_a_rate_limit_says_when_in_coheres_header_too(
    client: httpx.AsyncClient, attach: Attach, redis: Redis
) -> None:
    attachment = await attach()
    await run_in_database_thread(Plan.objects.update, requests_per_minute=1)
    time_s, microseconds = await redis.time()
    subject = f"limits:{{{attachment.resource_id}}}:{attachment.attachment_id}:{MODEL_ID}"
    await redis.zadd(f"{subject}:log", {"earlier:3": (time_s - 20) * 1_000_000 + microseconds})
    await redis.set(f"{subject}:tokens", 3)
    response = await client.post(
        "/v2/embed",
        json={**V2, "model": MODEL_ID},
        headers={"authorization": f"Bearer {attachment.key}"},
    )
    assert response.status_code == 429
    assert response.headers["retry-after"] == "40"
    assert abs(int(response.headers["x-ratelimit-reset"]) - (time_s + 40)) <= 2
    assert "past the per minute request limit" in cohere_message(response.json())


async def test_no_worker_is_no_ping_and_no_invocation(
    client: httpx.AsyncClient, attach: Attach, redis: Redis, settings: Settings
) -> None:
    settings.SAGEMAKER_KEY = (await attach()).key
    ping = await client.get("/ping")
    assert ping.status_code == 503
    assert MODEL_ID in cohere_message(ping.json())
    assert (await client.post("/invocations", json=V2)).status_code == 503
    await assert_nothing_happened(redis)


async def test_a_container_whose_key_is_revoked_says_so(
    client: httpx.AsyncClient, attach: Attach, settings: Settings
) -> None:
    await attach()
    settings.SAGEMAKER_KEY = credentials.new_key()
    for response in (await client.get("/ping"), await client.post("/invocations", json=V2)):
        assert response.status_code == 503
        assert "SAGEMAKER_KEY" in cohere_message(response.json())


async def test_the_containers_key_opens_nothing_else(
    client: httpx.AsyncClient, attach: Attach, settings: Settings
) -> None:
    settings.SAGEMAKER_KEY = (await attach()).key
    for path in ("/v1/embeddings", "/v2/embed", f"/endpoints/{MODEL_ID}/invocations"):
        assert (await client.post(path, json=V2)).status_code in (401, 403)
    wrong = {"authorization": f"Bearer {credentials.new_key()}"}
    assert (await client.post("/invocations", json=V2, headers=wrong)).status_code == 401
