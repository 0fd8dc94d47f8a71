"""What authentication, limits and metering cost: the request path with each left out, in turn."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

import msgspec

from bench.processes import ROOT
from bench.request_path import CLIENT, SHAPES, Measured, running_stack


class Switched(msgspec.Struct, frozen=True, kw_only=True):
    """One request of one text, answered by a worker that computes nothing.

    without: the parts left out; cpu_ms: of web process, servers and worker, a request. A figure
    each round.
    """

    without: str
    requests_per_s: list[float]
    cpu_ms: list[float]

    def cost_ms(self, whole: "Switched") -> list[float]:
        """What the parts left out cost, round by round."""
        return [all_ms - ms for all_ms, ms in zip(whole.cpu_ms, self.cpu_ms, strict=True)]


def measure_switches(
    configurations: Sequence[str], *, rounds: int, seconds: float
) -> list[Switched]:
    """Each of the configurations, which name the parts left out with commas between them, for
    `seconds` a round."""
    shape = replace(SHAPES[0], seconds=seconds)
    with ExitStack() as stack:
        stacks = {
            without: stack.enter_context(running_stack(ROOT, without)) for without in configurations
        }
        found: dict[str, list[Measured]] = {without: [] for without in stacks}
        for _ in range(rounds):
            for without, running in stacks.items():
                found[without].append(running.measure(shape))
    return [
        Switched(
            without=without,
            requests_per_s=[one.result.requests_per_s for one in measured],
            cpu_ms=[sum(one.cpu_ms.values()) - one.cpu_ms[CLIENT] for one in measured],
        )
        for without, measured in found.items()
    ]
