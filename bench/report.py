"""The report: the bars and whether they are met, then a table for each part that was measured."""

from collections.abc import Iterable, Iterator, Sequence
from math import ceil, floor
from statistics import fmean, median
from typing import Literal

import msgspec

from bench.encoding import Encoding
from bench.fairness import BULK, TIMES_REST, Fairness
from bench.http_path import BULK_BY_4, ONE_BY_16, SHAPES, HttpPath, Shape, rate
from bench.ledger import BULK_CONNECTIONS, Ledgered
from bench.machine import Machine
from bench.provisioning import AT_ONCE, Provisioned
from bench.scaling import Scaled
from bench.stages import NAMES, TEXT, Rest
from bench.switches import Switched

NOT_IN_RUN = "not in this run"


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """One run; None is a part that was left out."""

    machine: Machine
    encoding: Encoding | None = None
    http: HttpPath | None = None
    rest: Rest | None = None
    fairness: list[Fairness] | None = None
    scaling: list[Scaled] | None = None
    switches: list[Switched] | None = None
    ledger: Ledgered | None = None
    provisioning: list[Provisioned] | None = None


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """A figure that has to be reached. `measured` is None where it was not, for the `reason`."""

    what: str
    bound: float
    direction: Literal["at least", "at most"]
    measured: float | None
    unit: str = ""
    reason: str = NOT_IN_RUN

    @property
    def is_met(self) -> bool | None:
        if self.measured is None:
            return None
        reaches = self.measured >= self.bound
        return reaches if self.direction == "at least" else self.measured <= self.bound

    def row(self) -> list[str]:
        bound = f"{self.direction} {_figure(self.bound)}{self.unit}"
        if self.measured is None:
            return [self.what, bound, self.reason, "–"]
        verdict = "met" if self.is_met else "**not met**"
        return [self.what, bound, f"{_figure(self.measured, self.direction)}{self.unit}", verdict]


def bars(results: Results) -> list[Bar]:
    return [
        *_encoding_bars(results.encoding),
        *_http_bars(results.http),
        Bar(
            what="p50 at rest of one short text, above the engine's own time",
            bound=4.0,
            direction="at most",
            measured=median(results.rest.above_engine_ms) if results.rest else None,
            unit=" ms",
        ),
        _fairness_bar(results.fairness),
        Bar(
            what="start of a worker to its first answer",
            bound=5.0,
            direction="at most",
            measured=max(results.http.first_answer_s) if results.http else None,
            unit=" s",
        ),
        *_ledger_bars(results.ledger),
        *_provisioning_bars(results.provisioning),
    ]


def _encoding_bars(encoding: Encoding | None) -> Iterator[Bar]:
    def at_least(what: str, bound: float, measured: float | None, unit: str = "") -> Bar:
        return Bar(what=what, bound=bound, direction="at least", measured=measured, unit=unit)

    share = best = default = cosine = None
    if encoding:
        share = encoding.share_of_ceiling(encoding.best_dtype)
        ours = median(encoding.engine_from_text)
        best = ours / median(encoding.sentence_transformers_best)
        default = ours / median(encoding.sentence_transformers_default)
        cosine = encoding.worst_cosine[encoding.best_dtype]
    yield at_least("engine, share of the matrix-product ceiling, best dtype", 0.75, share)
    yield at_least("engine, times sentence-transformers' best setting", 2, best, "×")
    yield at_least("engine, times sentence-transformers' default", 4, default, "×")
    yield at_least("worst cosine with float32 sentence-transformers", 0.9995, cosine)


def _http_bars(http: HttpPath | None) -> Iterator[Bar]:
    for shape, bound in ((BULK_BY_4, 0.85), (ONE_BY_16, 0.7)):
        yield Bar(
            what=f"whole HTTP path, {shape}, share of engine alone",
            bound=bound,
            direction="at least",
            measured=http.share_of_engine(shape) if http else None,
        )
    for shape in (BULK_BY_4, ONE_BY_16):
        yield Bar(
            what=f"whole HTTP path, {shape}, times infinity's best",
            bound=4,
            direction="at least",
            measured=http.times_infinity(shape) if http else None,
            unit="×",
            reason=http.no_infinity if http else NOT_IN_RUN,
        )


def _fairness_bar(fairness: Sequence[Fairness] | None) -> Bar:
    return Bar(
        what="p95 of single queries beside another's bulk, as a share of what is allowed: "
        f"{TIMES_REST} × at rest + one batch",
        bound=1,
        direction="at most",
        measured=median(one.share_of_allowed for one in fairness) if fairness else None,
    )


