"""The worker's batch: a poisonous request fails alone, and expired ones are not computed."""

import time

import numpy as np
import pytest

from inference import wire, worker
from inference.engine import Encoder
from inference.worker import _compute

POISON = 666


class Fake:
    """An encoder whose vectors say which ids they were made of, and that chokes on one id."""

    def __init__(self, poison: str) -> None:
        self.poison = poison
        self.calls = 0

    def encode(self, sequences: list[np.ndarray]) -> np.ndarray:
        self.calls += 1
        vectors = np.array([[sequence.sum()] * 4 for sequence in sequences], dtype=np.float32)
        if any(POISON in sequence for sequence in sequences):
            if self.poison == "raises":
                raise RuntimeError("out of memory")
            vectors[0] = np.nan
        return vectors


def request(id_: str, *texts: list[int], deadline_at: float = 9e12) -> wire.EncodeRequest:
    return wire.EncodeRequest(
        id=id_,
        deadline_at=deadline_at,
        ids=np.concatenate([np.array(text, dtype="<i4") for text in texts]).tobytes(),
        lengths=np.array([len(text) for text in texts], dtype="<i4").tobytes(),
    )


@pytest.mark.parametrize("poison", ["raises", "returns NaN"])
def test_only_the_poisonous_request_fails(poison: str) -> None:
    requests = [request("a", [1, 2], [3]), request("b", [POISON]), request("c", [4])]
    replies = {reply.id: reply for reply in _compute(as_encoder(Fake(poison)), requests)}
    assert [replies[id_].error is None for id_ in "abc"] == [True, False, True]
    a = np.frombuffer(replies["a"].vectors, dtype="<f4").reshape(2, 4)
    assert a[:, 0].tolist() == [3, 3]
    assert np.frombuffer(replies["c"].vectors, dtype="<f4")[0] == 4


def as_encoder(fake: Fake) -> Encoder:
    return fake  # type: ignore[return-value]


def test_expired_requests_are_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake("raises")
    monkeypatch.setattr(worker, "load_encoder", lambda _: fake)
    task = wire.EncodeTask(
        model_id="all-minilm-l6-v2",
        reply_to="replies:test",
        requests=[request("late", [1], deadline_at=time.time() - 1)],
    )
    worker.encode(wire.encode(task))
    assert fake.calls == 0
