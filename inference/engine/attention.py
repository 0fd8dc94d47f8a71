"""Attention over packed texts: a token attends to the tokens of its own text and to no others.

Registered with transformers' AttentionInterface, so that transformers' own modelling code runs the
model. B texts, T tokens of the packed batch, S slots (tokens, and padding where groups have some),
N heads (K of keys and values), C channels of a head.

What attends on the processor is also compiled as TorchScript, for captured forward passes
(capture.py): it takes tensors alone and is written in the part of Python that TorchScript knows.
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
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import AttentionInterface

from inference.engine.torchscript import compiled_if_tracing

# Without "flash", which would make transformers look for a kernel when it loads a model; and
# without a mask registered under this name, so that transformers makes none.
ATTENTION = "packed"

# What one more group costs, a dozen small operations a layer, in tokens spread out with padding.
GROUP_COST_TOKENS = 80
# Above this the scores of a group leave the processor's cache.
MAX_GROUPED_LENGTH = 512
# exp() of scores within this range, and the sum of a row of them, is a normal number in bfloat16.
MAX_SCORE = 80.0

NONE = torch.empty(0, dtype=torch.int64)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Layout:
    """Where the texts lie in the packed row. It travels with the forward pass, as a keyword.

    lengths: of the B texts; offsets: (B + 1,) int32, where they begin and end, on the device;
    on the processor also
    groups: (G, 4), for each group that attends together its texts, its length, padding included,
    and both rounded up; none where a text is too long for it;
    slots: (T,), where each token stands among the slots of all groups; empty without padding.
    T beyond the last text fills the row up to a round size and attends to nothing.
    """

    lengths: Sequence[int]
    offsets: Tensor
    groups: Tensor = NONE
    slots: Tensor = NONE


def lay_out(lengths: Sequence[int], filling: int = 0) -> tuple[Tensor, Tensor]:
    """The groups (G, 4) and slots (T,) of texts, in descending order of length, and `filling`."""
    if lengths[0] > MAX_GROUPED_LENGTH:
        return NONE.view(0, 4), NONE
    groups, slots = lay_out_groups(lengths)
    sizes = [(texts, size, _round_texts(texts), round_up(size)) for texts, size in groups]
    filled = NONE if slots is None else torch.from_numpy(np.pad(slots, (0, filling)))
    return torch.tensor(sizes), filled


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
    q, k, v = (states[0].transpose(0, 1) for states in (query, key, value))  # 3 × (T, N or K, C)
    is_causal = bool(getattr(module, "is_causal", False))
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if not query.is_cuda:
        attend = compiled_if_tracing(attend_in_groups)
        attended = attend(q, k, v, layout.offsets, layout.groups, layout.slots, is_causal, scale)
    elif query.dtype == torch.float32:  # FlashAttention does not compute it
        attended = attend_by_length(q, k, v, list(layout.lengths), is_causal, scale)
    else:
        attended = attend_varlen(q, k, v, layout=layout, is_causal=is_causal, scale=scale)
    return attended.unsqueeze(0), None


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
    query: Tensor,
    key: Tensor,
    value: Tensor,
    offsets: Tensor,
    groups: Tensor,
    slots: Tensor,
    is_causal: bool,
    scale: float,
    max_score: float = MAX_SCORE,
) -> Tensor:
    """On the processor: texts of about one length together, as two matrix products; (T, N, C).

    The weights are exp(score), not exp(score - highest of the row): torch's softmax of rows as
    short as a text takes longer than both products. That is the same softmax while no score is
    large; where one is, or is not finite, the texts go through torch's own attention instead.
    The sum of a row comes out of the second product, as one more channel of the values, all ones.
    Padding is zero in that channel and in all others, so it adds nothing to any text.
    """
    sizes: list[list[int]] = groups.tolist()
    lengths: list[int] = offsets.diff().long().tolist()
    if len(sizes) == 0:
        return attend_by_length(query, key, value, lengths, is_causal, scale)
    heads, channels = query.size(1), query.size(2)
    shared = heads // key.size(1)  # query heads for each head of keys and values
    q, k, v = query, key, pad(value, [0, 1], value=1.0)  # (T, N or K, C or C + 1)
    if slots.size(0) > 0:
        q, k, v = [_spread(states, slots, sizes, sum(lengths)) for states in (q, k, v)]  # (S, …)
    out = torch.zeros_like(q)  # (S, N, C)
    start = 0
    for texts, length, rooms, room in sizes:
        stop = start + texts * length
        q_r = _room(q[start:stop], texts, length, rooms, room)
        k_r = _room(k[start:stop], texts, length, rooms, room)
        v_r = _room(v[start:stop], texts, length, rooms, room)  # (rooms, N or K, room, C or C + 1)
        weights = torch.baddbmm(
            q.new_zeros([]),
            q_r.reshape(-1, shared * room, channels),
            k_r.reshape(-1, room, channels).transpose(1, 2),
            beta=0.0,
            alpha=scale,
        )  # (rooms · K, shared · room, room)
        lowest, highest = torch.aminmax(weights)
        if not float(torch.maximum(-lowest, highest)) < max_score:  # nor is NaN
            return attend_by_length(query, key, value, lengths, is_causal, scale)
        weights.exp_()
        if is_causal:
            weights.view(-1, room, room).tril_()
        sums = torch.bmm(weights, v_r.reshape(-1, room, channels + 1))
        sums = sums.view(rooms, heads, room, channels + 1)[:texts, :, :length].transpose(1, 2)
        out_g = out[start:stop].view(texts, length, heads, channels)
        torch.div(sums[..., :channels], sums[..., channels:], out=out_g)
        start = stop
    return out.index_select(0, slots) if slots.size(0) > 0 else out  # (T, N, C)


def _room(states: Tensor, texts: int, length: int, rooms: int, room: int) -> Tensor:
    """States (texts · length, N, …) as (rooms, N, room, …), round sizes for which oneDNN has code
    already; zero beyond the texts and their length."""
    by_text = states.view(texts, length, states.size(1), states.size(2)).transpose(1, 2)
    if rooms == texts and room == length:
        return by_text
    return pad(by_text, [0, 0, 0, room - length, 0, 0, 0, rooms - texts])


def _spread(states: Tensor, slots: Tensor, sizes: list[list[int]], tokens: int) -> Tensor:
    """States (T, …) on the slots of the groups, (S, …), zero on those of no token."""
    spread = states.new_zeros(
        [sum([size[0] * size[1] for size in sizes]), states.size(1), states.size(2)]
    )
    return spread.index_copy_(0, slots[:tokens], states[:tokens])


def attend_by_length(
    query: Tensor, key: Tensor, value: Tensor, lengths: list[int], is_causal: bool, scale: float
) -> Tensor:
    """Torch's own attention, texts of one length together; (T, N, C)."""
    out = torch.zeros_like(query)
    start, first = 0, 0
    while first < len(lengths):
        length, last = lengths[first], first + 1
        while last < len(lengths) and lengths[last] == length:
            last += 1
        texts = last - first
        stop = start + texts * length
        q, k, v = [
            states[start:stop].view(texts, length, states.size(1), states.size(2)).transpose(1, 2)
            for states in (query, key, value)
        ]  # (texts, N or K, length, C)
        attended = scaled_dot_product_attention(
            q, k, v, is_causal=is_causal, scale=scale, enable_gqa=query.size(1) != key.size(1)
        )  # (texts, N, length, C)
        out[start:stop] = attended.transpose(1, 2).flatten(0, 1)  # (texts · length, N, C)
        start, first = stop, last
    return out


AttentionInterface.register(ATTENTION, packed_attention)
