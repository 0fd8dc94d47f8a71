"""The worker: batches with real weights, poisonous texts, several models, a stop in good order."""

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from django.conf import settings
from redis import Redis
from redis.exceptions import RedisError

from billing.plans import SHARED_POOL
from inference import checkpoints, presence, wire, worker
from inference.batching import Batch, Held
from inference.catalogue import get_model, model_of_queue, queue_name
from inference.engine import Encoded, Encoder
from inference.pools import pool_name
from inference.worker import Service
from tests.inference.conftest import StartWorker

MODEL_ID = "all-minilm-l6-v2"
QUEUE = queue_name(MODEL_ID, pool_name("us", SHARED_POOL))


def part(id_: int, *lengths: int, deadline_at: float | None = None) -> wire.Part:
    return wire.Part(
        id=id_,
        flow_id="a",
        deadline_at=deadline_at or time.time() + 60,
        request_tokens=sum(lengths),
        ids=np.full(sum(lengths), 2_000 + id_, dtype="<i4").tobytes(),
        lengths=np.array(lengths, dtype="<i4").tobytes(),
    )


def task(*parts: wire.Part, reply_to: str = "replies:test") -> wire.EncodeTask:
    return wire.EncodeTask(model_id=MODEL_ID, reply_to=reply_to, parts=list(parts))


def other(*parts: wire.Part) -> wire.EncodeTask:
    """A task of another model."""
    return wire.EncodeTask(model_id="bge-m3", reply_to="replies:test", parts=list(parts))


@pytest.fixture
def service(redis_client: Redis) -> Iterator[Service]:
    """A service in this very process: what Celery's signals start."""
    redis = Redis.from_url(settings.REDIS_URL)
    service = Service(redis=redis, queues=[QUEUE], memory_bytes=10**9)
    service.load()
    service.start()
    yield service
    service.batcher.is_stopping = True
    service.stop()


def read_replies(redis: Redis, count: int, key: str = "replies:test") -> dict[int, wire.Reply]:
    replies: dict[int, wire.Reply] = {}
    deadline = time.monotonic() + 20
    while len(replies) < count:
        popped = redis.blpop([key], timeout=1)
        assert popped is not None or time.monotonic() < deadline
        if popped is not None:
            message = wire.decode_replies(cast(bytes, popped[1]))
            replies |= {reply.part_id: reply for reply in message}
    return replies


def test_each_part_gets_the_vectors_of_its_texts(service: Service, redis_client: Redis) -> None:
    service.batcher.accept(task(part(1, 5, 9), part(2, 7)))
    replies = read_replies(redis_client, 2)
    vectors = {id_: np.frombuffer(reply.vectors, "<f4") for id_, reply in replies.items()}
    assert {id_: vector.size for id_, vector in vectors.items()} == {1: 2 * 384, 2: 384}
    service.batcher.accept(task(part(2, 7)))
    alone = np.frombuffer(read_replies(redis_client, 1)[2].vectors, "<f4")
    assert float(alone @ vectors[2]) > 0.9999


def test_replies_go_to_the_list_of_each_web_process(service: Service, redis_client: Redis) -> None:
    service.batcher.accept(task(part(1, 5), reply_to="replies:one"))
    service.batcher.accept(task(part(1, 5), reply_to="replies:two"))
    assert read_replies(redis_client, 1, "replies:one")[1].outcome == "computed"
    assert read_replies(redis_client, 1, "replies:two")[1].outcome == "computed"


def test_a_text_that_the_model_cannot_take_fails_alone(
    service: Service, redis_client: Redis
) -> None:
    bad = np.array([1, 2, 10_000_000], dtype="<i4").tobytes()
    lengths = np.array([1, 2], dtype="<i4").tobytes()
    poison = wire.Part(9, "a", time.time() + 60, 3, bad, lengths)
    service.batcher.accept(task(part(1, 5), poison, part(2, 5)))
    replies = read_replies(redis_client, 3)
    assert [replies[id_].outcome for id_ in (1, 9, 2)] == ["computed", "failed", "computed"]
    assert replies[9].failed == (1,)


def test_parts_past_their_deadline_get_no_reply(service: Service, redis_client: Redis) -> None:
    service.batcher.accept(task(part(1, 5, deadline_at=time.time() - 1), part(2, 5)))
    assert set(read_replies(redis_client, 1)) == {2}
    assert redis_client.llen("replies:test") == 0


def test_it_announces_what_it_can_do(service: Service, redis_client: Redis) -> None:
    entry = redis_client.hget(f"workers:{QUEUE}", worker.WORKER_ID)
    assert entry is not None
    assert b'"is_accepting":true' in entry
    report = service._reports[MODEL_ID]
    assert report.token_budget > 0
    assert report.tokens_per_s > 0


