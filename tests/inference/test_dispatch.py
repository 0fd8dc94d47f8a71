"""Dispatch: each request its own reply, whatever is lost, late, repeated or nonsense.

The test plays the worker: it announces one, and pushes replies to the dispatcher's list itself.
"""

import asyncio
import time
from collections.abc import AsyncIterator

import numpy as np
import pytest
from redis import Redis as SyncRedis
from redis.asyncio import Redis

from config.celery import app as celery_app
from inference import presence, wire
from inference.catalogue import get_model, queue_name
from inference.dispatch import Dispatcher, EncodeFailed, WorkerUnavailable
from inference.tokenization import TokenBatch, tokenize_now

MODEL = get_model("all-minilm-l6-v2")


@pytest.fixture
def batch() -> TokenBatch:
    return tokenize_now(MODEL, ["hello", "hello world"], "search_document")


@pytest.fixture
async def dispatcher(redis: Redis, settings: object) -> AsyncIterator[Dispatcher]:
    await redis.flushdb()
    dispatcher = Dispatcher(redis=redis, celery=celery_app)
    dispatcher.start()
    yield dispatcher
    await dispatcher.stop()


@pytest.fixture
def announced(redis: Redis, dispatcher: Dispatcher) -> None:
    from django.conf import settings

    with SyncRedis.from_url(settings.REDIS_URL) as client:
        presence.announce(client, MODEL.id, "worker-1")


def vectors(value: float) -> bytes:
    return np.full((2, MODEL.dimensions), value, dtype="<f4").tobytes()


async def reply(redis: Redis, dispatcher: Dispatcher, *replies: wire.EncodeReply) -> None:
    await redis.rpush(dispatcher._reply_to, *[wire.encode(one) for one in replies])


def encode(
    dispatcher: Dispatcher, batch: TokenBatch, request_id: str = "r1", within_s: float = 5.0
) -> "asyncio.Task[np.ndarray]":
    deadline_at = time.time() + within_s
    return asyncio.create_task(
        dispatcher.encode(MODEL, batch, request_id=request_id, deadline_at=deadline_at)
    )


@pytest.mark.usefixtures("announced")
async def test_a_reply_becomes_the_requests_vectors(
    redis: Redis, dispatcher: Dispatcher, batch: TokenBatch
) -> None:
    task = encode(dispatcher, batch)
    await asyncio.sleep(0.2)
    await reply(redis, dispatcher, wire.EncodeReply(id="r1", vectors=vectors(0.5)))
    result = await task
    assert result.shape == (2, 384)
    assert (result == 0.5).all()


@pytest.mark.usefixtures("announced")
async def test_replies_of_others_repeated_and_broken_ones_are_dropped(
    redis: Redis, dispatcher: Dispatcher, batch: TokenBatch
) -> None:
    task = encode(dispatcher, batch)
    await asyncio.sleep(0.2)
    await redis.rpush(dispatcher._reply_to, b"nonsense")
    good = wire.EncodeReply(id="r1", vectors=vectors(1))
    stranger = wire.EncodeReply(id="somebody else's", vectors=vectors(2))
    again = wire.EncodeReply(id="r1", vectors=vectors(3))
    await reply(redis, dispatcher, stranger, good, again)
    assert (await task == 1).all()
    # The reader is alive after all of that.
    task = encode(dispatcher, batch, "r2")
    await asyncio.sleep(0.2)
    await reply(redis, dispatcher, wire.EncodeReply(id="r2", vectors=vectors(4)))
    assert (await task == 4).all()


@pytest.mark.usefixtures("announced")
async def test_a_failed_request_is_told_apart_from_a_lost_one(
    redis: Redis, dispatcher: Dispatcher, batch: TokenBatch
) -> None:
    task = encode(dispatcher, batch)
    await asyncio.sleep(0.2)
    await reply(redis, dispatcher, wire.EncodeReply(id="r1", vectors=b"", error="the model failed"))
    with pytest.raises(EncodeFailed, match="the model failed"):
        await task


@pytest.mark.usefixtures("announced")
async def test_a_lost_request_ends_at_its_deadline_and_leaves_nothing(
    dispatcher: Dispatcher, batch: TokenBatch
) -> None:
    with pytest.raises(WorkerUnavailable):
        await encode(dispatcher, batch, within_s=0.3)
    assert dispatcher._waiting == {}


@pytest.mark.usefixtures("announced")
async def test_a_cancelled_request_leaves_nothing(
    dispatcher: Dispatcher, batch: TokenBatch
) -> None:
    task = encode(dispatcher, batch)
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert dispatcher._waiting == {}


@pytest.mark.usefixtures("announced")
async def test_requests_that_gather_share_a_task_and_text_never_travels(
    redis: Redis, dispatcher: Dispatcher, batch: TokenBatch
) -> None:
    tasks = [encode(dispatcher, batch, f"r{i}", within_s=1.0) for i in range(40)]
    await asyncio.sleep(0.5)
    messages = await redis.lrange(queue_name(MODEL.id), 0, -1)
    assert 1 <= len(messages) < 40
    assert not any("hello" in str(message) for message in messages)
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_without_a_worker_nothing_is_queued(
    redis: Redis, dispatcher: Dispatcher, batch: TokenBatch
) -> None:
    with pytest.raises(WorkerUnavailable, match="no worker is running"):
        await encode(dispatcher, batch)
    assert await redis.llen(queue_name(MODEL.id)) == 0


async def test_presence_lapses_by_itself(
    redis: Redis, dispatcher: Dispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.conf import settings

    monkeypatch.setattr(presence, "LAPSE_S", 0.3)
    with SyncRedis.from_url(settings.REDIS_URL) as client:
        presence.announce(client, MODEL.id, "worker-1")
        assert await presence.count_workers(redis, MODEL.id) == 1
        await asyncio.sleep(0.4)
        assert await presence.count_workers(redis, MODEL.id) == 0
        presence.announce(client, MODEL.id, "worker-2")
        presence.withdraw(client, MODEL.id, "worker-2")
        assert await presence.count_workers(redis, MODEL.id) == 0
