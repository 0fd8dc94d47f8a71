"""`Idempotency-Key` with a real worker: a repeat gets the first answer, and is billed once."""

import asyncio
import json
import os
import subprocess
import sys
import time
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import urlsplit, urlunsplit

import httpx
import msgspec
import psycopg
import pytest
from django.conf import settings as django_settings
from django.db import OperationalError, connection
from django.utils import timezone
from pytest_django import Settings
from redis.asyncio import Redis

from addon.provider.provisioning import detach
from billing.metering import Ledger, Usage, UsageNotRecorded
from billing.models import Plan, UsageEvent
from billing.rate_limits import Limiter, Limits
from config.celery import app as celery_app
from inference import idempotency
from inference.asgi import InferenceApplication, _read_ledger
from inference.authentication import Caller
from inference.database import run_in_database_thread
from inference.dispatch import Dispatcher, WorkerUnavailable
from inference.http import Response
from inference.idempotency import Claim, IdempotencyKeyInUse, answer_once, purge
from inference.models import IdempotencyKey
from tests.inference.conftest import MODEL_ID, Attach, Attachment
from tests.inference.test_refusals import assert_nothing_happened, error_of

pytestmark = pytest.mark.usefixtures("worker")

GOOD = {"model": MODEL_ID, "input": ["hello", "world"]}
COHERE = {"model": MODEL_ID, "input_type": "search_document"}
LIMITS = Limits(requests=500, tokens=800_000)


async def post(
    client: httpx.AsyncClient,
    attachment: Attachment,
    body: object = None,
    *,
    key: str | None = "order-66",
    path: str = "/v1/embeddings",
) -> httpx.Response:
    headers = {"authorization": f"Bearer {attachment.key}"}
    if key is not None:
        headers["idempotency-key"] = key
    content = json.dumps(GOOD if body is None else body)
    return await client.post(path, content=content, headers=headers)


async def ledger() -> list[UsageEvent]:
    return await run_in_database_thread(lambda: list(UsageEvent.objects.order_by("id")))


async def kept() -> list[IdempotencyKey]:
    return await run_in_database_thread(lambda: list(IdempotencyKey.objects.order_by("id")))


async def set_back(age: timedelta) -> None:
    """As if every key had been claimed that long ago."""
    await run_in_database_thread(IdempotencyKey.objects.update, created_at=timezone.now() - age)


