"""The type that a processor computes faster."""

import pytest
import torch
from torch import Tensor, nn

from inference.engine import checkpoint
from inference.engine.checkpoint import _faster_dtype

DTYPES = (torch.bfloat16, torch.float32)


@pytest.mark.parametrize("faster", DTYPES)
@pytest.mark.parametrize("busy", [range(0), range(4), range(8), range(9, 20), range(8, 32)])
def test_the_faster_type_is_found_while_the_processor_is_busy(
    monkeypatch: pytest.MonkeyPatch, faster: torch.dtype, busy: range
) -> None:
    now, products = 0.0, 0

    class Layer(nn.Module):
        def __init__(self, linear: nn.Linear) -> None:
            super().__init__()
            self.seconds = 1.0 if linear.weight.dtype == faster else 1.5

        def forward(self, states: Tensor) -> Tensor:
            nonlocal now, products
            now += self.seconds * (10 if products in busy else 1)
            products += 1
            return states

    monkeypatch.setattr(checkpoint, "PackedLinear", Layer)
    monkeypatch.setattr("time.perf_counter", lambda: now)
    assert _faster_dtype(DTYPES) == faster
