"""Attention over packed texts: a token attends to the tokens of its own text and to no others.

Registered with transformers' AttentionInterface, so that transformers' own modelling code runs the
model. B texts, T tokens of the packed batch, S slots (tokens, and padding where groups have some),
N heads (K of keys and values), C channels of a head.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

# Without "flash", which would make transformers look for a kernel when it loads a model; and
# without a mask registered under this name, so that transformers makes none.
ATTENTION = "packed"

# What one more group costs, a dozen small operations a layer, in tokens spread out with padding.
GROUP_COST_TOKENS = 80
# Above this the scores of a group leave the processor's cache.
MAX_GROUPED_LENGTH = 512
# exp() of scores within this range, and the sum of a row of them, is a normal number in bfloat16.
MAX_SCORE = 80.0


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Layout:
    """Where the texts lie in the packed row. It travels with the forward pass, as a keyword.

    lengths: of the B texts; offsets: (B + 1,) int32, where they begin and end, on the device;
    groups: (texts, length) of each group that attends together on the processor, padding included;
    slots: (T,) where each token stands among the slots of all groups, if there is padding;
    tokens: those of texts; the rest of T fills the row up to a round size and attends to nothing.
    """

    lengths: Sequence[int]
    offsets: Tensor
    groups: Sequence[tuple[int, int]] = ()
    slots: Tensor | None = None
    tokens: int = 0


def lay_out_groups(
    lengths: Sequence[int],
) -> tuple[list[tuple[int, int]], NDArray[np.int64] | None]:
    """(texts, length) of the groups of texts, in descending order of length, and the slot of each
    token (T,), None where no group has padding.

    Texts of one length are a group. Where that makes many small groups, lengths that are near to
    each other share one, with padding inside the attention only.
    """
    exact = [(len(list(run)), length) for length, run in groupby(lengths)]
    padded, slots = _lay_out_padded(lengths)
    if (len(exact) - len(padded)) * GROUP_COST_TOKENS < len(slots):
        return exact, None
    return padded, slots


def _lay_out_padded(lengths: Sequence[int]) -> tuple[list[tuple[int, int]], NDArray[np.int64]]:
    """Groups of texts padded to one length, where that costs less than another group; the slots."""
    groups: list[tuple[int, int]] = []
    rooms: list[int] = []  # slots of each text
    texts = longest = padding = 0
    for length in lengths:
        padding += longest - length
        if texts and padding > GROUP_COST_TOKENS:
            groups.append((texts, longest))
            texts = 0
        if not texts:
            longest, padding = length, 0
        texts += 1
        rooms.append(longest)
    groups.append((texts, longest))
    tokens, slots = np.asarray(lengths), np.asarray(rooms)  # 2 × (B,)
    shift = slots.cumsum() - slots - (tokens.cumsum() - tokens)  # (B,) padding before each text
    return groups, np.arange(tokens.sum()) + shift.repeat(tokens)


def round_up(size: int) -> int:
    """The next of few sizes, at most a thirty-second larger (and 7): oneDNN makes, and keeps, code
    for every shape that it multiplies."""
    step = max(8, 1 << max(0, size.bit_length() - 6))
    return -(-size // step) * step


def _round_texts(texts: int) -> int:
    """The next of 1, 2, 3, 4, 6, 8, 12, 16, 24, …"""
    power = 1 << (texts - 1).bit_length()
    return power * 3 // 4 if power >= 4 and texts <= power * 3 // 4 else power


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    layout: Layout,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """Attention of query (1, N, T, C) to key and value (1, K, T, C); returns (1, T, N, C)."""
    if sliding_window is not None:
        raise NotImplementedError("packed attention has no sliding window")
    rows = [states[0].transpose(0, 1) for states in (query, key, value)]  # 3 × (T, N or K, C)
    attend = attend_in_groups
    if query.is_cuda:  # FlashAttention does not compute float32
        attend = attend_by_length if query.dtype == torch.float32 else attend_varlen
    is_causal = bool(getattr(module, "is_causal", False))
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return attend(*rows, layout=layout, is_causal=is_causal, scale=scale).unsqueeze(0), None


def attend_varlen(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    layout: Layout,
    is_causal: bool,
    scale: float,
    varlen_attn: Callable[..., Any] | None = None,
) -> Tensor:
    """On the GPU: one kernel for all texts; (T, N, C)."""
    longest = max(layout.lengths)
    attended: Tensor = (varlen_attn or _varlen_attn())(
        query,
        key,
        value,
        layout.offsets,
        layout.offsets,
        longest,
        longest,
        scale=scale,
        window_size=(-1, 0) if is_causal else (-1, -1),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return attended


@cache
def _varlen_attn() -> Callable[..., Any]:
    """FlashAttention as it comes with torch; imported on a GPU only, for it takes a second."""
    from torch.nn.attention import varlen

    return varlen.varlen_attn


def attend_in_groups(
    query: Tensor, key: Tensor, value: Tensor, *, layout: Layout, is_causal: bool, scale: float
) -> Tensor:
    """On the processor: texts of about one length together, as two matrix products; (T, N, C).

    The weights are exp(score), not exp(score - highest of the row): torch's softmax of rows as
    short as a text takes longer than both products. That is the same softmax while no score is
    large; where one is, or is not finite, the texts go through torch's own attention instead.
    The sum of a row comes out of the second product, as one more channel of the values, all ones.
    Padding is zero in that channel and in all others, so it adds nothing to any text.
    """
    if layout.groups[0][1] > MAX_GROUPED_LENGTH:
        return attend_by_length(query, key, value, layout=layout, is_causal=is_causal, scale=scale)
    heads, channels = query.shape[1:]
    shared = heads // key.shape[1]  # query heads for each head of keys and values
    ones = query.new_ones(len(query), 1, 1).expand(-1, key.shape[1], 1)  # (T, K, 1)
    q, k, v, one = (_spread(states, layout) for states in (query, key, value, ones))  # (S, …)
    out = torch.empty_like(q)  # (S, N, C)
    out[layout.tokens :] = 0
    start = 0
    for texts, length in layout.groups:
        stop = start + texts * length
        q_g, k_g, v_g, one_g, out_g = (
            states[start:stop].view(texts, length, -1, states.shape[2]).transpose(1, 2)
            for states in (q, k, v, one, out)
        )  # (texts, N or K, length, C or 1)
        q_r, k_r, v_r = _room(q_g), _room(k_g), _room(v_g, one_g)  # (texts', …, length', …)
        slots = k_r.shape[2]  # length'
        weights = torch.baddbmm(
            q.new_zeros(()),
            q_r.view(-1, shared * slots, channels),
            k_r.view(-1, slots, channels).transpose(1, 2),
            beta=0,
            alpha=scale,
        )  # (texts' · K, shared · length', length')
        scores = weights[: texts * key.shape[1]]
        lowest, highest = torch.aminmax(scores)
        if not max(-float(lowest), float(highest)) < MAX_SCORE:  # nor is NaN
            return attend_by_length(
                query, key, value, layout=layout, is_causal=is_causal, scale=scale
            )
        scores.exp_()
        if is_causal:
            scores.view(-1, slots, slots).tril_()
        sums = torch.bmm(weights, v_r.view(-1, slots, channels + 1))
        sums = sums.view(-1, heads, slots, channels + 1)[:texts, :, :length]
        torch.div(sums[..., :channels], sums[..., channels:], out=out_g)
        start = stop
    return out if layout.slots is None else out.index_select(0, layout.slots)  # (T, N, C)


def _room(*parts: Tensor) -> Tensor:
    """The parts (texts, N, length, …) side by side in a tensor of round sizes, for which oneDNN has
    code already. Zero beyond `length`; whatever it may be beyond `texts`."""
    texts, heads, length = parts[0].shape[:3]
    widths = [part.shape[3] for part in parts]
    room = parts[0].new_empty(_round_texts(texts), heads, round_up(length), sum(widths))
    for part, place in zip(parts, torch.split_with_sizes(room, widths, 3), strict=True):
        place[:texts, :, :length] = part
    room[:texts, :, length:] = 0
    return room


def _spread(states: Tensor, layout: Layout) -> Tensor:
    """States (T, …) on the slots of the layout's groups, (S, …), zero on those of no token."""
    if layout.slots is None:
        return states
    size = sum(texts * length for texts, length in layout.groups)
    spread = states.new_zeros(size, *states.shape[1:])
    return spread.index_copy_(0, layout.slots[: layout.tokens], states[: layout.tokens])


def attend_by_length(
    query: Tensor, key: Tensor, value: Tensor, *, layout: Layout, is_causal: bool, scale: float
) -> Tensor:
    """Torch's own attention, texts of one length together; (T, N, C)."""
    parts = []
    start = 0
    for length, run in groupby(layout.lengths):
        texts = len(list(run))
        stop = start + texts * length
        q, k, v = (
            states[start:stop].view(texts, length, -1, states.shape[2]).transpose(1, 2)
            for states in (query, key, value)
        )  # (texts, N or K, length, C)
        attended = scaled_dot_product_attention(
            q, k, v, is_causal=is_causal, scale=scale, enable_gqa=query.shape[1] != key.shape[1]
        )  # (texts, N, length, C)
        parts.append(attended.transpose(1, 2).flatten(0, 1))  # (texts · length, N, C)
        start = stop
    filling = query.new_zeros(len(query) - start, *query.shape[1:])
    return torch.cat([*parts, filling])


AttentionInterface.register(ATTENTION, packed_attention)