def test_its_speed_is_that_of_all_streams_together(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two streams that start and end together give two batches at nearly the same moment."""
    report = service._reports[MODEL_ID]
    batch = Batch(MODEL_ID, [Held(part(1, report.token_budget), [], "r")])
    clock = 100.0
    monkeypatch.setattr(time, "perf_counter", lambda: clock)
    speeds = []
    for _ in range(40):
        taken_at = clock
        clock += 1.0
        for _ in range(2):
            clock += 1e-6
            service._rate(batch, taken_at)
            speeds.append(service._reports[MODEL_ID].tokens_per_s / report.token_budget)
    assert all(1.7 < speed < 2.3 for speed in speeds[40:])


def test_redis_out_of_reach_for_a_moment_stops_neither_its_start_nor_its_stop(
    redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    announce, refusals = presence.announce, [RedisError("LOADING")] * 2

    def refuse_at_first(*arguments: Any) -> None:
        if refusals:
            raise refusals.pop()
        announce(*arguments)

    monkeypatch.setattr(presence, "announce", refuse_at_first)
    monkeypatch.setattr(presence, "HEARTBEAT_S", 0.05)
    service = Service(redis=redis_client, queues=[QUEUE], memory_bytes=10**9)
    service.load()
    service.start()
    service.batcher.accept(task(part(1, 5)))
    assert read_replies(redis_client, 1)[1].outcome == "computed"
    deadline = time.monotonic() + 20
    while not redis_client.hexists(f"workers:{QUEUE}", worker.WORKER_ID):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    refusals += [RedisError("READONLY")] * 1_000
    service.stop()
    assert not redis_client.hexists(f"workers:{QUEUE}", worker.WORKER_ID)


def test_a_damaged_model_evicts_none(
    service: Service, redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def verify(folder: Path, digests: object) -> None:
        raise ValueError("model.safetensors is damaged")

    model = get_model(MODEL_ID)
    monkeypatch.setattr(worker, "get_model", lambda _: model)
    monkeypatch.setattr(checkpoints, "verify", verify)
    service._models._budget_bytes = service._models.memory_bytes * 3 // 2
    service.batcher.accept(other(part(1, 5)))
    assert read_replies(redis_client, 1)[1].outcome == "failed"
    assert service._models.resident == (MODEL_ID,)


def test_a_model_is_loaded_once_what_is_computed_has_let_go_of_its_place(
    service: Service, redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = get_model(MODEL_ID)
    monkeypatch.setattr(worker, "get_model", lambda _: model)
    service._models._budget_bytes = service._models.memory_bytes * 3 // 2
    held: list[int] = []
    load, give = service._models._load, service._give

    def note(model_id: str) -> Encoder:
        held.append(service._pipeline._held)
        return load(model_id)

    def give_slowly(*arguments: Any) -> None:
        time.sleep(0.5)
        give(*arguments)

    monkeypatch.setattr(service._models, "_load", note)
    monkeypatch.setattr(service._pipeline, "_give", give_slowly)
    service.batcher.accept(task(part(1, 5)))
    service.batcher.accept(other(part(2, 5)))
    assert {reply.outcome for reply in read_replies(redis_client, 2).values()} == {"computed"}
    assert held == [0]


def test_a_model_that_fits_in_no_memory_is_refused_at_the_start(redis_client: Redis) -> None:
    from inference.engine import ModelTooLarge

    service = Service(redis=redis_client, queues=[QUEUE], memory_bytes=1_000)
    with pytest.raises(ModelTooLarge):
        service.load()


def test_replies_of_a_batch_are_cut_by_part() -> None:
    parts = [
        Held(part(1, 1, 1), [np.ones(1, np.int32)] * 2, "r"),
        Held(part(2, 1), [np.ones(1, np.int32)], "r"),
    ]
    vectors = np.arange(6, dtype=np.float32).reshape(3, 2)
    batch = Batch(MODEL_ID, parts)
    one, two = worker._replies(batch, Encoded(vectors=vectors, failed=()))
    assert np.frombuffer(one.vectors, "<f4").tolist() == [0, 1, 2, 3]
    assert np.frombuffer(two.vectors, "<f4").tolist() == [4, 5]
    one, two = worker._replies(batch, Encoded(vectors=vectors, failed=(1,)))
    assert (one.outcome, one.failed, one.vectors) == ("failed", (1,), b"")
    assert two.outcome == "computed"


def test_the_queue_of_a_pool_names_its_model() -> None:
    assert model_of_queue(queue_name("org.model-v1.5", pool_name("us", "gold"))) == "org.model-v1.5"


def test_a_stop_answers_or_hands_back_everything(
    service: Service, redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "DRAIN_S", 0.3)
    service.batcher.is_stopping = True  # it holds whatever comes
    for number in range(1_000):
        service.batcher.accept(task(part(number, *[250] * 4)))
    replies = read_replies(redis_client, 1)  # at work
    started = time.monotonic()
    service.stop()
    assert time.monotonic() - started < 5
    replies |= read_replies(redis_client, 1_000 - len(replies))
    assert len(replies) == 1_000
    assert {reply.outcome for reply in replies.values()} == {"computed", "handed back"}
    assert not redis_client.hexists(f"workers:{QUEUE}", worker.WORKER_ID)


def test_sigterm_finishes_what_the_process_holds_within_25_s(
    start_worker: StartWorker, redis_client: Redis
) -> None:
    from config.celery import app

    process = start_worker()
    tasks = [task(*[part(10 * n + m, *[200] * 4) for m in range(10)]) for n in range(12)]
    for one in tasks:
        app.send_task(
            wire.ENCODE_TASK, args=[wire.encode(one)], queue=QUEUE, serializer=wire.SERIALIZER
        )
    answered = set(read_replies(redis_client, 1))  # at work
    process.send_signal(signal.SIGTERM)
    threading.Timer(1.0, process.send_signal, [signal.SIGTERM]).start()  # as `make up` asks again
    started = time.monotonic()
    assert process.wait(timeout=25) == 0
    assert time.monotonic() - started < 25
    while (message := redis_client.lpop("replies:test")) is not None:
        answered |= {reply.part_id for reply in wire.decode_replies(cast(bytes, message))}
    # What it had not taken from the broker is still there, for another worker.
    left = redis_client.llen(QUEUE)
    assert len(answered) == 120 - 10 * left
    assert redis_client.hlen(f"workers:{QUEUE}") == 0