async def end_leases() -> None:
    await run_in_database_thread(IdempotencyKey.objects.update, lease_until=timezone.now())


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many texts each computation had."""
    counts: list[int] = []
    encode = Dispatcher.encode

    async def counted(self: Dispatcher, model: Any, batch: Any, **rest: Any) -> Any:
        counts.append(len(batch.lengths))
        return await encode(self, model, batch, **rest)

    monkeypatch.setattr(Dispatcher, "encode", counted)
    return counts


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", GOOD),
        ("/v1/embeddings", {**GOOD, "encoding_format": "base64", "embedding_type": "ubinary"}),
        ("/v2/embed", {**COHERE, "texts": ["hello"], "embedding_types": ["float", "ubinary"]}),
        ("/v1/embed", {**COHERE, "texts": ["hello"]}),
        ("/invocations", {"input_type": "search_query", "texts": ["hi"]}),
    ],
)
async def test_a_repeat_gets_the_same_bytes_and_is_billed_once(
    client: httpx.AsyncClient,
    attach: Attach,
    computed: list[int],
    path: str,
    body: dict[str, Any],
) -> None:
    attachment = await attach()
    first = await post(client, attachment, body, path=path)
    assert first.status_code == 200, first.text
    again = [await post(client, attachment, body, path=path) for _ in range(2)]
    for repeat in again:
        assert repeat.status_code == 200
        assert repeat.content == first.content
        assert repeat.headers["content-type"] == first.headers["content-type"]
        assert repeat.headers["idempotent-replayed"] == "true"
        assert repeat.headers["original-request-id"] == first.headers["x-request-id"]
        assert repeat.headers["x-request-id"] != first.headers["x-request-id"]
    assert "idempotent-replayed" not in first.headers
    assert len(computed) == 1
    (event,) = await ledger()
    assert str(event.id) == first.headers["x-request-id"]


async def test_a_repeat_has_the_headers_of_its_answer(
    client: httpx.AsyncClient, attach: Attach
) -> None:
    attachment = await attach()
    body = {"model": MODEL_ID, "input": ["short", "word " * 400]}
    first, again = [await post(client, attachment, body) for _ in range(2)]
    for name in ("x-truncated-inputs", "x-embedding-fingerprint"):
        assert again.headers[name] == first.headers[name]


async def test_a_repeat_takes_a_request_of_the_limits_but_no_tokens(
    client: httpx.AsyncClient, attach: Attach
) -> None:
    attachment = await attach()
    first, again = [await post(client, attachment) for _ in range(2)]
    assert first.headers["x-ratelimit-remaining-requests"] == "499"
    assert again.headers["x-ratelimit-remaining-requests"] == "498"
    remaining = "x-ratelimit-remaining-tokens"
    assert again.headers[remaining] == first.headers[remaining]


async def test_a_repeat_over_the_limit_is_a_429(client: httpx.AsyncClient, attach: Attach) -> None:
    attachment = await attach()
    await run_in_database_thread(Plan.objects.update, requests_per_minute=1)
    assert (await post(client, attachment)).status_code == 200
    assert (await post(client, attachment)).status_code == 429
    assert len(await ledger()) == 1


async def test_twenty_at_once_are_one_computation_and_one_row(
    client: httpx.AsyncClient, attach: Attach, computed: list[int]
) -> None:
    attachment = await attach()
    answers = await asyncio.gather(*[post(client, attachment) for _ in range(20)])
    assert {answer.status_code for answer in answers} <= {200, 409}
    for answer in answers:
        if answer.status_code == 409:
            assert error_of(answer)["code"] == "idempotency_key_in_use"
            assert answer.headers["retry-after"] == "1"
    bodies = {answer.content for answer in answers if answer.status_code == 200}
    repeats = await asyncio.gather(*[post(client, attachment) for _ in range(20)])
    assert {repeat.content for repeat in repeats} == bodies
    assert len(bodies) == len(computed) == len(await ledger()) == 1


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/embed"])
async def test_a_key_with_another_body_or_path_is_a_409_that_is_not_billed(
    client: httpx.AsyncClient, attach: Attach, path: str
) -> None:
    attachment = await attach()
    assert (await post(client, attachment)).status_code == 200
    body = {"model": MODEL_ID, "input": "something else"}
    if path == "/v1/embed":
        body = {**COHERE, "texts": ["hello", "world"]}  # type: ignore[dict-item]
    response = await post(client, attachment, body, path=path)
    assert response.status_code == 409
    assert "another path or body" in response.json().get("message", response.text)
    assert response.headers["x-should-retry"] == "false"
    assert len(await ledger()) == 1
    assert (await post(client, attachment)).headers["idempotent-replayed"] == "true"


async def test_the_error_of_another_body_names_the_header(
    client: httpx.AsyncClient, attach: Attach
) -> None:
    attachment = await attach()
    await post(client, attachment)
    error = error_of(await post(client, attachment, {"model": MODEL_ID, "input": "else"}))
    assert (error["code"], error["param"]) == ("idempotency_key_reused", "Idempotency-Key")


async def test_attachments_do_not_share_keys(
    client: httpx.AsyncClient, attach: Attach, computed: list[int]
) -> None:
    one, other = await attach(), await attach()
    assert (await post(client, one)).status_code == 200
    answer = await post(client, other, {"model": MODEL_ID, "input": "something else"})
    assert answer.status_code == 200
    assert "idempotent-replayed" not in answer.headers
    assert len(computed) == len(await ledger()) == 2


@pytest.mark.parametrize(
    ("age", "computations"),
    [(timedelta(hours=23, minutes=59), 1), (timedelta(hours=24), 2)],
)
async def test_a_key_is_honoured_for_24_hours_purged_or_not(
    client: httpx.AsyncClient,
    attach: Attach,
    computed: list[int],
    age: timedelta,
    computations: int,
) -> None:
    attachment = await attach()
    await post(client, attachment)
    await set_back(age)
    assert (await post(client, attachment)).status_code == 200
    assert len(computed) == len(await ledger()) == computations
    # The second answer is kept anew.
    assert (await post(client, attachment)).headers["idempotent-replayed"] == "true"
    assert len(computed) == computations


async def test_an_expired_key_may_be_used_with_another_body(
    client: httpx.AsyncClient, attach: Attach
) -> None:
    attachment = await attach()
    await post(client, attachment)
    await set_back(timedelta(hours=24))
    body = {"model": MODEL_ID, "input": "something else"}
    assert (await post(client, attachment, body)).status_code == 200
    assert len(await kept()) == 1


@pytest.mark.parametrize("key", ["", " ", "two words", "é", "tab\tbed", "x" * 256, "nul\0"])
async def test_a_bad_key_is_a_400_that_names_the_header(
    client: httpx.AsyncClient, attach: Attach, redis: Redis, key: str
) -> None:
    attachment = await attach()
    headers = [
        (b"authorization", f"Bearer {attachment.key}".encode()),
        (b"idempotency-key", key.encode("latin-1")),
    ]
    response = await client.post("/v1/embeddings", json=GOOD, headers=headers)
    assert response.status_code == 400
    assert error_of(response)["param"] == "Idempotency-Key"
    assert "1 to 255 visible ASCII characters" in error_of(response)["message"]
    assert await kept() == []
    await assert_nothing_happened(redis)


@pytest.mark.parametrize("key", ["x", '"8e03978e-40d5-43dd-bc93-6894a57f9324"', "~" * 255])
async def test_a_key_is_1_to_255_visible_characters(
    client: httpx.AsyncClient, attach: Attach, key: str
) -> None:
    attachment = await attach()
    first, again = [await post(client, attachment, key=key) for _ in range(2)]
    assert first.status_code == 200
    assert again.headers["idempotent-replayed"] == "true"


async def test_a_revoked_key_gets_no_answer_again(
    client: httpx.AsyncClient, attach: Attach, settings: Settings
) -> None:
    settings.KEY_CACHE_S = 0.0
    attachment = await attach()
    assert (await post(client, attachment)).status_code == 200
    await run_in_database_thread(
        detach, attachment.resource_id, attachment.attachment_id, timezone.now()
    )
    assert (await post(client, attachment)).status_code == 401


async def test_a_request_without_a_key_asks_nothing_and_keeps_nothing(
    client: httpx.AsyncClient, attach: Attach, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise AssertionError("the database was asked")

    monkeypatch.setattr(idempotency, "_ask", fail)
    attachment = await attach()
    assert (await post(client, attachment, key=None)).status_code == 200
    assert (await post(client, attachment, key=None)).status_code == 200
    assert len(await ledger()) == 2
    assert await kept() == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"model": "gpt-9", "input": "x"}, 404),
        ({"model": MODEL_ID, "input": []}, 400),
        ({"model": MODEL_ID, "input": ["x"] * 97}, 400),
    ],
)
async def test_a_refusal_is_not_kept(
    client: httpx.AsyncClient, attach: Attach, body: object, status: int
) -> None:
    attachment = await attach()
    assert (await post(client, attachment, body)).status_code == status
    assert await kept() == []
    assert (await post(client, attachment)).status_code == 200
    assert len(await ledger()) == 1


async def test_a_failure_is_not_kept_and_the_repeat_runs(
    client: httpx.AsyncClient, attach: Attach, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise WorkerUnavailable(MODEL_ID, "no worker is running")

    attachment = await attach()
    with monkeypatch.context() as patch:
        patch.setattr(Dispatcher, "encode", fail)
        assert (await post(client, attachment)).status_code == 503
    assert await kept() == []
    await assert_nothing_happened(redis)
    answer = await post(client, attachment)
    assert answer.status_code == 200
    assert "idempotent-replayed" not in answer.headers
    assert len(await ledger()) == 1


async def test_without_the_ledger_the_answer_waits_for_a_repeat(
    client: httpx.AsyncClient,
    attach: Attach,
    computed: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(self: Ledger, usage: Usage) -> None:
        raise UsageNotRecorded("the database hangs")

    attachment = await attach()
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "record", fail)
        assert (await post(client, attachment)).status_code == 503
        assert (await post(client, attachment)).status_code == 503
    assert await ledger() == []
    answer = await post(client, attachment)
    assert answer.headers["idempotent-replayed"] == "true"
    assert len(computed) == len(await ledger()) == 1


@pytest.mark.parametrize("step", ["_take", "_store"])
async def test_without_the_table_there_is_no_answer_and_nothing_is_billed(
    client: httpx.AsyncClient,
    attach: Attach,
    redis: Redis,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
) -> None:
    def fail(*_: object) -> None:
        raise OperationalError("server closed the connection")

    attachment = await attach()
    with monkeypatch.context() as patch:
        patch.setattr(idempotency, step, fail)
        response = await post(client, attachment)
    assert response.status_code == 503
    assert response.headers["retry-after"]
    await assert_nothing_happened(redis)
    assert (await post(client, attachment)).status_code == 200
    assert len(await ledger()) == 1


async def test_a_table_that_hangs_is_a_503_in_time(
    client: httpx.AsyncClient, attach: Attach, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "DATABASE_TIMEOUT_S", 0.3)
    attachment = await attach()
    with locked_keys():
        response = await asyncio.wait_for(post(client, attachment), 3)
    assert response.status_code == 503
    await assert_nothing_happened(redis)
    await end_leases()  # the claim may have been made when the lock was gone
    assert (await post(client, attachment)).status_code == 200
    assert len(await ledger()) == 1


@contextmanager
def locked_keys() -> Iterator[None]:
    """Nothing can be written to the keys during the block."""
    parameters = connection.get_connection_params()
    given = {name: parameters[name] for name in ("dbname", "user", "host")}
    with psycopg.connect(**given) as other:
        other.execute("LOCK TABLE inference_idempotencykey IN EXCLUSIVE MODE")
        yield


@pytest.mark.parametrize("after_s", [0.0, 0.001, 0.003, 0.01, 0.03, 0.1])
async def test_a_client_that_hangs_up_and_repeats_gets_one_answer_and_one_row(
    application: InferenceApplication,
    client: httpx.AsyncClient,
    attach: Attach,
    after_s: float,
) -> None:
    """Whatever was under way when it left: the key is free again, or the answer is kept."""
    attachment = await attach()
    body = json.dumps(GOOD).encode()
    await hang_up_with_key(application, attachment, body, after_s)
    answer = await post(client, attachment)
    assert answer.status_code == 200
    assert len(await ledger()) == 1
    (row,) = await kept()
    assert row.status == 200


async def hang_up_with_key(
    application: InferenceApplication, attachment: Attachment, body: bytes, after_s: float
) -> None:
    """A request with a key, whose client leaves `after_s` after its body was read."""
    events = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        if events:
            return events.pop()
        await asyncio.sleep(after_s)
        return {"type": "http.disconnect"}

    async def send(event: Any) -> None:
        assert event["type"].startswith("http.response")

    headers = [
        (b"authorization", f"Bearer {attachment.key}".encode()),
        (b"idempotency-key", b"order-66"),
    ]
    scope = {"type": "http", "method": "POST", "path": "/v1/embeddings", "headers": headers}
    await application(scope, receive, send)


async def test_a_hang_up_while_the_key_is_claimed_frees_it(
    application: InferenceApplication,
    client: httpx.AsyncClient,
    attach: Attach,
    redis: Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    take = idempotency._take

    def slow(*args: Any) -> Any:
        time.sleep(0.4)
        return take(*args)

    attachment = await attach()
    with monkeypatch.context() as patch:
        patch.setattr(idempotency, "_take", slow)
        await hang_up_with_key(application, attachment, json.dumps(GOOD).encode(), 0.1)
    await asyncio.sleep(0.5)
    assert await kept() == []
    await assert_nothing_happened(redis)
    assert (await post(client, attachment)).status_code == 200


async def test_a_hang_up_while_the_answer_is_stored_is_too_late(
    application: InferenceApplication,
    client: httpx.AsyncClient,
    attach: Attach,
    redis: Redis,
    computed: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is kept and billed, and its share of the limits stays taken."""
    store = idempotency._store

    def slow(*args: Any) -> bool:
        time.sleep(0.4)
        return store(*args)

    monkeypatch.setattr(idempotency, "_store", slow)
    attachment = await attach()
    await hang_up_with_key(application, attachment, json.dumps(GOOD).encode(), 0.2)
    assert len(await ledger()) == 1
    (log,) = await redis.keys("limits:*log")
    assert await redis.zcard(log) == 1
    assert (await post(client, attachment)).headers["idempotent-replayed"] == "true"
    assert len(computed) == len(await ledger()) == 1


