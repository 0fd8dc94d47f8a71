"""The ceiling: how fast this machine computes the model's matrix products and nothing else."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from statistics import median

import torch
from torch import Tensor, nn

from bench.workload import Sizes
from inference.engine.linear import PackedLinear, can_pack

# Rows of a product, besides those of the engine's token budget.
ROWS = (512, 1_024, 2_048)
BLOCK_S = 0.04  # as long as a batch; shorter ones would find the moments between the noise


class Ceiling:
    """Rates in GFLOP/s of a dtype's products, measured in rounds."""

    def __init__(self, sizes: Sizes, dtype: torch.dtype, token_budget: int) -> None:
        self._products = list(_products(sizes, dtype, sorted({*ROWS, token_budget})))
        self._rates: dict[str, list[float]] = defaultdict(list)

    def measure(self) -> None:
        """One round: each product for a moment."""
        for name, flops, compute in self._products:
            self._rates[name].append(flops * _calls_per_s(compute) / 1e9)

    def rates(self) -> dict[str, float]:
        """The median of the rounds of each product."""
        return {name: median(rates) for name, rates in self._rates.items()}


def _products(
    sizes: Sizes, dtype: torch.dtype, budgets: list[int]
) -> Iterator[tuple[str, int, Callable[[], Tensor]]]:
    """Name, floating-point operations and call of each product: torch's own, and that with the
    weights laid out beforehand, as the engine does where torch can."""
    for into, out in sizes.weights:
        linear = nn.Linear(into, out).to(dtype).eval()
        kinds: dict[str, nn.Module] = {"nn.Linear": linear}
        if can_pack():
            kinds["packed"] = PackedLinear(linear)
        for rows in budgets:
            states = torch.randn(rows, into, dtype=dtype)
            for kind, module in kinds.items():
                name = f"{kind} {rows}×{into}×{out}"
                yield name, 2 * rows * into * out, lambda m=module, s=states: m(s)  # type: ignore[misc]


@torch.inference_mode()
def _calls_per_s(compute: Callable[[], Tensor]) -> float:
    compute()
    calls, started = 0, time.perf_counter()
    while (elapsed_s := time.perf_counter() - started) < BLOCK_S:
        compute()
        calls += 1
    return calls / elapsed_s
