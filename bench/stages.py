"""Where the time of one short text at rest goes, stage by stage.

The product has no clocks for it: web process and worker run through modules of the bench that wrap
the functions of each stage (timed_web.py, timed_worker.py) and append a line a request to a file.
Both read the same clock, which on Linux is the machine's. The totals are of a web process and a
worker without them, which take turns with the engine alone; those with clocks come after them.
"""

import os
import tempfile
from pathlib import Path
from statistics import median
from typing import TypeVar

import msgspec

from bench.annex import HOST, Annex
from bench.encoding import Engine
from bench.http_path import ONE_BY_1
from bench.load import LoadResult, http_post, run_load
from bench.spans import LOG_VARIABLE, WebSpans, WorkerSpan
from bench.workload import MODEL_ID, token_ids

TEXT = "How do I rotate the keys of an add-on?"
REPLACED = (
    ("config.asgi:application", "bench.timed_web:application"),
    ("manage.py serve_models", "-m bench.timed_worker serve_models"),
)
WARM_UP_S = 0.5
ENGINE_CALLS = 40  # a round

S = TypeVar("S", bound=msgspec.Struct)

# The order in which a request goes through them.
NAMES = {
    "http": "client, sockets, HTTP parsing (total less what follows)",
    "authenticate": "authenticate the key",
    "read body": "read the body",
    "parse": "parse and check",
    "tokenise": "tokenise",
    "reserve": "reserve (Redis)",
    "queue": "queue: dispatch, Celery, worker's queue",
    "compute": "compute, in the worker",
    "reply": "reply: worker to web process",
    "render": "render",
    "meter": "meter (PostgreSQL, durable)",
    "other": "all else in the web process",
}


class Rest(msgspec.Struct, frozen=True, kw_only=True):
    """Latency at rest, in milliseconds, by round. stages: medians, by the keys of NAMES."""

    p50_ms: list[float]
    p95_ms: list[float]
    engine_ms: list[float]
    stages: dict[str, float]

    @property
    def above_engine_ms(self) -> list[float]:
        """What the path adds, in each round."""
        pairs = zip(self.p50_ms, self.engine_ms, strict=True)
        return [path - engine for path, engine in pairs]


def measure_rest(annex: Annex, engine: Engine, *, rounds: int, seconds: float) -> Rest:
    """Rounds of the engine alone and the path for `seconds`; then as long with clocks."""
    body = msgspec.json.encode({"model": MODEL_ID, "input": TEXT})
    request = http_post("/v1/embeddings", body, host=HOST, key=annex.keys[0])
    (sequence,) = token_ids(engine.workload.model, [TEXT])
    engine_ms, plain = [], []
    with annex.serving() as serving:
        for _ in range(rounds):
            engine.latency_s(sequence, ENGINE_CALLS // 4)
            engine_ms.append(engine.latency_s(sequence, ENGINE_CALLS) * 1000)
            _load(serving.port, request, WARM_UP_S)
            plain.append(_load(serving.port, request, seconds))
    with tempfile.TemporaryDirectory(prefix="annex-bench-") as folder:
        os.chmod(folder, 0o755)  # noqa: S103, PTH101 - nothing secret
        prefix = str(Path(folder) / "stages")
        with annex.serving(replaced=REPLACED, variables={LOG_VARIABLE: prefix}) as serving:
            timed = _load(serving.port, request, rounds * seconds)
        web = _read(Path(f"{prefix}.web"), WebSpans)[-len(timed.latencies_s) :]
        worker = _read(Path(f"{prefix}.worker"), WorkerSpan)
    stages = split(web, worker, median(timed.latencies_s))
    return Rest(
        p50_ms=[result.latency_ms(50) for result in plain],
        p95_ms=[result.latency_ms(95) for result in plain],
        engine_ms=engine_ms,
        stages={stage: seconds * 1000 for stage, seconds in stages.items()},
    )


def split(web: list[WebSpans], worker: list[WorkerSpan], latency_s: float) -> dict[str, float]:
    """Median seconds of each stage; `latency_s` is what the client saw."""
    found: dict[str, list[float]] = {stage: [] for stage in NAMES}
    for spans in web:
        for stage, seconds in _split_one(spans, worker).items():
            found[stage].append(seconds)
    total = median(end - start for start, end in (spans.total for spans in web))
    return {
        **{stage: median(seconds) for stage, seconds in found.items() if seconds},
        "http": latency_s - total,
    }


def _split_one(spans: WebSpans, worker: list[WorkerSpan]) -> dict[str, float]:
    """The stages of one request; the encoding apart into what came before the worker's part, that,
    and what came after."""
    seconds = {stage: end - start for stage, (start, end) in spans.stages.items()}
    start, end = spans.stages["encode"]
    (batch,) = [batch for batch in worker if start < batch.taken_at < end]
    del seconds["encode"]
    seconds["queue"] = batch.taken_at - start
    seconds["compute"] = batch.computed_at - batch.taken_at
    seconds["reply"] = end - batch.computed_at
    seconds["other"] = spans.total[1] - spans.total[0] - sum(seconds.values())
    return seconds


def _load(port: int, request: bytes, seconds: float) -> LoadResult:
    return run_load(HOST, port, [request], ONE_BY_1.connections, seconds)


def _read(file: Path, kind: type[S]) -> list[S]:
    return [msgspec.json.decode(line, type=kind) for line in file.read_bytes().splitlines()]
