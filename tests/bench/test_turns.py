"""What is compared takes turns: a machine that slows down slows all of it alike."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench import fairness, stages, switches
from bench.load import LoadResult
from bench.request_path import CLIENT, Measured, Shape
from bench.spans import WebSpans, WorkerSpan


class Machine:
    """Whatever is done takes it a second longer than what was done before."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def do(self, what: str) -> float:
        self.done.append(what)
        return float(len(self.done))

    def load(
        self, host: str, port: int, requests: list[bytes], connections: int, seconds: float
    ) -> LoadResult:
        latency_s = self.do(requests[0].decode()) if connections == 1 else 1.0
        return LoadResult(
            requests=1, seconds=seconds, latencies_s=[latency_s], answered=1, client_cpu_s=0.0
        )

    @contextmanager
    def serving(self, **_: object) -> Iterator[Any]:
        yield SimpleNamespace(port=0)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    monkeypatch.setattr(time, "sleep", lambda _: None)
    monkeypatch.setattr(stages, "run_load", machine.load)
    monkeypatch.setattr(fairness, "run_load", machine.load)
    return machine


def test_latency_at_rest_takes_turns_with_the_engine_alone(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    spans = {
        WebSpans: [WebSpans(total=(0, 1), stages={"encode": (0, 1)})],
        WorkerSpan: [WorkerSpan(taken_at=0.25, computed_at=0.75)],
    }
    monkeypatch.setattr(stages, "_read", lambda _, kind: spans[kind])
    monkeypatch.setattr(stages, "token_ids", lambda *_: [None])
    monkeypatch.setattr(stages, "http_post", lambda *_, **__: b"path")
    annex: Any = SimpleNamespace(keys=("key", "other"), serving=machine.serving)
    engine: Any = SimpleNamespace(
        workload=SimpleNamespace(model=None),
        latency_s=lambda *_: machine.do("engine"),
    )
    rest = stages.measure_rest(annex, engine, rounds=3, seconds=1.0)
    a_round = ["engine", "engine", "path", "path"]  # each warms up first
    assert machine.done == [*a_round * 3, "path"]
    assert rest.above_engine_ms == [2_000.0] * 3


def test_fairness_takes_turns_at_rest_and_under_load(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fairness, "annex_requests", lambda *args: [args[-1].encode()])
    annex: Any = SimpleNamespace(keys=("bulk", "single"), serving=machine.serving)
    engine: Any = SimpleNamespace(
        workload=None,
        encoder=SimpleNamespace(token_budget=2_000),
        tokens_per_s=lambda _: 1_000 / machine.do("engine"),
    )
    rounds = fairness.measure_fairness(annex, engine, rounds=2, seconds=1.0)
    assert machine.done == ["engine", "single", "single", "single"] * 2
    measured = [(one.batch_ms, one.rest_p95_ms, one.loaded_p95_ms) for one in rounds]
    assert measured == [(2_000.0, 3_000.0, 4_000.0), (10_000.0, 7_000.0, 8_000.0)]


def test_the_switches_take_turns_and_are_compared_within_a_round(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(without: str, shape: Shape) -> Measured:
        result = machine.load("", 0, [without.encode()], 1, shape.seconds)
        return Measured(result=result, cpu_ms={"web": result.latencies_s[0], CLIENT: 5.0})

    @contextmanager
    def running_stack(tree: Path, without: str) -> Iterator[Any]:
        yield SimpleNamespace(measure=lambda shape: measure(without, shape))

    monkeypatch.setattr(switches, "running_stack", running_stack)
    whole, limits = switches.measure_switches(("", "limits"), rounds=2, seconds=0.5)
    assert machine.done == ["", "limits"] * 2
    assert (whole.requests_per_s, whole.cpu_ms) == ([2.0, 2.0], [1.0, 3.0])
    assert limits.cost_ms(whole) == [-1.0, -1.0]
