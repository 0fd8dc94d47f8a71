"""The report says what is met, what is not and what was not measured."""

from datetime import UTC, datetime

import msgspec
import pytest

from bench.encoding import Encoding
from bench.fairness import Fairness
from bench.ledger import Ledgered, Recorded
from bench.machine import Machine
from bench.provisioning import Provisioned
from bench.report import Bar, Results, bars, render
from bench.stages import NAMES, Rest
from bench.switches import Switched

MACHINE = Machine(
    run_at=datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
    commit="0123abc",
    command="python -m bench.run",
    processor="A processor",
    cores=2,
    memory_gb=16.0,
    instructions=["avx2"],
    system="Linux",
    load=0.1,
    versions={"torch": "1"},
)
ENCODING = Encoding(
    workload="10 texts",
    tokens_per_text=50.0,
    flops_per_token=20e6,
    best_dtype="bfloat16",
    token_budget=1_024,
    ceiling_gflops={"bfloat16": {"nn.Linear 1×2×3": 300.0, "packed 1×2×3": 400.0}},
    engine={"bfloat16": [290.0, 300.0, 500.0]},
    engine_from_text=[280.0, 290.0, 400.0],
    sentence_transformers_default=[58.0, 58.0, 58.0],
    sentence_transformers_best=[150.0, 145.0, 100.0],
    sentence_transformers_best_setting="bfloat16, batch 16",
    sweep={"bfloat16, batch 16": 150.0},
    worst_cosine={"bfloat16": 0.99991, "float32": 1.0},
)
# The machine slows down; what Annex adds does not.
REST = Rest(
    p50_ms=[9.0, 19.0, 44.0],
    p95_ms=[12.0, 22.0, 50.0],
    engine_ms=[4.0, 13.0, 39.0],
    stages=dict.fromkeys(NAMES, 0.5),
)
FAIRNESS = [
    Fairness(
        rest_p50_ms=8.0, rest_p95_ms=rest_p95_ms, loaded_p50_ms=50.0, loaded_p95_ms=loaded_p95_ms,
        loaded_queries=100, bulk_texts_per_s=300.0, batch_ms=45.0,
    )
    for rest_p95_ms, loaded_p95_ms in ((10.0, 75.0), (10.0, 60.0), (85.0, 360.0))
]  # fmt: skip
SWITCHES = [
    Switched(without="", requests_per_s=[500.0, 400.0, 450.0], cpu_ms=[2.0, 3.0, 2.5]),
    Switched(without="limits", requests_per_s=[550.0] * 3, cpu_ms=[1.75, 2.5, 2.625]),
]
LEDGER = Ledgered(
    bulk_events=100_000,
    bulk_events_per_s=[19_000.0, 21_000.0, 25_000.0],
    recorded=[
        Recorded(
            at_once=16,
            events_per_s=3_000.0,
            web_cpu_ms=0.05,
            postgres_cpu_ms=0.1,
            events_per_commit=16.0,
        )
    ],
)
PROVISIONING = [
    Provisioned(
        addons=addons, per_s=50.0, p50_ms=80.0, p99_ms=150.0, web_cpu_ms=20.0,
        postgres_cpu_ms=postgres_cpu_ms,
    )
    for addons, postgres_cpu_ms in ((100, 5.0), (100_000, 12.0))
]  # fmt: skip


def found(what: str, **parts: object) -> Bar:
    results = msgspec.structs.replace(Results(machine=MACHINE), **parts)
    (bar,) = [bar for bar in bars(results) if what in bar.what]
    return bar


def bar(bound: float, measured: float | None, direction: str = "at least") -> Bar:
    return msgspec.convert(
        {"what": "x", "bound": bound, "direction": direction, "measured": measured}, Bar
    )


@pytest.mark.parametrize(
    ("direction", "measured", "is_met"),
    [
        ("at least", 0.75, True),
        ("at least", 0.7499, False),
        ("at most", 4.0, True),
        ("at most", 4.01, False),
        ("at least", None, None),
    ],
)
def test_a_bar_is_met_at_its_bound(
    direction: str, measured: float | None, is_met: bool | None
) -> None:
    assert bar(0.75 if direction == "at least" else 4.0, measured, direction).is_met is is_met


