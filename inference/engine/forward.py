"""Forward passes of a model: transformers' own code, and its operators captured as one graph.

T tokens of the packed batch, H hidden.
"""

import logging
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from inference.engine.layout import Layout, Slots
from inference.engine.linear import PackedLinear
from inference.engine.torchscript import trace

logger = logging.getLogger(__name__)

# Ids (T,), positions (T,) and layout to hidden (T, H).
Forward = Callable[[Tensor, Tensor, Layout], Tensor]
Arguments = tuple[Tensor, Tensor, Layout]
# How far a graph may be from the model's own code, in roundings of the type.
MOST_ROUNDINGS = 8
SLOTS_END = 1 + len(Slots._fields)


def forward(model: nn.Module, ids: Tensor, positions: Tensor, layout: Layout) -> Tensor:
    """The model's own forward pass; (T, H)."""
    output = model(input_ids=ids.unsqueeze(0), position_ids=positions.unsqueeze(0), layout=layout)
    hidden: Tensor = output.last_hidden_state[0]
    return hidden


def capture(model: nn.Module, example: Arguments, other: Arguments) -> Forward:
    """The model's forward pass on the processor as a graph, captured from `example`.

    Where torch cannot capture it, or the graph computes something else of `other`, of other sizes,
    it is the model's own.
    """
    plain = partial(forward, model)
    try:
        captured = _capture(model, example)
        with torch.inference_mode():
            _check_close(captured(*other), plain(*other))
    except Exception:  # whatever it is, the model computes without a graph too
        logger.warning("%s is computed without a graph", type(model).__name__, exc_info=True)
        return plain
    return captured


def _check_close(found: Tensor, expected: Tensor) -> None:
    """Raise ValueError where hidden states (T, H) differ by more than rounding.

    torch's own check would import its distributed tensors, for longer than a graph is captured.
    """
    if (found.shape, found.dtype) != (expected.shape, expected.dtype):
        raise ValueError(
            f"the graph computes {found.shape} {found.dtype}, not {expected.shape} {expected.dtype}"
        )
    errors = (found.float() - expected.float()).norm(dim=-1) / expected.float().norm(dim=-1)  # (T,)
    worst = float(errors.max())
    if not worst <= MOST_ROUNDINGS * torch.finfo(found.dtype).eps:
        raise ValueError(f"the graph computes something else, by {worst:.1e} of a token's numbers")


def _capture(model: nn.Module, example: Arguments) -> Forward:
    model.requires_grad_(False)
    layers = [module for module in model.modules() if isinstance(module, PackedLinear)]
    # Opaque to TorchScript, which takes them as arguments only.
    packed = [layer.packed for layer in layers]

    def flat(ids: Tensor, positions: Tensor, *rest: Tensor) -> Tensor:
        offsets, slots, traced = rest[0], Slots(*rest[1:SLOTS_END]), rest[SLOTS_END:]
        layout = Layout(lengths=(), offsets=offsets, slots=slots)
        for layer, weights in zip(layers, traced, strict=True):
            layer.packed = weights
        return forward(model, ids, positions, layout)

    def flatten(ids: Tensor, positions: Tensor, layout: Layout) -> tuple[Tensor, ...]:
        return ids, positions, layout.offsets, *layout.slots, *packed

    try:
        graph = trace(flat, flatten(*example))
    finally:
        for layer, weights in zip(layers, packed, strict=True):
            layer.packed = weights
    return lambda ids, positions, layout: graph(*flatten(ids, positions, layout))
