"""`make bench`: every figure of docs/benchmarks.md, on this machine, in one run.

    .venv/bin/python -m bench.run [--quick] [--only encoding,http,rest,fairness,scaling,...]

A full run writes bench/results/bench.md and bench.json; a part of one, or a quick one, is printed.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec

from bench.annex import Annex, running_annex
from bench.encoding import Engine, find_dtypes, load_engine, measure_encoding, name
from bench.fairness import measure_fairness
from bench.http_path import measure_http_path
from bench.ledger import measure_ledger
from bench.machine import find_machine
from bench.peers import Infinity, find_why_no_infinity, running_infinity
from bench.processes import ROOT
from bench.provisioning import measure_provisioning
from bench.report import Results, render
from bench.request_path import PARTS
from bench.scaling import measure_scaling
from bench.stages import measure_rest
from bench.switches import measure_switches
from bench.workload import Workload, load_workload, set_unused_environment

RESULTS = ROOT / "bench" / "results"
MEASURED = ("encoding", "http", "rest", "fairness", "scaling", "switches", "ledger", "provisioning")


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured. Durations are of one shape in one round."""

    texts: int
    sweep_texts: int
    rounds: int
    short_rounds: int  # of what is small beside its noise: latency at rest, and the switches
    seconds: float
    infinity_s: float  # 0: left out
    rest_s: float
    fairness_s: float
    starts: int
    counts: tuple[int, ...]
    switches: tuple[str, ...]
    switches_s: float
    ledger_events: int
    ledger_s: float
    addons: tuple[int, ...]
    provisioning_s: float


FULL = Size(
    texts=2_000,
    sweep_texts=200,
    rounds=3,
    short_rounds=7,
    seconds=2.5,
    infinity_s=8.0,
    rest_s=1.0,
    fairness_s=6.0,
    starts=1,
    counts=(1, 2, 4),
    switches=("", *PARTS, ",".join(PARTS)),
    switches_s=1.5,
    ledger_events=100_000,
    ledger_s=5.0,
    addons=(100, 10_000, 100_000),
    provisioning_s=8.0,
)
QUICK = Size(
    texts=100,
    sweep_texts=20,
    rounds=1,
    short_rounds=1,
    seconds=1.0,
    infinity_s=0.0,
    rest_s=0.5,
    fairness_s=2.0,
    starts=0,
    counts=(1,),
    switches=("", ",".join(PARTS)),
    switches_s=1.5,
    ledger_events=20_000,
    ledger_s=1.0,
    addons=(100, 1_000),
    provisioning_s=2.0,
)


def run(size: Size, parts: Sequence[str], command: str) -> Results:
    """Measure `parts`, in their order; what was started is stopped, whatever happens."""
    machine = find_machine(ROOT, command)
    workload = load_workload(size.texts)
    engine = load_engine(workload)
    found: dict[str, Any] = {}
    if "encoding" in parts:
        found["encoding"] = measure_encoding(
            workload, engine, rounds=size.rounds, sweep_texts=size.sweep_texts, say=say
        )
    if {"http", "rest", "fairness", "scaling"} & set(parts):
        with running_annex() as annex:
            found |= dict(_measure_annex(annex, engine, size, parts))
    if "switches" in parts:
        say("authentication, limits and metering, each switched off")
        found["switches"] = measure_switches(
            size.switches, rounds=size.short_rounds, seconds=size.switches_s
        )
    if "ledger" in parts:
        say("the ledger, in bulk and event by event")
        found["ledger"] = measure_ledger(
            events=size.ledger_events, rounds=size.rounds, seconds=size.ledger_s
        )
    if "provisioning" in parts:
        say("orders of add-ons, with more and more of them there")
        found["provisioning"] = measure_provisioning(
            counts=size.addons, seconds=size.provisioning_s
        )
    return Results(machine=machine, **found)


def _measure_annex(
    annex: Annex, engine: Engine, size: Size, parts: Sequence[str]
) -> Iterator[tuple[str, Any]]:
    if "http" in parts:
        left_out = "not in a quick run" if not size.infinity_s else find_why_no_infinity()
        dtypes = [] if left_out else find_dtypes(engine)
        with _infinities(engine.workload, map(name, dtypes)) as infinities:
            http = measure_http_path(
                annex,
                engine,
                infinities,
                no_infinity=left_out,
                rounds=size.rounds,
                seconds=size.seconds,
                infinity_s=size.infinity_s,
                starts=size.starts,
                say=say,
            )
        yield "http", http
    if "rest" in parts:
        say("latency at rest, by stage")
        rest = measure_rest(annex, engine, rounds=size.short_rounds, seconds=size.rest_s)
        yield "rest", rest
    if "fairness" in parts:
        say("single queries beside another attachment's bulk")
        fairness = measure_fairness(annex, engine, rounds=size.rounds, seconds=size.fairness_s)
        yield "fairness", fairness
    if "scaling" in parts:
        yield (
            "scaling",
            measure_scaling(
                annex, engine.workload, counts=size.counts, seconds=size.seconds, say=say
            ),
        )


@contextmanager
def _infinities(workload: Workload, dtypes: Iterable[str]) -> Iterator[list[Infinity]]:
    """A server for each of the dtypes that may be its best."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="annex-bench-")))
        found = []
        for dtype in dtypes:
            say(f"infinity starts, {dtype}")
            log = folder / f"{dtype}.log"
            found.append(stack.enter_context(running_infinity(workload, dtype, log)))
        yield found


_started_at = time.monotonic()


def say(what: str) -> None:
    print(f"[{time.monotonic() - _started_at:4.0f} s] {what}", file=sys.stderr, flush=True)


def _stop(signum: int, _: FrameType | None) -> None:
    raise SystemExit(128 + signum)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="less of everything: does it run?")
    names = ",".join(MEASURED)
    parser.add_argument("--only", default=names, metavar="PARTS", help=names)
    options = parser.parse_args()
    parts = options.only.split(",")
    if unknown := set(parts) - set(MEASURED):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {names}")
    signal.signal(signal.SIGTERM, _stop)
    set_unused_environment()
    os.chdir(ROOT)
    command = " ".join(["python -m bench.run", *sys.argv[1:]])
    results = run(QUICK if options.quick else FULL, parts, command)
    text = render(results)
    print(text)
    if not options.quick and set(parts) == set(MEASURED):
        (RESULTS / "bench.md").write_text(text)
        (RESULTS / "bench.json").write_bytes(
            msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n"
        )
        say("written: bench/results/bench.md and bench.json")


if __name__ == "__main__":
    main()
