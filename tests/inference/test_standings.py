"""What a refused caller is told of its limits, whatever it was refused for."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from pytest_django import Settings
from redis.asyncio import Redis

from billing.models import Plan
from billing.redis_connection import RedisConnection
from inference import asgi
from inference.asgi import InferenceApplication
from inference.database import run_in_database_thread
from inference.dispatch import Dispatcher, EncodeFailed, WorkerUnavailable
from inference.embedding_requests import TooManyTokens
from inference.embeddings import LedgerUnavailable
from inference.lanes import Overloaded, TooMuchWaiting
from inference.openapi.document import document
from inference.openapi.refusals import RATE_LIMITS
from inference.upstream.calls import UpstreamFailed
from tests.inference.conftest import MODEL_ID, Attach, Attachment
from tests.inference.openapi.test_document import check
from tests.inference.test_failures import vectors_come
from tests.inference.test_rate_limits import BODIES, HELLO_TOKENS, override

__all__ = ["vectors_come"]

pytestmark = pytest.mark.usefixtures("vectors_come")

OTHER_MODEL_ID = "bge-m3"  # known, and not installed
RUNTIME = f"/endpoints/{MODEL_ID}/invocations"
paths = pytest.mark.parametrize("path", [path for path in BODIES if path != RUNTIME])


async def ask(
    client: httpx.AsyncClient,
    attachment: Attachment,
    path: str = "/v1/embeddings",
    content: Any = None,
    **fields: Any,
) -> httpx.Response:
    """The body of the path with other fields, or `content` in its place."""
    headers = {"authorization": f"Bearer {attachment.key}", **fields.pop("headers", {})}
    if content is not None:
        return await client.post(path, content=content, headers=headers)
    body: Any = BODIES[path]
    return await client.post(path, json={**body, **fields}, headers=headers)


def assert_stands(
    response: httpx.Response, *, used_requests: int = 1, used_tokens: int = HELLO_TOKENS
) -> None:
    """That the answer says so, and that limits with room for more ask nobody to wait."""
    headers = response.headers
    assert headers["x-ratelimit-limit-requests"] == "500"
    assert headers["x-ratelimit-limit-tokens"] == "800000"
    assert headers["x-ratelimit-remaining-requests"] == str(500 - used_requests)
    assert headers["x-ratelimit-remaining-tokens"] == str(800_000 - used_tokens)
    reset = headers["x-ratelimit-reset-requests"]
    assert reset == headers["x-ratelimit-reset-tokens"]
    assert reset.startswith(("59", "58", "1m0s") if used_requests else "0ms")
    if "retry-after-ms" not in headers:
        assert int(headers["x-ratelimit-reset"]) <= time.time()
    path = response.request.url.path.replace(MODEL_ID, "{name}")
    described = document()["paths"][path]["post"]["responses"][str(response.status_code)]
    check(described, dict(headers), response.content)


def assert_says_nothing(response: httpx.Response) -> None:
    assert not response.headers.keys() & set(RATE_LIMITS)


@paths
@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"input": [], "texts": []}, 400),
        ({"content": b"{"}, 400),
        ({"headers": {"idempotency-key": "\t"}}, 400),
        ({"headers": {"content-encoding": "gzip"}}, 415),
    ],
)
async def test_a_wrong_request_is_told(
    client: httpx.AsyncClient, attach: Attach, path: str, fields: dict[str, Any], status: int
) -> None:
    attachment = await attach()
    assert (await ask(client, attachment, path)).status_code == 200
    response = await ask(client, attachment, path, **fields)
    assert response.status_code == status
    assert_stands(response)


@paths
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (TooManyTokens("input", 9, 8), 400),
        (TooMuchWaiting(wait_s=9, retry_after_s=3), 429),
        (EncodeFailed((0,)), 500),
        (ZeroDivisionError(), 500),
        (UpstreamFailed(MODEL_ID), 502),
        (Overloaded(wait_s=9, retry_after_s=3), 503),
        (WorkerUnavailable(MODEL_ID, "no worker"), 503),
        (LedgerUnavailable(), 503),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_what_fails_is_told_once_its_share_is_given_back(
    client: httpx.AsyncClient,
    attach: Attach,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    error: Exception,
    status: int,
) -> None:
    async def fail(*_: Any, **__: Any) -> None:
        raise error

    attachment = await attach()
    assert (await ask(client, attachment, path)).status_code == 200
    monkeypatch.setattr(Dispatcher, "encode", fail)
    response = await ask(client, attachment, path)
    assert response.status_code == status
    assert_stands(response)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (TooManyTokens("texts", 9, 8), 424),
        (TooMuchWaiting(wait_s=9, retry_after_s=3), 429),
        (WorkerUnavailable(MODEL_ID, "no worker"), 503),
    ],
)
async def test_the_runtime_tells_it_too(
    client: httpx.AsyncClient,
    attach: Attach,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    status: int,
) -> None:
    async def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(Dispatcher, "encode", fail)
    response = await ask(client, await attach(), RUNTIME)
    assert response.status_code == status
    assert_stands(response, used_requests=0, used_tokens=0)


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v2/embed"])
async def test_a_body_that_is_too_large_or_too_slow_is_told(
    client: httpx.AsyncClient, attach: Attach, settings: Settings, path: str
) -> None:
    async def slowly() -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0.05)

    settings.REQUEST_TIMEOUT_S, settings.REQUEST_BODY_MAX_BYTES = 0.2, 100
    attachment = await attach()
    for content, status in ((b" " * 101, 413), (slowly(), 408)):
        response = await ask(client, attachment, path, content)
        assert response.status_code == status
        assert_stands(response, used_requests=0, used_tokens=0)


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v2/embed"])
async def test_a_key_that_was_used_for_another_request_is_told(
    client: httpx.AsyncClient, attach: Attach, path: str
) -> None:
    attachment, once = await attach(), {"idempotency-key": "k"}
    assert (await ask(client, attachment, path, headers=once)).status_code == 200
    response = await ask(client, attachment, path, max_tokens=9, headers=once)
    assert response.status_code == 409
    assert_stands(response)


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v2/embed"])
async def test_a_request_that_never_fits_is_told_the_limits(
    client: httpx.AsyncClient, attach: Attach, path: str
) -> None:
    attachment = await attach()
    await override(attachment, tokens_per_minute=2)
    response = await ask(client, attachment, path)
    assert response.status_code == 400
    assert response.headers["x-ratelimit-limit-tokens"] == "2"
    assert response.headers["x-ratelimit-remaining-tokens"] == "2"


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v2/embed"])
@pytest.mark.parametrize(
    ("model", "fields", "status", "limit"),
    [
        (OTHER_MODEL_ID, {}, 404, "7"),
        (OTHER_MODEL_ID, {"nonsense": 1}, 400, "7"),
        ("gpt-9", {}, 404, "500"),
        (3, {}, 400, "500"),
        (None, {}, 400, "500"),
    ],
)
async def test_the_standing_is_that_with_the_model_asked_for_or_else_with_the_plans(
    client: httpx.AsyncClient,
    attach: Attach,
    path: str,
    model: Any,
    fields: dict[str, Any],
    status: int,
    limit: str,
) -> None:
    attachment = await attach()
    await override(attachment, model_id=OTHER_MODEL_ID, requests_per_minute=7)
    assert (await ask(client, attachment, path)).status_code == 200
    response = await ask(client, attachment, path, model=model, **fields)
    assert response.status_code == status
    headers = response.headers
    assert headers["x-ratelimit-limit-requests"] == limit
    assert headers["x-ratelimit-remaining-requests"] == ("7" if limit == "7" else "499")


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v2/embed"])
async def test_a_model_that_the_plan_does_not_serve_is_told_of_the_one_that_it_does(
    client: httpx.AsyncClient, attach: Attach, path: str
) -> None:
    attachment = await attach()
    await run_in_database_thread(
        Plan.objects.filter(slug="standard").update, serves_all_models=False, model_id=MODEL_ID
    )
    assert (await ask(client, attachment, path)).status_code == 200
    response = await ask(client, attachment, path, model=OTHER_MODEL_ID)
    assert response.status_code == 403
    assert_stands(response)


async def test_with_limits_that_are_used_up_a_refusal_says_when_they_are_not(
    client: httpx.AsyncClient, attach: Attach
) -> None:
    attachment = await attach()
    await override(attachment, requests_per_minute=1)
    assert (await ask(client, attachment)).status_code == 200
    response = await ask(client, attachment, input=[])
    assert response.status_code == 400
    assert response.headers["x-ratelimit-remaining-requests"] == "0"
    assert abs(int(response.headers["x-ratelimit-reset"]) - time.time() - 60) <= 2


async def test_nobody_is_told_of_the_limits_before_the_caller_is_known(
    client: httpx.AsyncClient, attach: Attach
) -> None:
    await attach()
    for path, body in BODIES.items():
        for response in (
            await client.post(path, json=body),
            await client.post(path, json=body, headers={"authorization": "Bearer x"}),
            await client.get(path),
        ):
            assert response.status_code in (401, 403, 405)
            assert_says_nothing(response)


async def test_answers_and_refusals_of_the_limiter_ask_nothing_more(
    client: httpx.AsyncClient, attach: Attach, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: Any) -> None:
        raise AssertionError("asked")

    monkeypatch.setattr(asgi, "find_standing", never)
    attachment = await attach()
    await override(attachment, requests_per_minute=1)
    answers = [await ask(client, attachment) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]


async def test_without_redis_a_refusal_says_nothing_of_the_limits(
    client: httpx.AsyncClient,
    attach: Attach,
    application: InferenceApplication,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    attachment = await attach()
    nowhere = RedisConnection(Redis.from_url("redis://127.0.0.1:1"))
    monkeypatch.setattr(application._limiter, "_connection", nowhere)
    response = await ask(client, attachment, input=[])
    assert response.status_code == 400
    assert_says_nothing(response)


async def test_a_refusal_does_not_wait_for_a_redis_that_hangs(
    client: httpx.AsyncClient, attach: Attach, redis: Redis
) -> None:
    attachment = await attach()
    assert (await ask(client, attachment)).status_code == 200
    await redis.client_pause(20_000, all=False)  # what writes; unpausing goes through
    started = time.monotonic()
    response = await ask(client, attachment, input=[])
    assert time.monotonic() - started < 10
    await redis.client_unpause()
    assert response.status_code == 400
    assert_says_nothing(response)
