"""What fails between a request and its answer: nothing billed, nothing left reserved."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import httpx
import psycopg
import pytest
from django.conf import settings
from django.db import OperationalError, connection
from redis import Redis as SyncRedis
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from billing import metering
from billing.models import Plan, UsageEvent
from billing.plans import SHARED_POOL
from inference import presence
from inference.asgi import InferenceApplication
from inference.catalogue import Model, queue_name
from inference.database import run_in_database_thread
from inference.dialects import openai
from inference.dispatch import Dispatcher, EncodeFailed
from inference.pools import pool_name
from inference.tokenization import TokenBatch
from tests.inference.conftest import MODEL_ID, Attach
from tests.inference.test_refusals import assert_nothing_happened, error_of, post

Encode = Callable[..., Awaitable[Any]]


def announce_silent_worker() -> None:
    """A worker that never answers."""
    report = presence.Report(token_budget=1_000, tokens_per_s=1_000.0)
    with SyncRedis.from_url(settings.REDIS_URL) as client:
        presence.announce(
            client, queue_name(MODEL_ID, pool_name("us", SHARED_POOL)), "silent", report
        )


@pytest.fixture
def vectors_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker's part, without a worker."""

    async def encode(self: Dispatcher, model: Model, batch: TokenBatch, **_: Any) -> Any:
        import numpy as np

        return np.ones((len(batch.lengths), model.dimensions), dtype=np.float32)

    monkeypatch.setattr(Dispatcher, "encode", encode)


