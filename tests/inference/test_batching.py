"""Batching in a worker: several tasks share a batch, what nobody waits for is left out, and a stop
finishes or hands back all."""

import threading
import time

import numpy as np
import pytest

from inference import batching, wire
from inference.batching import Batch, Batcher

BUDGET = 100


def part(id_: int, *lengths: int, flow: str = "a", deadline_at: float = 9e12) -> wire.Part:
    return wire.Part(
        id=id_,
        flow_id=flow,
        deadline_at=deadline_at,
        request_tokens=sum(lengths),
        ids=np.arange(sum(lengths), dtype="<i4").tobytes(),
        lengths=np.array(lengths, dtype="<i4").tobytes(),
    )


def task(*parts: wire.Part, model_id: str = "m", reply_to: str = "r") -> wire.EncodeTask:
    return wire.EncodeTask(model_id=model_id, reply_to=reply_to, parts=list(parts))


@pytest.fixture
def batcher() -> Batcher:
    return Batcher(lambda _: BUDGET)


def ids(batch: Batch | None) -> list[int]:
    assert batch is not None
    return [held.part.id for held in batch.parts]


def test_tasks_of_several_web_processes_share_a_batch(batcher: Batcher) -> None:
    batcher.accept(task(part(1, 10, 20), reply_to="web 1"))
    batcher.accept(task(part(2, 30), reply_to="web 2"))
    batch = batcher.take()
    assert batch is not None
    assert [(held.part.id, held.reply_to) for held in batch.parts] == [(1, "web 1"), (2, "web 2")]
    assert [len(text) for held in batch.parts for text in held.sequences] == [10, 20, 30]


def test_a_batch_fits_the_budget_and_the_rest_follows(
    batcher: Batcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "QUERY_MEMORY_S", 0.0)
    batcher.accept(task(*[part(number, 40) for number in range(5)]))
    assert [ids(batcher.take()) for _ in range(3)] == [[0, 1], [2, 3], [4]]


def test_another_attachments_query_is_in_the_next_batch() -> None:
    batcher = Batcher(lambda _: 1_000)
    batcher.accept(task(*[part(number, 450, flow="bulk") for number in range(20)]))
    assert ids(batcher.take()) == [0, 1]
    batcher.accept(task(part(99, 5, flow="query")))
    assert 99 in ids(batcher.take())


def test_streams_share_out_what_is_little() -> None:
    """Else one would compute nearly all of it, and the other run out."""
    batcher = Batcher(lambda _: 2_000, streams=2)
    batcher.accept(task(*[part(number, 50, flow=str(number)) for number in range(16)]))
    assert len(ids(batcher.take())) == 8
    assert len(ids(batcher.take())) == 8


def test_a_query_is_not_computed_together_with_bulk() -> None:
    batcher = Batcher(lambda _: 1_000)
    for number in range(5):
        bulk = part(number, 500, flow="bulk")
        batcher.accept(task(wire.Part(number, "bulk", 9e12, 9_000, bulk.ids, bulk.lengths)))
    assert ids(batcher.take()) == [0, 1]
    batcher.accept(task(part(10, 9, flow="one"), part(11, 9, flow="two")))
    assert ids(batcher.take()) == [10, 11]
    assert ids(batcher.take()) == [2]