# A web process that is killed at the step that its argument names.
KILLED = """
import asyncio, os, sys
import django
django.setup()
import httpx
from billing.metering import Ledger
from inference import idempotency
from inference.asgi import InferenceApplication, _read_ledger
from inference.authentication import Caller
from inference.dispatch import Dispatcher

step, key, body = sys.argv[1:]

def die(*_, **__):
    os._exit(9)

async def die_soon(*_, **__):
    os._exit(9)

def after(function):
    async def and_die(*args, **kwargs):
        await function(*args, **kwargs)
        os._exit(9)
    return and_die

if step == "claimed":
    Dispatcher.encode = die_soon
elif step == "computed":
    Dispatcher.encode = after(Dispatcher.encode)
elif step == "rendered":
    idempotency._store = die
elif step == "kept":
    Ledger.record = die_soon
elif step == "recorded":
    Ledger.record = after(Ledger.record)

async def main():
    application = InferenceApplication(otherwise=None)
    await application.start()
    transport = httpx.ASGITransport(app=application)
    async with httpx.AsyncClient(transport=transport, base_url="http://annex") as client:
        headers = {"authorization": f"Bearer {key}", "idempotency-key": "order-66"}
        response = await client.post("/v1/embeddings", content=body, headers=headers)
        print(response.status_code, response.text, file=sys.stderr)

asyncio.run(main())
"""


