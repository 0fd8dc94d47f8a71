"""Linear layers on the processor, with weights laid out once for its matrix instructions.

Torch's own `linear` lays the weights out again at every call, and computes float32 with a library
that does not use all of an AMD processor: packed weights are 1.05× (large batches) to 1.5× (single
texts) as fast in bfloat16, and 2.3× in float32. docs/engine.md has the measurements.
"""

import torch
from torch import Tensor, nn
from transformers.activations import GELUActivation

from inference.engine.torchscript import compiled_if_tracing


class PackedLinear(nn.Module):
    """Computes what the `nn.Linear` that it is made from computes. For inference only."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.bias = linear.bias
        # Opaque to everything but the operator below: no parameter, never moved or converted.
        self.packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), None)
        self.activation = "none"

    def forward(self, states: Tensor) -> Tensor:
        """(…, in) to (…, out)."""
        multiply = compiled_if_tracing(_multiply)
        return multiply(states, self.packed, self.bias, self.activation)


def _multiply(states: Tensor, packed: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(
        states, packed, bias, activation, [], "none"
    )
    return product


def can_pack() -> bool:
    """Whether this build of torch packs weights: those with oneDNN do."""
    return torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")


def pack_linear_layers(model: nn.Module) -> None:
    """Replace every `nn.Linear` of the model, each freeing its own weights.

    GELU becomes part of the product before it (BERT, XLM-R), which saves a pass over the widest
    numbers of a layer.
    """
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear:
                setattr(parent, name, PackedLinear(child))
        dense = getattr(parent, "dense", None)
        activation = getattr(parent, "intermediate_act_fn", None)
        if isinstance(dense, PackedLinear) and isinstance(activation, GELUActivation):
            dense.activation = "gelu"
            parent.intermediate_act_fn = nn.Identity()
