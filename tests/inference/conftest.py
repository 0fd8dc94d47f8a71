"""A served Annex for tests of the inference routes: a real worker, a real attachment's key."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.conf import settings
from django.utils import timezone
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from addon.provider.provisioning import (
    AttachmentRequest,
    Provisioned,
    ProvisionRequest,
    provision,
)
from billing.plans import SHARED_POOL, sync_plans
from inference import authentication
from inference.asgi import InferenceApplication
from inference.catalogue import queue_name
from inference.database import run_in_database_thread
from inference.pools import pool_name

MODEL_ID = "all-minilm-l6-v2"
WORKER_START_S = 150


StartWorker = Callable[..., "subprocess.Popen[bytes]"]


def launch_worker(log: Path, pool: str = SHARED_POOL) -> "subprocess.Popen[bytes]":
    """`manage.py serve_models` on this test process's Redis database, not waited for."""
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "manage.py", "serve_models", "--pool", pool],
            cwd=settings.BASE_DIR,
            env={**os.environ, "REDIS_URL": settings.REDIS_URL},
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def wait_for_workers(
    count: int, process: "subprocess.Popen[bytes]", log: Path, pool: str = SHARED_POOL
) -> None:
    """Until `count` workers of the pool have announced themselves, `process` among them."""
    deadline = time.monotonic() + WORKER_START_S
    with Redis.from_url(settings.REDIS_URL) as redis:
        while redis.hlen(f"workers:{queue_name(MODEL_ID, pool_name('us', pool))}") < count:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)


@pytest.fixture(scope="module")
def worker_process(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator["subprocess.Popen[bytes]"]:
    """A worker, while a module needs it."""
    log = tmp_path_factory.mktemp("worker") / "log"
    process = launch_worker(log)
    try:
        wait_for_workers(1, process, log)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


@pytest.fixture
def worker(
    worker_process: "subprocess.Popen[bytes]", redis_client: Redis, tmp_path: Path
) -> "subprocess.Popen[bytes]":
    """The worker, known again after Redis was emptied for this test."""
    (log := tmp_path / "log").write_text("the worker no longer announces itself")
    wait_for_workers(1, worker_process, log)
    return worker_process


@pytest.fixture
def start_worker(redis_client: Redis, tmp_path: Path) -> Iterator[StartWorker]:
    """Starts workers of this test's own, which it may kill."""
    started: list[subprocess.Popen[bytes]] = []

    def start(pool: str = SHARED_POOL) -> "subprocess.Popen[bytes]":
        before = redis_client.hlen(f"workers:{queue_name(MODEL_ID, pool_name('us', pool))}")
        log = tmp_path / f"worker {len(started)}"
        started.append(launch_worker(log, pool))
        wait_for_workers(before + 1, started[-1], log, pool)
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


@dataclass(frozen=True, kw_only=True)
class Attachment:
    resource_id: uuid.UUID
    attachment_id: uuid.UUID
    key: str


Attach = Callable[..., Awaitable[Attachment]]


@pytest.fixture
def attach(transactional_db: None) -> Attach:
    """Makes a resource with one attachment, as the platform would; in `us` unless told."""
    sync_plans()
    authentication._offers.clear()  # a test before this one may have changed a plan

    def attach_now(region: str = "us", options: Mapping[str, str] = {}) -> Attachment:
        resource_id, attachment_id = uuid.uuid4(), uuid.uuid4()
        provisioned = provision(
            ProvisionRequest(
                uuid=resource_id,
                name="inference-calm-1",
                plan_slug="standard",
                region=region,
                options=options,
                callback_url="",
                attachment=AttachmentRequest(id=attachment_id, name="EMBEDDING", app_name="shop"),
            ),
            timezone.now(),
        )
        assert isinstance(provisioned, Provisioned)
        key = provisioned.config["INFERENCE_KEY"]
        return Attachment(resource_id=resource_id, attachment_id=attachment_id, key=key)

    return partial(run_in_database_thread, attach_now)


async def not_ours(
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
) -> None:
    """Stands where Django is, behind the inference routes."""
    await send({"type": "http.response.start", "status": 418, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest.fixture
async def application() -> AsyncIterator[InferenceApplication]:
    application = InferenceApplication(otherwise=not_ours)
    await application.start()
    yield application
    await application.stop()


@pytest.fixture
async def client(application: InferenceApplication) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=application, raise_app_exceptions=True)
    async with httpx.AsyncClient(transport=transport, base_url="http://annex") as client:
        yield client


@pytest.fixture
async def redis() -> AsyncIterator[AsyncRedis]:
    client = AsyncRedis.from_url(settings.REDIS_URL)
    yield client
    await client.aclose()
