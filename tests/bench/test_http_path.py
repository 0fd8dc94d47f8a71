"""The arithmetic of the load: rates of a closed loop, and shares by tokens."""

import random
from collections import deque
from statistics import fmean

import pytest

from bench.http_path import (
    BULK_BY_4,
    ONE_BY_16,
    SHAPES,
    HttpPath,
    Measured,
    groups,
    steady_requests_per_s,
)


def serve_in_order(sizes_s: list[float], connections: int, seconds: float) -> list[float]:
    """Latencies of requests to a server that does one at a time, those answered in `seconds`."""
    clock_s, sent_at, latencies = 0.0, deque([0.0] * connections), []
    for size_s in sizes_s:
        clock_s += size_s
        if clock_s > seconds:
            break
        latencies.append(clock_s - sent_at.popleft())
        sent_at.append(clock_s)
    return latencies


@pytest.mark.parametrize("connections", [1, 2, 4, 16])
def test_the_rate_is_the_servers_own_however_few_requests_fit(connections: int) -> None:
    sizes_s = [0.3] * 100
    latencies = serve_in_order(sizes_s, connections, seconds=9.0)
    assert steady_requests_per_s(latencies, connections) == pytest.approx(1 / 0.3)


def test_the_rate_holds_for_requests_of_different_sizes() -> None:
    rng = random.Random(0)  # noqa: S311 - not a secret
    sizes_s = [rng.uniform(0.01, 0.09) for _ in range(2_000)]
    latencies = serve_in_order(sizes_s, 4, seconds=60.0)
    assert steady_requests_per_s(latencies, 4) == pytest.approx(1 / fmean(sizes_s), rel=0.02)


def test_requests_are_whole_groups_in_order() -> None:
    assert groups(["a", "b", "c", "d", "e"], 2) == [["a", "b"], ["c", "d"]]


def test_a_shape_says_how_clients_ask() -> None:
    assert [str(shape) for shape in SHAPES] == [
        "1 text × 16",
        "32 texts × 4",
        "96 texts × 2",
        "1 text × 1",
    ]


def measured(texts_per_s: float, tokens_per_s: float = 0.0) -> Measured:
    return Measured(
        texts_per_s=texts_per_s,
        tokens_per_s=tokens_per_s,
        p50_ms=1.0,
        p95_ms=2.0,
        client_cpu_share=0.1,
    )


def http_path(**infinity: list[float]) -> HttpPath:
    return HttpPath(
        engine_tokens_per_s={"32 texts × 4": [100.0, 200.0, 100.0]},
        annex={
            "32 texts × 4": {"float": [measured(9, 90.0), measured(8, 80.0), measured(10, 100.0)]}
        },
        infinity={
            "32 texts × 4": {
                dtype: [measured(rate) for rate in rates] for dtype, rates in infinity.items()
            }
        }
        if infinity
        else {},
        no_infinity="" if infinity else "not set up",
        memory_mb={},
        first_answer_s=[],
    )


def test_the_share_compares_each_round_with_the_engine_of_that_round() -> None:
    assert http_path().share_of_engine(BULK_BY_4) == pytest.approx(0.9)  # of 0.9, 0.4, 1.0


def test_infinity_counts_with_its_best_dtype() -> None:
    path = http_path(float32=[1.0, 1.0, 1.0], bfloat16=[2.0, 3.0, 4.0])
    assert path.best_infinity(BULK_BY_4) == ("bfloat16", 3.0)
    assert path.times_infinity(BULK_BY_4) == pytest.approx(3.0)


def test_without_infinity_there_is_nothing_to_compare_with() -> None:
    assert http_path().times_infinity(BULK_BY_4) is None
    assert http_path(float32=[1.0]).times_infinity(ONE_BY_16) is None