def _ledger_bars(ledger: Ledgered | None) -> Iterator[Bar]:
    yield Bar(
        what="usage events into PostgreSQL in bulk, with sums and outbox",
        bound=20_000,
        direction="at least",
        measured=median(ledger.bulk_events_per_s) if ledger else None,
        unit="/s",
    )
    yield Bar(
        what="metering on the request path, CPU of web process and PostgreSQL, 16 at once",
        bound=0.3,
        direction="at most",
        measured=ledger.at_once(16).cpu_ms if ledger else None,
        unit=" ms",
    )


def _provisioning_bars(provisioning: list[Provisioned] | None) -> Iterator[Bar]:
    fullest = max(provisioning, key=lambda one: one.addons) if provisioning else None
    emptiest = min(provisioning, key=lambda one: one.addons) if provisioning else None
    yield Bar(
        what="CPU of a provision, platform, provider and PostgreSQL, with the most add-ons there",
        bound=30,
        direction="at most",
        measured=fullest.cpu_ms if fullest else None,
        unit=" ms",
    )
    yield Bar(
        what="CPU of a provision, with the most add-ons there, times that with the fewest",
        bound=1.25,
        direction="at most",
        measured=fullest.cpu_ms / emptiest.cpu_ms if fullest and emptiest else None,
        unit="×",
    )


def render(results: Results) -> str:
    """Markdown."""
    parts = [
        _machine(results.machine),
        _section("Bars", _table(["", "bar", "measured", ""], (bar.row() for bar in bars(results)))),
    ]
    if results.encoding:
        parts.append(_section("One process", *_encoding(results.encoding)))
    if results.http:
        parts.append(_section("The whole path over HTTP", *_http(results.http)))
    if results.rest:
        parts.append(_section("Latency at rest, by stage", *_rest(results.rest)))
    if results.fairness:
        parts.append(_section("Fairness", *_fairness(results.fairness)))
    if results.scaling:
        parts.append(_section("More processes", *_scaling(results.scaling)))
    if results.switches:
        title = "What authentication, limits and metering cost"
        parts.append(_section(title, *_switches(results.switches)))
    if results.ledger:
        parts.append(_section("The ledger", *_ledger(results.ledger)))
    if results.provisioning:
        parts.append(_section("Provisioning", *_provisioning(results.provisioning)))
    return "\n".join(parts)


def _machine(machine: Machine) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    instructions = ", ".join(machine.instructions) or "no wide vectors"
    return f"""# Benchmark

What is compared was measured in this one run; compare nothing here with another run. It took turns,
round by round; one after the other came only sentence-transformers' settings, the stages of latency
at rest, and the numbers of processes, of events at once and of add-ons.
How each figure is measured: [docs/benchmarks.md](../../docs/benchmarks.md).

- `{machine.command}` at commit {machine.commit}, {machine.run_at:%Y-%m-%d %H:%M} UTC
- {machine.processor}, {machine.cores} cores ({instructions}), {machine.memory_gb} GB
- {machine.system}; load average before the run {machine.load}
- {versions}
"""


def _encoding(encoding: Encoding) -> Iterator[str]:
    texts = encoding.tokens_per_text
    yield (
        f"{encoding.workload}; {encoding.flops_per_token / 1e6:.1f} MFLOP a token; batches of "
        f"{encoding.token_budget:,} tokens. Medians of {len(encoding.engine_from_text)} rounds."
    )
    rows = []
    for dtype, products in encoding.ceiling_gflops.items():
        for product, gflops in _best_of_each_kind(products):
            tokens_per_s = gflops * 1e9 / encoding.flops_per_token
            what = f"matrix products, {dtype}: {gflops:,.0f} GFLOP/s ({product})"
            share = tokens_per_s / encoding.ceiling_tokens_per_s(dtype)
            rows.append(
                [what, f"{tokens_per_s / texts:,.0f}", f"{tokens_per_s:,.0f}", f"{share:.2f}"]
            )
    for dtype, rates in encoding.engine.items():
        what = f"engine, {dtype}, ids ready"
        rows.append(_rate_row(what, rates, texts, encoding.share_of_ceiling(dtype)))
    ceiling = encoding.ceiling_tokens_per_s(encoding.best_dtype)
    for what, rates in (
        (f"engine, {encoding.best_dtype}, from text", encoding.engine_from_text),
        ("sentence-transformers, float32, batch 32", encoding.sentence_transformers_default),
        (
            f"sentence-transformers at its best: {encoding.sentence_transformers_best_setting}",
            encoding.sentence_transformers_best,
        ),
    ):
        rows.append(_rate_row(what, rates, texts, median(rates) * texts / ceiling))
    yield _table(["", "texts/s", "tokens/s", "of the ceiling", "rounds, texts/s"], rows)
    yield "sentence-transformers in every setting, on fewer texts, once:"
    yield _table(
        ["", "texts/s"], ([setting, f"{value:,.0f}"] for setting, value in encoding.sweep.items())
    )
    cosines = ", ".join(f"{dtype} {cosine:.6f}" for dtype, cosine in encoding.worst_cosine.items())
    yield f"Worst cosine with float32 sentence-transformers: {cosines}."