@pytest.mark.parametrize("step", ["claimed", "computed", "rendered", "kept", "recorded"])
async def test_a_process_killed_at_any_step_leaves_one_answer_and_one_row(
    client: httpx.AsyncClient, attach: Attach, computed: list[int], tmp_path: Path, step: str
) -> None:
    attachment = await attach()
    killed = await asyncio.to_thread(run_killed, step, attachment, tmp_path)
    assert killed.returncode == 9, killed.stderr
    assert len(await ledger()) == (1 if step == "recorded" else 0)
    is_kept = step in ("kept", "recorded")
    if not is_kept:
        # Nobody knows that the process is dead until its lease is over.
        assert (await post(client, attachment)).status_code == 409
        await end_leases()
    answer, again = [await post(client, attachment) for _ in range(2)]
    assert answer.status_code == 200
    assert answer.content == again.content
    assert len(computed) == (0 if is_kept else 1)
    assert len(await ledger()) == 1


def run_killed(
    step: str, attachment: Attachment, folder: Path
) -> "subprocess.CompletedProcess[str]":
    url = urlsplit(os.environ["DATABASE_URL"])
    database_url = urlunsplit(url._replace(path=f"/{connection.settings_dict['NAME']}"))
    (script := folder / "killed.py").write_text(KILLED)
    return subprocess.run(
        [sys.executable, str(script), step, attachment.key, json.dumps(GOOD)],
        cwd=django_settings.BASE_DIR,
        env={**os.environ, "DATABASE_URL": database_url, "PYTHONPATH": "."},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def claim(attachment_id: uuid.UUID, *, lease_s: float = 30.0) -> Claim:
    deadline_at = time.time() + lease_s - idempotency.LEASE_MARGIN.total_seconds()
    return Claim(
        attachment_id=attachment_id,
        key="order-66",
        path="/v1/embeddings",
        body=b"{}",
        deadline_at=deadline_at,
    )


def usage(attachment_id: uuid.UUID) -> Usage:
    return Usage(
        id=uuid.uuid4(),
        customer_id=uuid.uuid4(),
        resource_id=uuid.uuid4(),
        attachment_id=attachment_id,
        credential_id=uuid.uuid4(),
        attachment_name="EMBEDDING",
        app_name="shop",
        plan_name="heroku-inference:standard",
        price_id=1,
        model_id=MODEL_ID,
        inputs=1,
        text_tokens=3,
        cost_picounits=0,
        requested_at=datetime.now(UTC),
    )


async def test_a_request_that_outlasts_its_lease_does_not_replace_the_answer(
    transactional_db: None, redis: Redis
) -> None:
    """The first is overtaken while it computes; it is neither answered nor billed."""
    attachment_id, writer, limiter = (
        uuid.uuid4(),
        Ledger(),
        Limiter(redis, read_ledger=_read_ledger),
    )
    overtaken = asyncio.Event()

    async def compute(keep: idempotency.Keep, text: bytes, wait: bool) -> Response:
        if wait:
            await overtaken.wait()
        response, event = Response(body=text), usage(attachment_id)
        await keep(response, event)
        await writer.record(event)
        return response

    async def run(text: bytes, *, lease_s: float, wait: bool) -> Response:
        return await answer_once(
            claim(attachment_id, lease_s=lease_s),
            lambda keep: compute(keep, text, wait),
            caller=cast(Caller, SimpleNamespace(limits_for=lambda _: LIMITS)),
            limiter=limiter,
            ledger=writer,
        )

    first = asyncio.ensure_future(run(b"first", lease_s=0.0, wait=True))
    await asyncio.sleep(0.2)
    assert (await run(b"second", lease_s=30.0, wait=False)).body == b"second"
    overtaken.set()
    with pytest.raises(IdempotencyKeyInUse):
        await first
    assert (await run(b"third", lease_s=30.0, wait=False)).body == b"second"
    assert len(await ledger()) == 1
    await writer.close()
    await limiter.close()


async def test_a_large_answer_is_kept_whole_and_compressed(
    client: httpx.AsyncClient, attach: Attach
) -> None:
    attachment = await attach()
    body = {"model": MODEL_ID, "input": [f"text number {n}" for n in range(96)]}
    first, again = [await post(client, attachment, body) for _ in range(2)]
    assert len(first.content) > 400_000
    assert again.content == first.content
    (row,) = await kept()
    assert row.body is not None
    assert len(row.body) < 0.6 * len(first.content)


async def test_an_attachment_may_keep_so_much_and_no_more(
    client: httpx.AsyncClient, attach: Attach, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "SIZE_GOOD_FOR_S", 0.0)
    attachment, other = await attach(), await attach()
    assert (await post(client, attachment)).status_code == 200
    settings.IDEMPOTENCY_MAX_MB = 1e-6
    refused = await post(client, attachment, key="another")
    assert refused.status_code == 400
    assert error_of(refused)["code"] == "idempotency_space_exceeded"
    assert 86_000 < int(refused.headers["retry-after"]) <= 86_400
    # What is kept is still there, others are not concerned, and nothing was claimed or billed.
    assert (await post(client, attachment)).headers["idempotent-replayed"] == "true"
    assert (await post(client, other)).status_code == 200
    assert (await post(client, attachment, key=None)).status_code == 200
    assert len(await kept()) == 2
    assert len(await ledger()) == 3


async def test_where_nothing_is_to_be_kept_nothing_is(
    client: httpx.AsyncClient, attach: Attach, settings: Settings
) -> None:
    settings.IDEMPOTENCY_MAX_MB = 0
    attachment = await attach()
    refused = await post(client, attachment)
    assert error_of(refused)["code"] == "idempotency_space_exceeded"
    assert await kept() == []
    assert (await post(client, attachment, key=None)).status_code == 200


def keep_answers(count: int, age: timedelta) -> None:
    now = timezone.now()
    IdempotencyKey.objects.bulk_create(
        IdempotencyKey(
            attachment_id=uuid.uuid4(),
            key="order-66",
            request_sha256=b"",
            claim_id=uuid.uuid4(),
            created_at=now - age,
            lease_until=now,
        )
        for _ in range(count)
    )


@pytest.mark.django_db
def test_what_is_older_than_24_hours_is_purged_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "PURGE_BATCH_ROWS", 3)
    keep_answers(10, timedelta(hours=24))
    keep_answers(4, timedelta(hours=23, minutes=59))
    assert purge(timezone.now()) == 10
    assert purge(timezone.now()) == 0
    assert IdempotencyKey.objects.count() == 4