def test_a_figure_is_never_rounded_up_to_its_bar() -> None:
    assert bar(0.75, 0.7499).row() == ["x", "at least 0.75", "0.74", "**not met**"]
    assert bar(0.9995, 0.99949).row() == ["x", "at least 0.9995", "0.9994", "**not met**"]
    assert bar(4.0, 4.001, "at most").row() == ["x", "at most 4", "4.01", "**not met**"]


def test_a_bar_that_was_not_measured_says_why() -> None:
    assert bar(0.75, None).row() == ["x", "at least 0.75", "not in this run", "–"]


def test_the_engine_is_compared_with_the_fastest_products_and_medians_are_compared() -> None:
    # 300 texts/s of 50 tokens of 20 MFLOP are 300 GFLOP/s.
    assert found("ceiling", encoding=ENCODING).measured == pytest.approx(300 / 400)
    assert found("best setting", encoding=ENCODING).measured == pytest.approx(290 / 145)
    assert found("transformers' default", encoding=ENCODING).measured == pytest.approx(290 / 58)
    assert found("cosine", encoding=ENCODING).measured == 0.99991


def test_latency_at_rest_is_counted_above_the_engines_own() -> None:
    assert found("p50 at rest", rest=REST).measured == 5.0  # of 5, 6 and 5
    assert found("p50 at rest", rest=REST).is_met is False
    assert "adds 5.0 ms (5.0 to 6.0)" in render(Results(machine=MACHINE, rest=REST))


def test_fairness_allows_three_times_rest_and_a_batch_of_the_same_round() -> None:
    assert FAIRNESS[0].allowed_p95_ms == 75.0
    bar = found("beside another's bulk", fairness=FAIRNESS)
    assert (bar.measured, bar.is_met) == (1.0, True)  # of 1, 0.8 and 1.2
    text = render(Results(machine=MACHINE, fairness=FAIRNESS))
    assert "| 8.0 | 85.0 | 45 | 300.0 | 100 | 50.0 | 360.0 | 1.20 | 300 |" in text


def test_what_a_part_costs_is_told_with_every_round() -> None:
    text = render(Results(machine=MACHINE, switches=SWITCHES))
    assert "| nothing | 450 | 2.50 |  |  |" in text
    assert "| limits | 550 | 2.50 | 0.25 | 0.25, 0.50, -0.12 |" in text


def test_a_provision_may_cost_so_much_and_no_more_when_there_are_many() -> None:
    with_most = found("CPU of a provision, platform", provisioning=PROVISIONING)
    assert (with_most.measured, with_most.is_met) == (32.0, False)
    growth = found("times that with the fewest", provisioning=PROVISIONING)
    assert growth.measured == pytest.approx(32 / 25)
    assert growth.is_met is False
    text = render(Results(machine=MACHINE, provisioning=PROVISIONING))
    assert "| 100,000 | 50.0 | 80 | 150 | 20.0 | 12.0 | 32.0 |" in text


def test_the_report_of_a_part_leaves_the_others_out() -> None:
    text = render(Results(machine=MACHINE, rest=REST))
    assert "## Latency at rest" in text
    assert "## Fairness" not in text
    assert "| start of a worker to its first answer | at most 5 s | not in this run | – |" in text


def test_every_row_of_the_report_has_the_columns_of_its_table() -> None:
    text = render(Results(machine=MACHINE, encoding=ENCODING, rest=REST, fairness=FAIRNESS))
    for block in text.split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        assert len({line.count(" | ") for line in lines}) <= 1, block


def test_results_survive_their_file() -> None:
    results = Results(machine=MACHINE, encoding=ENCODING, rest=REST, fairness=FAIRNESS)
    assert msgspec.json.decode(msgspec.json.encode(results), type=Results) == results


def test_the_ledger_is_measured_by_its_middle_round_and_all_processor_time() -> None:
    bulk, request = found("in bulk", ledger=LEDGER), found("on the request path", ledger=LEDGER)
    assert (bulk.measured, bulk.is_met) == (21_000, True)
    assert request.measured == pytest.approx(0.15)
    text = render(Results(machine=MACHINE, ledger=LEDGER))
    assert "19,000, 21,000, 25,000 events/s" in text
    assert "| 16 | 3,000 | 0.050 | 0.100 | 0.150 | 16.0 |" in text
