"""More web processes, and more workers, on this one machine."""

from collections.abc import Sequence

import msgspec

from bench.annex import Annex
from bench.http_path import BULK_BY_4, ONE_BY_16, Say, annex_requests, measure
from bench.workload import Workload


class Scaled(msgspec.Struct, frozen=True, kw_only=True):
    """One number of processes; texts a second by shape. Workers share the cores evenly."""

    web_processes: int
    workers: int
    texts_per_s: dict[str, float]
    memory_mb: dict[str, list[float]]


def measure_scaling(
    annex: Annex, workload: Workload, *, counts: Sequence[int], seconds: float, say: Say
) -> list[Scaled]:
    """Each of `counts` web processes with one worker, and the other way round."""
    pairs = dict.fromkeys([*((count, 1) for count in counts), *((1, count) for count in counts)])
    return [_measure(annex, workload, *pair, seconds, say) for pair in pairs]


def _measure(
    annex: Annex, workload: Workload, web: int, workers: int, seconds: float, say: Say
) -> Scaled:
    say(f"scaling: {web} web, {workers} workers")
    with annex.serving(web_processes=web, workers=workers) as serving:
        texts_per_s = {}
        for shape in (ONE_BY_16, BULK_BY_4):
            requests = annex_requests(workload, shape, annex.keys[0])
            measured = measure(serving.port, workload, requests, shape, seconds)
            texts_per_s[str(shape)] = measured.texts_per_s
        return Scaled(
            web_processes=web,
            workers=workers,
            texts_per_s=texts_per_s,
            memory_mb=serving.memory_mb(),
        )
