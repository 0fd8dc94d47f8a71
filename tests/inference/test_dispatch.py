"""Dispatch: each request its own reply, whatever is lost, late, repeated or nonsense.

The test plays the worker: it announces one, takes tasks from the queue, and pushes replies to the
dispatcher's list itself.
"""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import cast

import numpy as np
import pytest
from django.conf import settings
from redis import Redis as SyncRedis
from redis.asyncio import Redis

from billing.plans import SHARED_POOL
from inference import dispatch, presence, wire
from inference.catalogue import get_model, queue_name
from inference.dispatch import Dispatcher, EncodeFailed, WorkerUnavailable
from inference.lanes import TooMuchWaiting
from inference.pools import pool_name
from inference.tokenization import TokenBatch, tokenize_now

MODEL = get_model("all-minilm-l6-v2")
QUEUE = queue_name(MODEL.id, pool_name("us", SHARED_POOL))
REPORT = presence.Report(token_budget=1_000, tokens_per_s=1_000.0)

Announce = Callable[..., None]


@pytest.fixture
def batch() -> TokenBatch:
    return tokenize_now(MODEL, ["hello", "hello world"], "search_document")


def bulk(texts: int, tokens: int = 100) -> TokenBatch:
    ids = np.arange(texts * tokens, dtype=np.int32) % 20_000
    lengths = np.full(texts, tokens, dtype=np.int32)
    return TokenBatch(ids=ids, lengths=lengths, whole_lengths=lengths)


@pytest.fixture
async def dispatcher(redis: Redis) -> AsyncIterator[Dispatcher]:
    await redis.flushdb()
    dispatcher = Dispatcher(redis=redis)
    dispatcher.start()
    yield dispatcher
    await dispatcher.stop()


@pytest.fixture
def announce(dispatcher: Dispatcher, monkeypatch: pytest.MonkeyPatch) -> Announce:
    """Announces a worker once; `lapse_s` is what presence lapses after from then on."""

    def announce(
        worker_id: str = "w1",
        queue: str = QUEUE,
        report: presence.Report = REPORT,
        lapse_s: float = presence.LAPSE_S,
    ) -> None:
        monkeypatch.setattr(presence, "LAPSE_S", lapse_s)
        with SyncRedis.from_url(settings.REDIS_URL) as client:
            presence.announce(client, queue, worker_id, report)

    return announce


@pytest.fixture
def announced(announce: Announce) -> None:
    announce()


async def take_parts(redis: Redis, count: int, queue: str = QUEUE) -> list[wire.Part]:
    """What a worker would take: the parts of tasks, until there are `count`."""
    parts: list[wire.Part] = []
    async with asyncio.timeout(5):
        while len(parts) < count:
            popped = await redis.blpop([queue], timeout=5)
            assert popped is not None
            (payload,), _, _ = wire_body(cast(bytes, popped[1]))
            parts += wire.decode_task(payload).parts
    return parts


def wire_body(message: bytes) -> tuple[list[bytes], dict[str, object], dict[str, object]]:
    """Celery's arguments in a message of kombu's Redis transport."""
    import msgspec

    body = base64.b64decode(json.loads(message)["body"])
    args, kwargs, embed = msgspec.msgpack.decode(body)
    return args, kwargs, embed


def vectors(value: float, texts: int = 2) -> bytes:
    return np.full((texts, MODEL.dimensions), value, dtype="<f4").tobytes()


