"""A forward pass that cannot be captured is computed by the model's own code."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from inference.engine.forward import Arguments, _check_close, capture, forward
from inference.engine.layout import Layout, find_slots


class Model(nn.Module):
    """Positions as hidden states, and a number of `decided` by Python."""

    def __init__(self, decided: Any) -> None:
        super().__init__()
        self.decided = decided

    def forward(self, input_ids: Tensor, position_ids: Tensor, layout: Layout) -> BaseModelOutput:
        hidden = position_ids.float().unsqueeze(-1) + self.decided(input_ids)
        return BaseModelOutput(last_hidden_state=hidden)


def arguments_of(length: int) -> Arguments:
    offsets = torch.tensor([0, length], dtype=torch.int32)
    layout = Layout(lengths=[length], offsets=offsets, slots=find_slots([length], heads=1))
    return torch.arange(length), torch.arange(length), layout


@pytest.mark.parametrize(
    ("decided", "is_captured"),
    [
        (lambda ids: ids.shape[1], True),
        (lambda ids: int(ids.sum()), False),  # becomes part of the graph, as it is in the example
    ],
    ids=["by size", "by number"],
)
def test_a_graph_computes_what_the_model_does_or_is_not_used(
    decided: Any, is_captured: bool, caplog: pytest.LogCaptureFixture
) -> None:
    model = Model(decided)
    compute = capture(model, arguments_of(5), arguments_of(9))
    assert ("without a graph" not in caplog.text) == is_captured
    for length in (5, 9, 30):
        arguments = arguments_of(length)
        assert compute(*arguments).equal(forward(model, *arguments))


def test_one_wrong_token_of_many_shows() -> None:
    hidden = torch.randn(132, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    _check_close(hidden.clone(), hidden)
    _check_close(hidden * 1.01, hidden)
    wrong = hidden.clone()
    wrong[77] *= 1.3
    for other in (wrong, hidden.float(), hidden[:-1], hidden * torch.nan):
        with pytest.raises(ValueError, match="the graph computes"):
            _check_close(other, hidden)
