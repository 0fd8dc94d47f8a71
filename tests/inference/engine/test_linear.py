"""Linear layers with packed weights compute what those of torch compute."""

import pytest
import torch
from torch import nn
from transformers.activations import ACT2FN

from inference.engine.linear import PackedLinear, pack_linear_layers


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("tokens", [1, 7, 64, 500])
@torch.inference_mode()
def test_a_packed_layer_computes_what_it_was_made_from(tokens: int, bias: bool) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(48, 80, bias=bias)
    states = torch.randn(1, tokens, 48)
    torch.testing.assert_close(PackedLinear(linear)(states), linear(states), atol=1e-5, rtol=1e-5)
    exact = linear(states)
    found = PackedLinear(linear.bfloat16())(states.bfloat16()).float()
    torch.testing.assert_close(found, exact, atol=0.03, rtol=0.02)


class Intermediate(nn.Module):
    """As BERT's: a layer and an activation."""

    def __init__(self, activation: str) -> None:
        super().__init__()
        self.dense = nn.Linear(48, 80)
        self.intermediate_act_fn = ACT2FN[activation]

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        activated: torch.Tensor = self.intermediate_act_fn(self.dense(states))
        return activated


@pytest.mark.parametrize(("activation", "fused"), [("gelu", True), ("relu", False)])
@torch.inference_mode()
def test_gelu_becomes_part_of_the_product(activation: str, fused: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(Intermediate(activation), nn.Linear(80, 8))
    states = torch.randn(1, 20, 48) * 3
    expected = model(states)
    pack_linear_layers(model)
    torch.testing.assert_close(model(states), expected, atol=1e-5, rtol=1e-5)
    intermediate = model[0]
    assert isinstance(intermediate.intermediate_act_fn, nn.Identity) == fused
    assert not any(isinstance(module, nn.Linear) for module in model.modules())
