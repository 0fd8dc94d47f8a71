"""Attention over packed texts: a token attends to the tokens of its own text and to no others.

Registered with transformers' AttentionInterface, so that transformers' own modelling code runs the
model. B texts, T tokens of the packed batch, S slots (tokens, and padding where groups have some),
N heads (K of keys and values), C channels of a head.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import AttentionInterface

# Without "flash", which would make transformers look for a kernel when it loads a model; and
# without a mask registered under this name, so that transformers makes none.
ATTENTION = "packed"

# What one more group costs, in slots of padding: a dozen small operations a layer.
GROUP_COST_SLOTS = 128
# Above this the scores of a group leave the processor's cache.
MAX_GROUPED_LENGTH = 512
# exp() of scores within this range, and the sum of a row of them, is a normal number in bfloat16.
MAX_SCORE = 60.0


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Layout:
    """Where the texts lie in the packed row. It travels with the forward pass, as a keyword.

    lengths: of the B texts; offsets: (B + 1,) int32, where they begin and end, on the device;
    groups: (texts, length) of each group of texts that attend together, filled up to one length;
    slots: (T,) where each token stands among the slots of all groups, None without padding.
    """

    lengths: Sequence[int]
    offsets: Tensor
    groups: Sequence[tuple[int, int]] = ()
    slots: Tensor | None = None


def group(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """(texts, length) of groups of texts in descending order of length, such that padding the
    texts of a group to one length costs less than another group would."""
    groups: list[tuple[int, int]] = []
    texts = longest = padding = 0
    for length in lengths:
        padding += longest - length
        if texts and padding > GROUP_COST_SLOTS:
            groups.append((texts, longest))
            texts = padding = 0
        if not texts:
            longest, padding = length, 0
        texts += 1
    return [*groups, (texts, longest)]


def slots_of(lengths: Tensor, groups: Sequence[tuple[int, int]]) -> Tensor | None:
    """(T,) the slot of each token, of texts with those lengths (B,); None if no slot is empty."""
    room = torch.tensor([length for texts, length in groups for _ in range(texts)])  # (B,)
    if torch.equal(room, lengths):
        return None
    shift = (room - lengths).cumsum(0) - (room - lengths)  # (B,), padding before each text
    return torch.arange(int(lengths.sum())) + shift.repeat_interleave(lengths)  # (T,)


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
    attend = attend_varlen if query.is_cuda else attend_in_groups
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
    varlen_attn: Callable[..., Tensor] | None = None,
) -> Tensor:
    """On the GPU: one kernel for all texts; (T, N, C)."""
    if varlen_attn is None:
        from torch.nn.attention.varlen import varlen_attn
    longest = max(layout.lengths)
    return varlen_attn(
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
        return attend_by_length(
            query, key, value, layout=layout, is_causal=is_causal, scale=scale
        )
    heads, channels = query.shape[1:]
    shared = heads // key.shape[1]  # query heads for each head of keys and values
    value_one = pad(value, (0, 1), value=1.0)  # (T, K, C + 1)
    q, k, v = (spread(states, layout) for states in (query, key, value_one))  # (S, …)
    out = torch.empty_like(q)  # (S, N, C)
    start = 0
    for texts, length in layout.groups:
        stop = start + texts * length
        q_g = q[start:stop].unflatten(0, (texts, length)).transpose(1, 2)  # (texts, N, length, C)
        k_g = k[start:stop].unflatten(0, (texts, length)).permute(0, 2, 3, 1)  # (…, K, C, length)
        v_g = v[start:stop].unflatten(0, (texts, length)).transpose(1, 2)  # (…, K, length, C + 1)
        weights = torch.baddbmm(
            q.new_zeros(()),
            q_g.reshape(-1, shared * length, channels),
            k_g.reshape(-1, channels, length),
            beta=0,
            alpha=scale,
        )  # (texts · K, shared · length, length)
        lowest, highest = torch.aminmax(weights)
        if not (-MAX_SCORE < float(lowest) and float(highest) < MAX_SCORE):  # NaN comes here too
            return attend_by_length(
                query, key, value, layout=layout, is_causal=is_causal, scale=scale
            )
        weights.exp_()
        if is_causal:
            weights.view(-1, length, length).tril_()
        sums = torch.bmm(weights, v_g.reshape(-1, length, channels + 1))
        sums = sums.view(texts, heads, length, channels + 1)
        torch.div(
            sums[..., :channels],
            sums[..., channels:],
            out=out[start:stop].unflatten(0, (texts, length)).transpose(1, 2),
        )
        start = stop
    return out if layout.slots is None else out.index_select(0, layout.slots)  # (T, N, C)


def spread(states: Tensor, layout: Layout) -> Tensor:
    """States (T, …) on the slots of the layout's groups, (S, …), zero on those of no token."""
    if layout.slots is None:
        return states
    size = sum(texts * length for texts, length in layout.groups)
    return states.new_zeros(size, *states.shape[1:]).index_copy_(0, layout.slots, states)


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
            states[start:stop].unflatten(0, (texts, length)).transpose(1, 2)
            for states in (query, key, value)
        )  # (texts, N or K, length, C)
        attended = scaled_dot_product_attention(
            q, k, v, is_causal=is_causal, scale=scale, enable_gqa=query.shape[1] != key.shape[1]
        )  # (texts, N, length, C)
        parts.append(attended.transpose(1, 2).flatten(0, 1))  # (texts · length, N, C)
        start = stop
    return torch.cat(parts)


AttentionInterface.register(ATTENTION, packed_attention)
