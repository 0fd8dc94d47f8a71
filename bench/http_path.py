"""The whole path over HTTP: a real key, a real worker, durable metering, answers as clients get
them; and infinity-emb beside it, asked the same."""

from collections.abc import Callable
from itertools import cycle, islice
from statistics import fmean, median

import msgspec

from bench.annex import HOST, Annex
from bench.encoding import Engine
from bench.load import http_post, run_load
from bench.peers import INFINITY_MODEL, Infinity
from bench.workload import MODEL_ID, Workload

WARM_UP_S = 0.5
MIN_ANSWERS = 2  # a connection, of which the first does not count
FORMATS = ("float", "base64")

Say = Callable[[str], None]


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """How clients ask: texts a request, and connections that each have one under way."""

    texts: int
    connections: int

    def __str__(self) -> str:
        return f"{self.texts} text{'s' * (self.texts > 1)} × {self.connections}"


ONE_BY_16 = Shape(texts=1, connections=16)
BULK_BY_4 = Shape(texts=32, connections=4)
FULL_BY_2 = Shape(texts=96, connections=2)
ONE_BY_1 = Shape(texts=1, connections=1)
SHAPES = (ONE_BY_16, BULK_BY_4, FULL_BY_2, ONE_BY_1)


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One shape, one round."""

    texts_per_s: float
    tokens_per_s: float
    p50_ms: float
    p95_ms: float
    client_cpu_share: float  # of one core


class HttpPath(msgspec.Struct, frozen=True, kw_only=True):
    """Rounds, in which everything takes its turn. engine_tokens_per_s: alone, before each shape;
    annex: by shape and format; infinity: by shape and dtype, empty where it was not measured, for
    the reason `no_infinity`."""

    engine_tokens_per_s: dict[str, list[float]]
    annex: dict[str, dict[str, list[Measured]]]
    infinity: dict[str, dict[str, list[Measured]]]
    no_infinity: str
    memory_mb: dict[str, list[float]]
    first_answer_s: list[float]

    def share_of_engine(self, shape: Shape, encoding_format: str = "float") -> float:
        """Tokens a second, of those of the engine alone just before; the median round."""
        rounds = self.annex[str(shape)][encoding_format]
        pairs = zip(rounds, self.engine_tokens_per_s[str(shape)], strict=True)
        return median(measured.tokens_per_s / engine for measured, engine in pairs)

    def best_infinity(self, shape: Shape) -> tuple[str, float] | None:
        """Its fastest dtype for that shape, and texts a second."""
        rates = {dtype: rate(rounds) for dtype, rounds in self.infinity.get(str(shape), {}).items()}
        return max(rates.items(), key=lambda item: item[1], default=None)

    def times_infinity(self, shape: Shape) -> float | None:
        best = self.best_infinity(shape)
        return rate(self.annex[str(shape)]["float"]) / best[1] if best else None


def rate(rounds: list[Measured]) -> float:
    """Texts a second in the median round."""
    return median(measured.texts_per_s for measured in rounds)


def measure_http_path(
    annex: Annex,
    engine: Engine,
    infinities: list[Infinity],
    *,
    no_infinity: str,
    rounds: int,
    seconds: float,
    infinity_s: float,
    starts: int,
    say: Say,
) -> HttpPath:
    workload = engine.workload
    say("Annex starts")
    first_answers_s = []
    for _ in range(starts):
        with annex.serving() as serving:
            first_answers_s.append(serving.first_answer_s)
    alone: dict[str, list[float]] = {str(shape): [] for shape in SHAPES}
    ours: dict[str, dict[str, list[Measured]]] = {
        str(shape): {encoding_format: [] for encoding_format in FORMATS} for shape in SHAPES
    }
    theirs: dict[str, dict[str, list[Measured]]] = {
        str(shape): {infinity.dtype: [] for infinity in infinities}
        for shape in (ONE_BY_16, BULK_BY_4)
        if infinities
    }
    with annex.serving() as serving:
        first_answers_s.append(serving.first_answer_s)
        for number in range(1, rounds + 1):
            say(f"whole path{' and infinity' if infinities else ''}, round {number} of {rounds}")
            for shape in SHAPES:
                alone[str(shape)].append(engine.tokens_per_s())
                for encoding_format, found in ours[str(shape)].items():
                    requests = annex_requests(workload, shape, annex.keys[0], encoding_format)
                    found.append(measure(serving.port, workload, requests, shape, seconds))
                if str(shape) in theirs:
                    for infinity in infinities:
                        requests = _infinity_requests(workload, shape)
                        measured = measure(infinity.port, workload, requests, shape, infinity_s)
                        theirs[str(shape)][infinity.dtype].append(measured)
        memory_mb = serving.memory_mb()
    return HttpPath(
        engine_tokens_per_s=alone,
        annex=ours,
        infinity=theirs,
        no_infinity=no_infinity,
        memory_mb=memory_mb,
        first_answer_s=first_answers_s,
    )


def annex_requests(
    workload: Workload, shape: Shape, key: str, encoding_format: str = "float"
) -> list[bytes]:
    bodies = [
        {"model": MODEL_ID, "input": group, "encoding_format": encoding_format}
        for group in groups(workload.texts, shape.texts)
    ]
    return [
        http_post("/v1/embeddings", msgspec.json.encode(body), host=HOST, key=key)
        for body in bodies
    ]


def _infinity_requests(workload: Workload, shape: Shape) -> list[bytes]:
    bodies = [
        {"model": INFINITY_MODEL, "input": group} for group in groups(workload.texts, shape.texts)
    ]
    return [http_post("/embeddings", msgspec.json.encode(body), host=HOST) for body in bodies]


def groups(texts: list[str], size: int) -> list[list[str]]:
    """Whole groups only, so that every request is of the same size."""
    return [texts[start : start + size] for start in range(0, len(texts) - size + 1, size)]


def measure(
    port: int, workload: Workload, requests: list[bytes], shape: Shape, seconds: float
) -> Measured:
    """Warm up, then load for `seconds`, or longer where that is for too few answers.

    `requests` are the workload's texts in their order.
    """
    run_load(HOST, port, requests, shape.connections, WARM_UP_S)
    result = run_load(HOST, port, requests, shape.connections, seconds)
    while len(result.latencies_s) < MIN_ANSWERS * shape.connections:
        seconds *= 2
        result = run_load(HOST, port, requests, shape.connections, seconds)
    texts_per_s = steady_requests_per_s(result.latencies_s, shape.connections) * shape.texts
    return Measured(
        texts_per_s=texts_per_s,
        tokens_per_s=texts_per_s * _tokens_per_text(workload, shape, len(result.latencies_s)),
        p50_ms=result.latency_ms(50),
        p95_ms=result.latency_ms(95),
        client_cpu_share=result.client_cpu_s / result.seconds,
    )


def steady_requests_per_s(latencies_s: list[float], connections: int) -> float:
    """By Little's law, as each connection always has a request under way.

    `latencies_s` are in order of arrival. To count the answers within the time would leave out the
    requests under way at its end: of 96 texts, one in ten. The first request of each connection
    found the server idle and does not count.
    """
    return connections / fmean(latencies_s[connections:])


def _tokens_per_text(workload: Workload, shape: Shape, answered: int) -> float:
    """Of the texts that were answered: requests are sent in order, from the first again at the
    end, and not all texts may have had their turn."""
    count = len(workload.texts) // shape.texts * shape.texts
    return fmean(islice(cycle(workload.lengths[:count]), answered * shape.texts))
