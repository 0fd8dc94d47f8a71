"""Whether one attachment's bulk makes another's single queries wait."""

import time
from concurrent.futures import ThreadPoolExecutor

import msgspec

from bench.annex import HOST, Annex
from bench.encoding import Engine
from bench.http_path import ONE_BY_1, Shape, annex_requests
from bench.load import run_load

BULK = Shape(texts=96, connections=4)
SATURATED_AFTER_S = 1.0
ENGINE_TEXTS = 500  # of which the time of a batch is taken
TIMES_REST = 3


class Fairness(msgspec.Struct, frozen=True, kw_only=True):
    """One round: one attachment's single queries, at rest and while another asks for all it can."""

    rest_p50_ms: float
    rest_p95_ms: float
    loaded_p50_ms: float
    loaded_p95_ms: float
    loaded_queries: int
    bulk_texts_per_s: float
    batch_ms: float  # what the engine alone takes for its token budget

    @property
    def allowed_p95_ms(self) -> float:
        return TIMES_REST * self.rest_p95_ms + self.batch_ms

    @property
    def share_of_allowed(self) -> float:
        return self.loaded_p95_ms / self.allowed_p95_ms


def measure_fairness(
    annex: Annex, engine: Engine, *, rounds: int, seconds: float
) -> list[Fairness]:
    """Rounds of the engine alone, single queries at rest, and the same beside the bulk."""
    bulk_key, single_key = annex.keys
    singles = annex_requests(engine.workload, ONE_BY_1, single_key)
    bulk = annex_requests(engine.workload, BULK, bulk_key)
    with annex.serving() as serving:
        return [_measure(engine, serving.port, singles, bulk, seconds) for _ in range(rounds)]


def _measure(
    engine: Engine, port: int, singles: list[bytes], bulk: list[bytes], seconds: float
) -> Fairness:
    batch_s = engine.encoder.token_budget / engine.tokens_per_s(ENGINE_TEXTS)
    run_load(HOST, port, singles, ONE_BY_1.connections, SATURATED_AFTER_S)
    rest = run_load(HOST, port, singles, ONE_BY_1.connections, seconds)
    duration_s = seconds + 2 * SATURATED_AFTER_S
    with ThreadPoolExecutor(1) as thread:
        load = thread.submit(run_load, HOST, port, bulk, BULK.connections, duration_s)
        time.sleep(SATURATED_AFTER_S)
        loaded = run_load(HOST, port, singles, ONE_BY_1.connections, seconds)
        saturating = load.result()
    return Fairness(
        rest_p50_ms=rest.latency_ms(50),
        rest_p95_ms=rest.latency_ms(95),
        loaded_p50_ms=loaded.latency_ms(50),
        loaded_p95_ms=loaded.latency_ms(95),
        loaded_queries=len(loaded.latencies_s),
        bulk_texts_per_s=saturating.requests_per_s * BULK.texts,
        batch_ms=batch_s * 1000,
    )
