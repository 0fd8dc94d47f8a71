"""What the embeddings API refuses: a clear 4xx or 503, nothing billed, nothing reserved."""

import asyncio
import json
import os
import time
from typing import Any

import httpx
import pytest
from django.utils import timezone
from pytest_django import Settings
from redis import Redis as SyncRedis
from redis.asyncio import Redis

from addon.provider import credentials
from addon.provider.provisioning import deprovision, detach
from billing.models import Plan, UsageEvent
from billing.plans import SHARED_POOL
from inference import presence
from inference.catalogue import queue_name
from inference.database import run_in_database_thread
from inference.pools import pool_name
from tests.inference.conftest import MODEL_ID, Attach

GOOD = {"model": MODEL_ID, "input": "hello"}


async def post(
    client: httpx.AsyncClient, key: str | None, body: object = None, **kwargs: Any
) -> httpx.Response:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    content = body if isinstance(body, bytes) else json.dumps(GOOD if body is None else body)
    return await client.post("/v1/embeddings", content=content, headers=headers, **kwargs)


async def assert_nothing_happened(redis: Redis) -> None:
    assert await run_in_database_thread(UsageEvent.objects.count) == 0
    for key in await redis.keys("limits:*log"):
        assert await redis.zcard(key) == 0
    for key in await redis.keys("limits:*leases"):
        assert await redis.zcard(key) == 0
    for key in await redis.keys("limits:*tokens"):
        assert int(await redis.get(key) or 0) == 0


def error_of(response: httpx.Response) -> dict[str, Any]:
    error: dict[str, Any] = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert response.headers["x-request-id"]
    return error


async def test_no_key(client: httpx.AsyncClient, attach: Attach, redis: Redis) -> None:
    response = await post(client, None)
    assert response.status_code == 401
    assert "Authorization: Bearer" in error_of(response)["message"]
    await assert_nothing_happened(redis)


@pytest.mark.parametrize("header", ["Basic abc", "Bearer", "Bearer ", "", "inf_abc"])
async def test_a_header_without_a_bearer_key(
    client: httpx.AsyncClient, attach: Attach, header: str
) -> None:
    response = await client.post("/v1/embeddings", json=GOOD, headers={"authorization": header})
    assert response.status_code == 401
    assert error_of(response)["code"] == "missing_api_key"


async def test_a_path_writes_no_lines_of_its_own_into_the_log(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="inference.asgi"):
        await client.get("/v1/models/x%0AINFO forged")
    assert "GET /v1/models/x%0AINFO%20forged 401" in caplog.text
    assert all("\n" not in record.getMessage() for record in caplog.records)


async def test_a_wrong_key(client: httpx.AsyncClient, attach: Attach, redis: Redis) -> None:
    key = (await attach()).key
    for wrong in ("nonsense", key[:-1] + ("a" if key[-1] != "a" else "b"), credentials.new_key()):
        response = await post(client, wrong)
        assert response.status_code == 401
        assert error_of(response)["code"] == "invalid_api_key"
        assert wrong not in response.text
    await assert_nothing_happened(redis)


async def test_a_key_is_refused_soon_after_its_attachment_is_detached(
    client: httpx.AsyncClient, attach: Attach, settings: Settings
) -> None:
    settings.KEY_CACHE_S = 0.3
    attachment = await attach()
    assert (await post(client, attachment.key)).status_code == 503  # known, but no worker
    await run_in_database_thread(
        detach, attachment.resource_id, attachment.attachment_id, timezone.now()
    )
    await asyncio.sleep(0.35)
    response = await post(client, attachment.key)
    assert response.status_code == 401
    assert "detached" in error_of(response)["message"]


async def test_a_key_is_refused_after_its_resource_is_deprovisioned(
    client: httpx.AsyncClient, attach: Attach
) -> None:
    attachment = await attach()
    await run_in_database_thread(deprovision, attachment.resource_id, timezone.now())
    assert (await post(client, attachment.key)).status_code == 401


async def test_an_unknown_model_lists_the_known(
    client: httpx.AsyncClient, attach: Attach, redis: Redis
) -> None:
    response = await post(client, (await attach()).key, {"model": "gpt-9", "input": "x"})
    assert response.status_code == 404
    error = error_of(response)
    assert (error["param"], error["code"]) == ("model", "model_not_found")
    assert MODEL_ID in error["message"]
    await assert_nothing_happened(redis)


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        (b"{", None, "not valid JSON"),
        (b"", None, "not valid JSON"),
        ({"model": MODEL_ID, "input": []}, "input", "at least one"),
        ({"model": MODEL_ID, "input": ["x"] * 97}, "input", "at most 96 texts, not 97"),
        ({"model": MODEL_ID, "input": ["x", 3]}, "input[1]", "a number"),
        ({"model": MODEL_ID, "input": ["x" * 8_193]}, "input[0]", "at most 8192 characters"),
        ({"model": 3, "input": "x"}, "model", "a number"),
    ],
)
async def test_a_bad_body_names_the_field(
    client: httpx.AsyncClient,
    attach: Attach,
    redis: Redis,
    body: object,
    param: str | None,
    words: str,
) -> None:
    response = await post(client, (await attach()).key, body)
    assert response.status_code == 400
    error = error_of(response)
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert words in error["message"]
    await assert_nothing_happened(redis)


