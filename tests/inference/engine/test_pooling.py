"""Pooling: from hidden states to one unit vector a text."""

import pytest
import torch

from inference.engine.pooling import Pooling, pool

HIDDEN = torch.tensor([[1.0, 0], [3, 4], [0, 2], [5, 5], [5, 5], [8, 6]])
OFFSETS = torch.tensor([0, 3, 5, 6], dtype=torch.int32)


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ("mean", [[4 / 3, 2], [5, 5], [8, 6]]),
        ("cls", [[1, 0], [5, 5], [8, 6]]),
        ("last", [[0, 2], [5, 5], [8, 6]]),
    ],
)
def test_each_text_is_pooled_alone_and_has_unit_length(
    pooling: Pooling, expected: list[list[float]]
) -> None:
    wanted = torch.nn.functional.normalize(torch.tensor(expected, dtype=torch.float32))
    for dtype in (torch.float32, torch.bfloat16):
        found = pool(HIDDEN.to(dtype), OFFSETS, pooling)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, wanted)


def test_nan_stays_in_its_text() -> None:
    hidden = HIDDEN.clone()
    hidden[3] = torch.nan
    found = pool(hidden, OFFSETS, "mean")
    assert found[1].isnan().all()
    assert found[[0, 2]].isfinite().all()