@pytest.mark.usefixtures("vectors_come")
async def test_without_the_ledger_there_is_no_answer(
    client: httpx.AsyncClient, attach: Attach, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = (await attach()).key
    monkeypatch.setitem(connection.settings_dict, "HOST", "/nonexistent")
    response = await post(client, key)
    assert response.status_code == 503
    assert response.headers["retry-after"]
    assert "nonexistent" not in response.text
    await assert_nothing_happened(redis)


@pytest.mark.usefixtures("vectors_come")
async def test_a_database_that_hangs_is_a_503_in_time_and_bills_nothing_later(
    client: httpx.AsyncClient, attach: Attach, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metering, "BEGIN_WITHIN_S", 0.2)
    monkeypatch.setattr(metering, "ANSWER_WITHIN_S", 0.5)
    key = (await attach()).key
    with locked_ledger():
        assert (await asyncio.wait_for(post(client, key), 3)).status_code == 503
    await assert_nothing_happened(redis)
    assert (await post(client, key)).status_code == 200
    assert await run_in_database_thread(UsageEvent.objects.count) == 1


@pytest.mark.usefixtures("vectors_come")
async def test_requests_at_once_are_a_row_each(client: httpx.AsyncClient, attach: Attach) -> None:
    key = (await attach()).key
    answers = await asyncio.gather(*[post(client, key) for _ in range(64)])
    assert {answer.status_code for answer in answers} == {200}
    stored = await run_in_database_thread(
        lambda: list(UsageEvent.objects.values_list("id", flat=True))
    )
    assert sorted(map(str, stored)) == sorted(answer.headers["x-request-id"] for answer in answers)


@contextmanager
def locked_ledger() -> Iterator[None]:
    """Nothing can be written to the ledger during the block."""
    parameters = connection.get_connection_params()
    given = {name: parameters[name] for name in ("dbname", "user", "host")}
    with psycopg.connect(**given) as other:
        other.execute("LOCK TABLE billing_usageevent IN EXCLUSIVE MODE")
        yield


@pytest.mark.usefixtures("vectors_come")
async def test_an_answer_that_cannot_be_made_is_not_billed(
    client: httpx.AsyncClient, attach: Attach, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bytes:
        raise RuntimeError("a bug")

    monkeypatch.setattr(openai, "print_json", fail)
    response = await post(client, (await attach()).key)
    assert response.status_code == 500
    assert "a bug" not in response.text
    await assert_nothing_happened(redis)


async def test_a_model_that_fails_is_a_500_that_is_not_billed(
    client: httpx.AsyncClient, attach: Attach, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise EncodeFailed((0,))

    monkeypatch.setattr(Dispatcher, "encode", fail)
    response = await post(client, (await attach()).key)
    assert response.status_code == 500
    assert error_of(response)["code"] == "model_error"
    assert "texts, counted from 0: 0." in error_of(response)["message"]
    assert response.headers["x-should-retry"] == "false"
    await assert_nothing_happened(redis)


async def test_keys_that_cannot_be_looked_up_are_a_503(
    client: httpx.AsyncClient, attach: Attach, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = (await attach()).key

    def fail(key: str) -> None:
        raise OperationalError("server closed the connection")

    monkeypatch.setattr("inference.authentication.find_identity", fail)
    response = await post(client, key)
    assert response.status_code == 503
    assert response.headers["retry-after"]


async def test_health_without_redis_is_a_503(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> int:
        raise RedisConnectionError("gone")

    monkeypatch.setattr(presence, "list_workers", fail)
    assert (await client.get("/healthz")).status_code == 503


async def test_many_requests_at_once_share_the_connections(
    client: httpx.AsyncClient, attach: Attach, redis: Redis
) -> None:
    """Each is told that there is no worker; none that the limiter cannot be reached."""
    key = (await attach()).key
    await run_in_database_thread(Plan.objects.update, concurrent_requests=None)
    answers = await asyncio.gather(*[post(client, key) for _ in range(200)])
    assert {answer.status_code for answer in answers} == {503}
    assert all("no worker is running" in answer.text for answer in answers)
    await assert_nothing_happened(redis)


@pytest.mark.parametrize("after_s", [0.0, 0.001, 0.003, 0.01, 0.05])
async def test_a_client_that_hangs_up_leaves_nothing_reserved(
    application: InferenceApplication, attach: Attach, redis: Redis, after_s: float
) -> None:
    announce_silent_worker()
    key = (await attach()).key
    async with asyncio.timeout(settings.REQUEST_TIMEOUT_S / 2):  # not to their deadlines
        await asyncio.gather(*[hang_up(application, key, after_s) for _ in range(20)])
    await assert_nothing_happened(redis)
    assert application._dispatcher._under_way == {}


async def hang_up(application: InferenceApplication, key: str, after_s: float) -> None:
    """A request whose client leaves `after_s` after its body was read."""
    body = b'{"model": "%s", "input": "hello"}' % MODEL_ID.encode()
    events = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> MutableMapping[str, Any]:
        for event in events:
            return dict(event)
        await asyncio.sleep(after_s)
        return {"type": "http.disconnect"}

    sent: list[MutableMapping[str, Any]] = []

    async def send(event: MutableMapping[str, Any]) -> None:
        sent.append(event)

    headers = [(b"authorization", f"Bearer {key}".encode())]
    scope = {"type": "http", "method": "POST", "path": "/v1/embeddings", "headers": headers}
    await application(scope, receive, send)
    assert sent[0]["status"] == 499


@pytest.mark.usefixtures("vectors_come")
async def test_a_hang_up_while_the_row_is_written_is_too_late(
    application: InferenceApplication, attach: Attach, redis: Redis
) -> None:
    """The row stays, and so does the share: the limiter and the ledger agree."""
    key = (await attach()).key
    with locked_ledger():
        hanging_up = asyncio.ensure_future(hang_up(application, key, 0.3))
        await asyncio.sleep(0.6)
        assert not hanging_up.done()
    await hanging_up
    assert await run_in_database_thread(UsageEvent.objects.count) == 1
    (log,) = await redis.keys("limits:*log")
    assert await redis.zcard(log) == 1


async def test_a_broker_that_cannot_be_reached_is_a_503(
    client: httpx.AsyncClient, attach: Attach, redis: Redis
) -> None:
    announce_silent_worker()
    await redis.set(
        queue_name(MODEL_ID, pool_name("us", SHARED_POOL)),
        "not a list, so that nothing can be pushed",
    )
    response = await post(client, (await attach()).key)
    assert response.status_code == 503
    assert "the queue cannot be reached" in response.text
    await assert_nothing_happened(redis)


async def test_paths_below_v1_and_compressed_bodies_are_refused_in_openais_shape(
    client: httpx.AsyncClient, attach: Attach
) -> None:
    key = (await attach()).key
    for path in ("/v1/embeddings/", "/v1/chat/completions"):
        response = await client.post(path, json={})
        assert response.status_code == 404
        assert error_of(response)["code"] == "unknown_path"
    headers = {"authorization": f"Bearer {key}", "content-encoding": "gzip"}
    response = await client.post("/v1/embeddings", content=b"\x1f\x8b", headers=headers)
    assert response.status_code == 415
    assert "gzip" in error_of(response)["message"]