def computed(part: wire.Part, value: float) -> wire.Reply:
    return wire.Reply(part.id, "computed", vectors(value, len(part.lengths) // 4))


async def reply(redis: Redis, dispatcher: Dispatcher, *replies: wire.Reply) -> None:
    await redis.rpush(dispatcher._reply_to, wire.encode(list(replies)))


def encode(
    dispatcher: Dispatcher,
    batch: TokenBatch,
    *,
    within_s: float = 5.0,
    flow_id: str = "a",
    pool: str = SHARED_POOL,
) -> "asyncio.Task[np.ndarray]":
    deadline_at = time.time() + within_s
    return asyncio.create_task(
        dispatcher.encode(
            MODEL, batch, pool=pool_name("us", pool), flow_id=flow_id, deadline_at=deadline_at
        )
    )


@pytest.mark.usefixtures("announced")
async def test_a_reply_becomes_the_requests_vectors(
    redis: Redis, dispatcher: Dispatcher, batch: TokenBatch
) -> None:
    task = encode(dispatcher, batch)
    (part,) = await take_parts(redis, 1)
    await reply(redis, dispatcher, computed(part, 0.5))
    result = await task
    assert result.shape == (2, 384)
    assert (result == 0.5).all()


@pytest.mark.usefixtures("announced")
async def test_a_request_in_parts_is_put_together_in_order(
    redis: Redis, dispatcher: Dispatcher
) -> None:
    task = encode(dispatcher, bulk(20))
    parts = await take_parts(redis, 4)
    assert len(parts) == 4
    for value in (3, 1, 0, 2):
        await reply(redis, dispatcher, computed(parts[value], value))
    result = await task
    assert result.shape == (20, 384)
    assert result[:, 0].tolist() == [0] * 5 + [1] * 5 + [2] * 5 + [3] * 5


@pytest.mark.usefixtures("announced")
async def test_replies_of_others_repeated_and_broken_ones_are_dropped(
    redis: Redis, dispatcher: Dispatcher, batch: TokenBatch
) -> None:
    task = encode(dispatcher, batch)
    (part,) = await take_parts(redis, 1)
    await redis.rpush(dispatcher._reply_to, b"nonsense")
    stranger = wire.Reply(999_999, "computed", vectors(2))
    await reply(redis, dispatcher, stranger, computed(part, 1), computed(part, 3))
    assert (await task == 1).all()
    # The reader is alive after all of that.
    task = encode(dispatcher, batch)
    (part,) = await take_parts(redis, 1)
    await reply(redis, dispatcher, computed(part, 4))
    assert (await task == 4).all()


@pytest.mark.usefixtures("announced")
async def test_a_failed_text_is_named_by_its_index_in_the_request(
    redis: Redis, dispatcher: Dispatcher
) -> None:
    task = encode(dispatcher, bulk(20))
    parts = await take_parts(redis, 4)
    await reply(redis, dispatcher, wire.Reply(parts[2].id, "failed", failed=(1,)))
    with pytest.raises(EncodeFailed) as caught:
        await task
    assert caught.value.failed == (11,)


@pytest.mark.usefixtures("announced")
async def test_vectors_of_another_shape_fail_the_request(
    redis: Redis, dispatcher: Dispatcher, batch: TokenBatch
) -> None:
    task = encode(dispatcher, batch)
    (part,) = await take_parts(redis, 1)
    await reply(redis, dispatcher, wire.Reply(part.id, "computed", vectors(1, texts=3)))
    with pytest.raises(EncodeFailed):
        await task


@pytest.mark.usefixtures("announced")
async def test_a_lost_request_ends_at_its_deadline_and_leaves_nothing(
    dispatcher: Dispatcher, batch: TokenBatch
) -> None:
    with pytest.raises(WorkerUnavailable):
        await encode(dispatcher, batch, within_s=0.3)
    assert dispatcher._under_way == {}
    await asyncio.sleep(1.2)
    assert dispatcher._lanes[QUEUE].tokens_in_flight == 0


@pytest.mark.usefixtures("announced")
async def test_a_client_that_hangs_up_frees_its_place_in_the_queue(
    redis: Redis, dispatcher: Dispatcher
) -> None:
    task = encode(dispatcher, bulk(96))
    await take_parts(redis, 4)
    lane = dispatcher._lanes[QUEUE]
    assert lane.tokens_waiting > 0
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert lane.tokens_waiting == 0
    assert dispatcher._under_way == {}


@pytest.mark.usefixtures("announced")
async def test_a_reply_to_a_client_that_has_gone_makes_room_and_says_how_fast_the_workers_are(
    redis: Redis, dispatcher: Dispatcher, batch: TokenBatch
) -> None:
    task = encode(dispatcher, batch)
    (part,) = await take_parts(redis, 1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    lane = dispatcher._lanes[QUEUE]
    assert lane.tokens_in_flight == batch.token_count
    delivered = lane._delivered
    await reply(redis, dispatcher, computed(part, 1), computed(part, 1))
    await asyncio.sleep(0.2)
    assert lane.tokens_in_flight == 0
    assert lane._delivered == delivered + batch.token_count


@pytest.mark.usefixtures("announced")
async def test_requests_that_gather_share_a_task_and_text_never_travels(
    redis: Redis, dispatcher: Dispatcher, batch: TokenBatch
) -> None:
    tasks = [encode(dispatcher, batch, within_s=30.0) for _ in range(40)]
    async with asyncio.timeout(20):
        while not await redis.llen(QUEUE):
            await asyncio.sleep(0.05)
    await asyncio.sleep(0.3)
    messages = await redis.lrange(QUEUE, 0, -1)
    assert 1 <= len(messages) < 40
    assert not any("hello" in str(message) for message in messages)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.usefixtures("announced")
async def test_what_is_beyond_the_window_waits_here_and_not_in_the_broker(
    redis: Redis, dispatcher: Dispatcher
) -> None:
    tasks = [encode(dispatcher, bulk(96), within_s=15.0) for _ in range(1)]
    await asyncio.sleep(0.3)
    sent = await take_parts(redis, 1)
    while await redis.llen(QUEUE):
        sent += await take_parts(redis, 1)
    assert sum(part.tokens for part in sent) <= 4_500
    query = encode(dispatcher, bulk(1, 10), flow_id="query", within_s=15.0)
    (part,) = await take_parts(redis, 1)
    assert part.flow_id == "query"
    await reply(redis, dispatcher, computed(part, 1))
    await query
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.usefixtures("announced")
async def test_more_than_could_be_answered_in_time_is_refused(dispatcher: Dispatcher) -> None:
    first = encode(dispatcher, bulk(96), within_s=20.0)  # 9,600 tokens at 1,000 a second
    await asyncio.sleep(0.1)
    with pytest.raises(TooMuchWaiting) as caught:
        await encode(dispatcher, bulk(96), within_s=20.0)
    assert caught.value.retry_after_s >= 1
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)


async def test_without_a_worker_nothing_is_queued(
    redis: Redis, dispatcher: Dispatcher, batch: TokenBatch
) -> None:
    with pytest.raises(WorkerUnavailable, match="no worker is running"):
        await encode(dispatcher, batch)
    assert await redis.llen(QUEUE) == 0


async def test_a_pool_has_its_own_queue_and_workers(
    redis: Redis, dispatcher: Dispatcher, batch: TokenBatch, announce: Announce
) -> None:
    announce()  # of the shared pool
    with pytest.raises(WorkerUnavailable, match="no worker is running"):
        await encode(dispatcher, batch, pool="gold")
    announce("w2", queue=queue_name(MODEL.id, pool_name("us", "gold")))
    task = encode(dispatcher, batch, pool="gold")
    (part,) = await take_parts(redis, 1, queue=queue_name(MODEL.id, pool_name("us", "gold")))
    assert await redis.llen(QUEUE) == 0
    await reply(redis, dispatcher, computed(part, 1))
    await task


@pytest.mark.usefixtures("announced")
async def test_what_a_stopping_worker_hands_back_is_sent_to_another(
    redis: Redis, dispatcher: Dispatcher, batch: TokenBatch
) -> None:
    task = encode(dispatcher, batch)
    (part,) = await take_parts(redis, 1)
    await reply(redis, dispatcher, wire.Reply(part.id, "handed back"))
    (again,) = await take_parts(redis, 1)
    assert again == part
    await reply(redis, dispatcher, computed(again, 1))
    assert (await task == 1).all()


async def test_what_a_dead_worker_held_is_sent_again_and_the_later_answer_dropped(
    redis: Redis,
    dispatcher: Dispatcher,
    batch: TokenBatch,
    announce: Announce,
) -> None:
    announce("lives", lapse_s=30.0)
    announce("dies", lapse_s=0.6)
    task = encode(dispatcher, batch, within_s=10.0)
    (part,) = await take_parts(redis, 1)
    (again,) = await take_parts(redis, 1)
    assert again == part
    await reply(redis, dispatcher, computed(again, 1), computed(part, 2))
    assert (await task == 1).all()


async def test_a_part_that_workers_die_of_is_not_sent_for_ever(
    redis: Redis,
    dispatcher: Dispatcher,
    batch: TokenBatch,
    announce: Announce,
) -> None:
    announce("lives", lapse_s=30.0)
    announce("dies first", lapse_s=0.6)
    task = encode(dispatcher, batch, within_s=20.0)
    await take_parts(redis, 1)
    await take_parts(redis, 1)  # again, after the first death
    announce("dies second", lapse_s=0.6)
    with pytest.raises(WorkerUnavailable, match="died"):
        await task
    assert await redis.llen(QUEUE) == 0


async def test_workers_that_die_one_after_the_other_fail_nothing_that_a_third_computes(
    redis: Redis,
    dispatcher: Dispatcher,
    batch: TokenBatch,
    announce: Announce,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(presence, "HEARTBEAT_S", 0.2)
    monkeypatch.setattr(dispatch, "TAKE_BLOCK_S", 0.0)
    announce("lives", lapse_s=30.0)
    announce("dies first", lapse_s=2.0)
    task = encode(dispatcher, batch, within_s=10.0)
    await take_parts(redis, 1)
    await asyncio.sleep(0.8)
    announce("dies second", lapse_s=2.0)
    (again,) = await take_parts(redis, 1)  # after the first lapse
    await asyncio.sleep(1.5)  # and no more after the second
    assert await redis.llen(QUEUE) == 0
    await reply(redis, dispatcher, computed(again, 1))
    assert (await task == 1).all()


async def test_what_the_broker_gives_to_a_machine_that_has_vanished_is_sent_again(
    redis: Redis,
    dispatcher: Dispatcher,
    batch: TokenBatch,
    announce: Announce,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its place in the queue outlasts it by a moment."""
    monkeypatch.setattr(dispatch, "TICK_S", 0.05)
    monkeypatch.setattr(presence, "HEARTBEAT_S", 0.2)
    announce("lives", lapse_s=30.0)
    announce("vanishes", lapse_s=2.0)
    await asyncio.sleep(0.6)
    task = encode(dispatcher, batch, within_s=10.0)
    await take_parts(redis, 1)
    (again,) = await take_parts(redis, 1)
    await reply(redis, dispatcher, computed(again, 1))
    assert (await task == 1).all()


async def test_a_queue_that_is_out_of_use_is_forgotten(
    dispatcher: Dispatcher, batch: TokenBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "IN_USE_S", 0.1)
    with pytest.raises(WorkerUnavailable):
        await encode(dispatcher, batch, pool="gone")
    await asyncio.sleep(1.2)
    assert dispatcher._lanes == {}


async def test_presence_lapses_by_itself_and_is_remembered_as_lapsed(
    redis: Redis, announce: Announce, monkeypatch: pytest.MonkeyPatch
) -> None:
    announce("w1", lapse_s=0.3)
    (worker,) = await presence.list_workers(redis, QUEUE)
    assert (worker.id, worker.report, worker.has_lapsed) == ("w1", REPORT, False)
    await asyncio.sleep(0.4)
    (worker,) = await presence.list_workers(redis, QUEUE)
    assert worker.has_lapsed
    monkeypatch.setattr(presence, "MEMORY_S", 0.0)
    announce("w2")
    assert [worker.id for worker in await presence.list_workers(redis, QUEUE)] == ["w2"]
    with SyncRedis.from_url(settings.REDIS_URL) as client:
        presence.withdraw(client, QUEUE, "w2")
    assert await presence.list_workers(redis, QUEUE) == []


async def test_a_worker_that_is_stopping_gets_nothing(
    dispatcher: Dispatcher, batch: TokenBatch, announce: Announce
) -> None:
    stopping = presence.Report(token_budget=1_000, tokens_per_s=1.0, is_accepting=False)
    announce("w1", report=stopping)
    with pytest.raises(WorkerUnavailable, match="no worker is running"):
        await encode(dispatcher, batch)