def test_batches_of_bulk_are_half_as_large_for_a_while_after_a_query(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batcher = Batcher(lambda _: 2_000)
    batcher.accept(task(*[part(number, 500, flow="bulk") for number in range(12)]))
    assert len(ids(batcher.take())) == 4
    batcher.accept(task(part(99, 5, flow="query")))
    assert ids(batcher.take()) == [99]
    assert len(ids(batcher.take())) == 2
    monkeypatch.setattr(batching, "QUERY_MEMORY_S", 0.0)
    assert len(ids(batcher.take())) == 4


def test_models_take_turns(batcher: Batcher) -> None:
    batcher.accept(task(*[part(number, 90) for number in range(3)], model_id="m"))
    batcher.accept(task(*[part(number, 90) for number in range(3)], model_id="n"))
    models = [batch.model_id for batch in (batcher.take() for _ in range(6)) if batch]
    assert models in (["m", "n"] * 3, ["n", "m"] * 3)


class Worker:
    """Takes batches and answers them at once, with room for one model in memory."""

    def __init__(self, *, can_load: bool = True) -> None:
        self.can_load = can_load
        self.loaded = "m"
        self.batcher = Batcher(lambda _: BUDGET, is_loaded=lambda id_: id_ == self.loaded)

    def accept(self, model_id: str, parts: int = 1) -> None:
        self.batcher.accept(task(*[part(id_, 90) for id_ in range(parts)], model_id=model_id))

    def work(self, batches: int = 1) -> list[str]:
        """The models of the next batches."""
        models = []
        for _ in range(batches):
            batch = self.batcher.take()
            assert batch is not None
            models.append(batch.model_id)
            if self.can_load:
                self.loaded = batch.model_id
            self.batcher.done(batch)
        return models


def test_a_model_that_was_loaded_for_its_turn_keeps_the_worker_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else two models that do not fit together would each be loaded again for every batch."""
    monkeypatch.setattr(batching, "STAY_S", 1.0)
    worker = Worker()
    worker.accept("m", 100)
    worker.accept("n", 100)
    assert worker.work(6) == ["m", "n", "n", "n", "n", "n"]
    started = time.monotonic()
    while worker.work() == ["n"]:
        time.sleep(0.02)
    assert 0.5 < time.monotonic() - started < 5


def test_a_moment_without_requests_does_not_cost_a_model_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who asks for it asks again once the last answer is there."""
    monkeypatch.setattr(batching, "GAP_S", 1.0)
    worker = Worker()
    worker.accept("m", 3)
    worker.accept("n", 1)
    assert worker.work(2) == ["m", "n"]
    threading.Timer(0.3, worker.accept, ["n"]).start()
    started = time.monotonic()
    assert worker.work(3) == ["n", "m", "m"]  # and no longer: nothing more comes for it
    assert 1.0 < time.monotonic() - started < 4


def test_a_model_that_could_not_be_loaded_is_not_tried_again_at_once() -> None:
    worker = Worker(can_load=False)
    worker.accept("m", 5)
    worker.accept("n", 5)
    assert worker.work(6) == ["m", "n", "m", "m", "m", "m"]


def test_parts_past_their_deadline_are_left_out(batcher: Batcher) -> None:
    batcher.accept(task(part(1, 10, deadline_at=time.time() - 1), part(2, 10)))
    assert ids(batcher.take()) == [2]


@pytest.mark.parametrize("lengths", [b"", b"\x02\0\0\0", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x01"])
def test_a_part_that_is_none_is_refused_with_its_whole_task(
    batcher: Batcher, lengths: bytes
) -> None:
    broken = wire.Part(
        id=2, flow_id="a", deadline_at=9e12, request_tokens=1, ids=b"\0" * 4, lengths=lengths
    )
    with pytest.raises(ValueError):
        batcher.accept(task(part(1, 10), broken))
    batcher.accept(task(part(3, 10)))
    assert ids(batcher.take()) == [3]


def test_take_waits_for_work(batcher: Batcher) -> None:
    threading.Timer(0.1, lambda: batcher.accept(task(part(1, 10)))).start()
    started = time.monotonic()
    assert ids(batcher.take()) == [1]
    assert time.monotonic() - started < 5


def test_a_worker_that_holds_enough_takes_no_more(
    batcher: Batcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "HELD_BATCHES", 1)
    batcher.accept(task(*[part(number, 60) for number in range(2)]))
    accepted = threading.Event()

    def accept_more() -> None:
        batcher.accept(task(part(9, 10)))
        accepted.set()

    threading.Thread(target=accept_more).start()
    assert not accepted.wait(0.3)
    batcher.take()
    assert accepted.wait(5)


def test_a_stopping_worker_accepts_what_it_has_already_taken_from_the_broker(
    batcher: Batcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "HELD_BATCHES", 0)
    batcher.accept(task(part(1, 60)))
    batcher.is_stopping = True
    batcher.accept(task(part(2, 60)))
    assert [held.part.id for held in batcher.drain(0.0)] == [1, 2]


def test_a_drain_waits_for_what_is_computed_and_returns_what_waits(batcher: Batcher) -> None:
    batcher.accept(task(part(1, 90), part(2, 90)))
    batch = batcher.take()
    assert batch is not None
    threading.Timer(0.1, lambda: batcher.done(batch)).start()
    started = time.monotonic()
    assert [held.part.id for held in batcher.drain(0.5)] == [2]
    assert 0.4 < time.monotonic() - started < 5
    assert batcher.take() is None


def test_a_drain_returns_what_takes_too_long_to_compute(batcher: Batcher) -> None:
    batcher.accept(task(part(1, 90), part(2, 90)))
    batch = batcher.take()
    assert batch is not None
    assert [held.part.id for held in batcher.drain(0.1)] == [1, 2]
    batcher.done(batch)  # late, and no harm


def test_a_drain_returns_queries_and_bulk_alike(batcher: Batcher) -> None:
    batcher.accept(task(part(1, 5, flow="query"), part(2, 900, flow="bulk")))
    batcher.accept(task(part(3, 5, flow="query"), part(4, 900, flow="bulk")))
    assert sorted(held.part.id for held in batcher.drain(0.0)) == [1, 2, 3, 4]


def test_a_drain_does_not_wait_for_what_has_expired(batcher: Batcher) -> None:
    threading.Thread(target=batcher.take, daemon=True).start()
    batcher.accept(task(part(1, 10, deadline_at=time.time() - 1)))
    started = time.monotonic()
    assert batcher.drain(30.0) == []
    assert time.monotonic() - started < 5


def test_a_drain_ends_as_soon_as_all_is_answered(batcher: Batcher) -> None:
    batcher.accept(task(part(1, 90)))
    batch = batcher.take()
    assert batch is not None
    threading.Timer(0.1, lambda: batcher.done(batch)).start()
    started = time.monotonic()
    assert batcher.drain(30.0) == []
    assert time.monotonic() - started < 5