def _best_of_each_kind(rates: dict[str, float]) -> Iterator[tuple[str, float]]:
    """torch's own products, and those with weights laid out beforehand; the best is the ceiling."""
    for kind in dict.fromkeys(product.partition(" ")[0] for product in rates):
        products = [product for product in rates if product.startswith(f"{kind} ")]
        best = max(products, key=lambda product: rates[product])
        yield best, rates[best]


def _rate_row(what: str, rates: list[float], tokens_per_text: float, share: float) -> list[str]:
    middle = median(rates)
    rounds = ", ".join(f"{value:,.0f}" for value in rates)
    return [what, f"{middle:,.0f}", f"{middle * tokens_per_text:,.0f}", f"{share:.2f}", rounds]


def _http(http: HttpPath) -> Iterator[str]:
    alone = [value for values in http.engine_tokens_per_s.values() for value in values]
    yield (
        f"Medians of {len(alone) // len(SHAPES)} rounds. The engine alone, before each shape: "
        f"{min(alone):,.0f} to {max(alone):,.0f} tokens/s."
    )
    heads = ["", "texts/s", "p50 ms", "p95 ms", "of engine alone", "times infinity's best"]
    rows = []
    for shape in SHAPES:
        for encoding_format, rounds in http.annex[str(shape)].items():
            times = http.times_infinity(shape) if encoding_format == "float" else None
            rows.append(
                [
                    f"{shape}, {encoding_format}",
                    f"{rate(rounds):,.0f}",
                    f"{median(one.p50_ms for one in rounds):.1f}",
                    f"{median(one.p95_ms for one in rounds):.1f}",
                    f"{http.share_of_engine(shape, encoding_format):.2f}",
                    f"{times:.1f}" if times else "",
                ]
            )
    for shape in SHAPES:
        rows += _infinity_rows(http, shape)
    yield _table(heads, rows)
    if not http.infinity:
        yield f"infinity-emb: {http.no_infinity}."
    clients = [one.client_cpu_share for found in http.annex.values() for one in found["float"]]
    yield f"The client takes up to {max(clients):.2f} of a core of the same machine."
    yield "Memory of each process after that, MB: " + _memory(http.memory_mb) + "."
    starts = ", ".join(f"{seconds:.1f}" for seconds in http.first_answer_s)
    yield f"Start of a worker to its first answer: {starts} s."


def _infinity_rows(http: HttpPath, shape: Shape) -> Iterator[list[str]]:
    for dtype, rounds in http.infinity.get(str(shape), {}).items():
        yield [
            f"infinity-emb, {shape}, {dtype}",
            f"{rate(rounds):,.0f}",
            f"{median(one.p50_ms for one in rounds):.1f}",
            f"{median(one.p95_ms for one in rounds):.1f}",
            "",
            "",
        ]


def _memory(memory_mb: dict[str, list[float]]) -> str:
    return ", ".join(f"{name} {fmean(values):,.0f}" for name, values in memory_mb.items())


def _rest(rest: Rest) -> Iterator[str]:
    added = rest.above_engine_ms
    yield (
        f"One connection, one text (“{TEXT}”): p50 {median(rest.p50_ms):.1f} ms, p95 "
        f"{median(rest.p95_ms):.1f} ms. The engine alone takes {median(rest.engine_ms):.1f} ms for "
        f"it; Annex adds {median(added):.1f} ms ({min(added):.1f} to {max(added):.1f}). Medians of "
        f"{len(added)} rounds. The stages, medians of processes with clocks in them:"
    )
    rows = [[title, f"{rest.stages[stage]:.2f}"] for stage, title in NAMES.items()]
    yield _table(["", "ms"], [*rows, ["sum", f"{sum(rest.stages.values()):.2f}"]])


def _fairness(fairness: Sequence[Fairness]) -> Iterator[str]:
    yield (
        f"One attachment asks for {BULK} without a pause, another for one text at a time, at rest "
        f"and beside that bulk. Its p95 there may be {TIMES_REST} × that at rest and the engine's "
        "time for a batch. Round by round:"
    )
    heads = ["at rest, p50 ms", "p95 ms", "a batch, ms", "p95 allowed, ms"]
    yield _table(
        [*heads, "beside the bulk, queries", "p50 ms", "p95 ms", "of allowed", "bulk, texts/s"],
        (
            [
                f"{one.rest_p50_ms:.1f}",
                f"{one.rest_p95_ms:.1f}",
                f"{one.batch_ms:.0f}",
                f"{one.allowed_p95_ms:.1f}",
                str(one.loaded_queries),
                f"{one.loaded_p50_ms:.1f}",
                f"{one.loaded_p95_ms:.1f}",
                f"{one.share_of_allowed:.2f}",
                f"{one.bulk_texts_per_s:,.0f}",
            ]
            for one in fairness
        ),
    )


