"""A request's time, split by the clocks of two processes."""

import pytest

from bench.spans import WebSpans, WorkerSpan
from bench.stages import NAMES, split


def request_at(start: float, compute_s: float) -> tuple[WebSpans, WorkerSpan]:
    """A request that is authenticated for 1 s, waits 2 s, is computed and comes back in 3 s."""
    taken_at = start + 1 + 2
    computed_at = taken_at + compute_s
    end = computed_at + 3
    web = WebSpans(
        total=(start, end + 0.5),
        stages={"authenticate": (start, start + 1), "encode": (start + 1, end)},
    )
    return web, WorkerSpan(taken_at=taken_at, computed_at=computed_at)


def test_every_second_of_a_request_is_in_one_stage() -> None:
    requests = [request_at(100.0 * number, compute_s=4) for number in range(5)]
    web, worker = zip(*requests, strict=True)
    stages = split(list(web), list(worker), latency_s=11.0)
    assert stages == {
        "http": pytest.approx(0.5),
        "authenticate": 1,
        "queue": 2,
        "compute": 4,
        "reply": 3,
        "other": pytest.approx(0.5),
    }
    assert sum(stages.values()) == pytest.approx(11.0)
    assert stages.keys() <= NAMES.keys()


def test_batches_of_other_requests_are_not_taken_for_ones_own() -> None:
    web, worker = request_at(100.0, compute_s=4)
    _, warm_up = request_at(50.0, compute_s=40)
    assert split([web], [warm_up, worker], latency_s=11.0)["compute"] == 4


def test_a_request_that_no_worker_computed_is_an_error() -> None:
    web, _ = request_at(100.0, compute_s=4)
    with pytest.raises(ValueError, match="unpack"):
        split([web], [], latency_s=11.0)