@pytest.mark.django_db
def test_a_purge_ends_and_leaves_the_rest_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "PURGE_BATCH_ROWS", 2)
    monkeypatch.setattr(idempotency, "PURGE_MAX_BATCHES", 2)
    keep_answers(5, timedelta(days=2))
    assert [purge(timezone.now()), purge(timezone.now())] == [4, 1]


def test_the_control_worker_purges_every_minute() -> None:
    celery_app.loader.import_default_modules()
    entry = django_settings.CELERY_BEAT_SCHEDULE["inference.purge_idempotency_keys"]
    assert entry["schedule"] == 60.0
    assert entry["task"] in celery_app.tasks


@pytest.mark.django_db
def test_an_answer_kept_before_there_were_prices_is_read_as_the_ledger_has_its_event() -> None:
    attachment_id = uuid.uuid4()
    event = replace(usage(attachment_id), price_id=0)
    before = msgspec.to_builtins(event) | {"request_id": "r-1", "tokens": event.text_tokens}
    since = ("customer_id", "price_id", "text_tokens", "image_tokens", "cost_picounits")
    for name in (*since, "outcome", "corrects", "reason"):
        before.pop(name, None)
    IdempotencyKey.objects.create(
        attachment_id=attachment_id,
        key="order-66",
        request_sha256=b"",
        claim_id=uuid.uuid4(),
        created_at=timezone.now(),
        lease_until=timezone.now(),
        status=200,
        headers={},
        body=zlib.compress(b"{}"),
        usage=before,
    )
    with connection.cursor() as cursor:
        cursor.execute(import_module("inference.migrations.0002_kept_usage_with_prices").CONVERT)
    kept_event = idempotency._read(IdempotencyKey.objects.get(), b"").usage
    assert kept_event == replace(event, customer_id=event.resource_id)