async def test_a_body_over_the_limit(
    client: httpx.AsyncClient, attach: Attach, redis: Redis, settings: Settings
) -> None:
    settings.REQUEST_BODY_MAX_BYTES = 1000
    key = (await attach()).key
    declared = await post(client, key, b"x" * 1001)
    assert declared.status_code == 413
    assert "at most 1000 bytes" in error_of(declared)["message"]

    async def chunks() -> Any:
        for _ in range(20):
            yield b"x" * 100

    streamed = await client.post(
        "/v1/embeddings", content=chunks(), headers={"authorization": f"Bearer {key}"}
    )
    assert streamed.status_code == 413
    await assert_nothing_happened(redis)


async def test_a_body_that_never_ends_is_given_up(
    client: httpx.AsyncClient, attach: Attach, settings: Settings
) -> None:
    settings.REQUEST_TIMEOUT_S = 0.3
    key = (await attach()).key

    async def chunks() -> Any:
        while True:
            yield b" "
            await asyncio.sleep(0.05)

    response = await client.post(
        "/v1/embeddings", content=chunks(), headers={"authorization": f"Bearer {key}"}
    )
    assert response.status_code == 408
    assert error_of(response)["code"] == "body_too_slow"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_a_wrong_method_names_the_right_one(client: httpx.AsyncClient, method: str) -> None:
    response = await client.request(method, "/v1/embeddings")
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"
    assert "Allowed: POST" in error_of(response)["message"]


async def test_other_paths_are_not_ours(client: httpx.AsyncClient) -> None:
    assert (await client.get("/apps")).status_code == 418


async def test_no_worker_is_a_503_at_once_with_a_time_to_retry(
    client: httpx.AsyncClient, attach: Attach, redis: Redis, settings: Settings
) -> None:
    started = time.monotonic()
    response = await post(client, (await attach()).key)
    assert response.status_code == 503
    assert time.monotonic() - started < settings.REQUEST_TIMEOUT_S / 2
    assert int(response.headers["retry-after"]) > 0
    assert "Nothing was billed" in error_of(response)["message"]
    await assert_nothing_happened(redis)


async def test_a_silent_worker_is_a_503_at_the_deadline(
    client: httpx.AsyncClient, attach: Attach, redis: Redis, settings: Settings
) -> None:
    """It announced itself a moment ago and then died: the request waits no longer than it may."""
    settings.REQUEST_TIMEOUT_S = 0.5
    report = presence.Report(token_budget=1_000, tokens_per_s=1_000.0)
    with SyncRedis.from_url(os.environ["REDIS_URL"]) as announcing:
        presence.announce(
            announcing, queue_name(MODEL_ID, pool_name("us", SHARED_POOL)), "dead", report
        )
    started = time.monotonic()
    response = await post(client, (await attach()).key)
    assert response.status_code == 503
    assert 0.4 < time.monotonic() - started < 12
    assert response.headers["retry-after"]
    await assert_nothing_happened(redis)


async def test_over_the_limit_is_a_429_that_says_when(
    client: httpx.AsyncClient, attach: Attach, redis: Redis
) -> None:
    attachment = await attach()
    await run_in_database_thread(Plan.objects.update, requests_per_minute=1)
    time_s, microseconds = await redis.time()
    subject = f"limits:{{{attachment.resource_id}}}:{attachment.attachment_id}:{MODEL_ID}"
    await redis.zadd(f"{subject}:log", {"earlier:3": (time_s - 20) * 1_000_000 + microseconds})
    await redis.set(f"{subject}:tokens", 3)
    response = await post(client, attachment.key)
    assert response.status_code == 429
    assert response.headers["retry-after"] == "40"
    assert 39_000 < int(response.headers["retry-after-ms"]) <= 40_000
    assert response.headers["x-ratelimit-remaining-requests"] == "0"
    error = error_of(response)
    assert error["code"] == "rate_limit_exceeded"
    assert "1 requests per minute, 1 used, 1 asked" in error["message"]
    assert abs(int(response.headers["x-ratelimit-reset"]) - time_s - 40) <= 1


async def test_a_request_that_could_never_fit_says_so(
    client: httpx.AsyncClient, attach: Attach
) -> None:
    attachment = await attach()
    await run_in_database_thread(Plan.objects.update, tokens_per_minute=5)
    body = {"model": MODEL_ID, "input": "one two three four five six"}
    response = await post(client, attachment.key, body)
    assert response.status_code == 400
    assert "never be served" in error_of(response)["message"]


async def test_health_says_whether_models_have_workers(client: httpx.AsyncClient) -> None:
    response = await client.get("/healthz")
    assert response.json() == {"web": "ok", "models": {MODEL_ID: {"workers": 0}}}