def _scaling(scaling: Sequence[Scaled]) -> Iterator[str]:
    yield "Texts a second; workers share the cores evenly. MB: all web processes, one worker."
    shapes = list(scaling[0].texts_per_s)
    yield _table(
        ["web", "workers", *shapes, "web MB", "gpu MB"],
        (
            [
                str(one.web_processes),
                str(one.workers),
                *(f"{one.texts_per_s[shape]:,.0f}" for shape in shapes),
                f"{sum(one.memory_mb['web']):,.0f}",
                f"{fmean(one.memory_mb['gpu']):,.0f}",
            ]
            for one in scaling
        ),
    )


def _switches(switches: Sequence[Switched]) -> Iterator[str]:
    yield (
        "One text × 16 connections and a worker that computes nothing; processor time of web "
        f"process, servers and worker. Medians of {len(switches[0].cpu_ms)} rounds; a part's cost "
        "is the difference from the first row in the same round. One whose rounds are of both "
        "signs is not told from noise."
    )
    yield _table(
        ["without", "requests/s", "CPU-ms a request", "cost, CPU-ms", "rounds, CPU-ms"],
        (
            [
                one.without.replace(",", ", ") or "nothing",
                f"{median(one.requests_per_s):,.0f}",
                f"{median(one.cpu_ms):.2f}",
                *_cost(one, switches[0]),
            ]
            for one in switches
        ),
    )


def _cost(one: Switched, whole: Switched) -> Iterator[str]:
    if one.without:
        cost_ms = one.cost_ms(whole)
        yield f"{median(cost_ms):.2f}"
        yield ", ".join(f"{each:.2f}" for each in cost_ms)


def _ledger(ledger: Ledgered) -> Iterator[str]:
    rates = ", ".join(f"{rate:,.0f}" for rate in ledger.bulk_events_per_s)
    yield (
        f"In bulk, {BULK_CONNECTIONS} connections, {ledger.bulk_events:,} events of 100 "
        f"attachments a round, each with its sums and an outbox entry: {rates} events/s. On the "
        "request path, each event awaited until it is durable:"
    )
    yield _table(
        ["at once", "events/s", "web CPU-ms", "PostgreSQL CPU-ms", "CPU-ms", "events a commit"],
        (
            [
                str(one.at_once),
                f"{one.events_per_s:,.0f}",
                f"{one.web_cpu_ms:.3f}",
                f"{one.postgres_cpu_ms:.3f}",
                f"{one.cpu_ms:.3f}",
                f"{one.events_per_commit:.1f}",
            ]
            for one in ledger.recorded
        ),
    )


def _provisioning(provisioning: Sequence[Provisioned]) -> Iterator[str]:
    yield (
        f"`POST /apps/:app/addons` over HTTP, {AT_ONCE} at a time, one web process that is the "
        "platform and the provider, by the add-ons that are in the database before; the median "
        "round of each:"
    )
    heads = ["add-ons", "provisions/s", "p50 ms", "p99 ms", "web CPU-ms", "PostgreSQL CPU-ms"]
    yield _table(
        [*heads, "CPU-ms", "rounds, CPU-ms"],
        (
            [
                f"{one.addons:,}",
                f"{one.per_s:.1f}",
                f"{one.p50_ms:.0f}",
                f"{one.p99_ms:.0f}",
                f"{one.web_cpu_ms:.1f}",
                f"{one.postgres_cpu_ms:.1f}",
                f"{one.cpu_ms:.1f}",
                ", ".join(f"{cpu_ms:.1f}" for cpu_ms in one.rounds_cpu_ms),
            ]
            for one in provisioning
        ),
    )


def _section(title: str, *blocks: str) -> str:
    return "\n\n".join([f"## {title}", *blocks]) + "\n"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    width = len(heads)
    lines = [heads, ["---"] * width, *([*row, *[""] * (width - len(row))] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _figure(value: float, direction: str = "at least") -> str:
    """Rounded away from the bound, so that no figure looks better than it is; four digits where
    one is close to 1."""
    scale = 10_000 if 0.99 <= value < 1 else 100
    rounded = (floor if direction == "at least" else ceil)(round(value * scale, 6)) / scale
    return f"{rounded:g}" if rounded < 1_000 else f"{rounded:,.0f}"
