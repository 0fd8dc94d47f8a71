"""Attention over packed texts: a token attends to the tokens of its own text and to no others.

Registered with transformers' AttentionInterface, so that transformers' own modelling code runs the
model. B texts, T tokens of the packed batch, S slots (tokens, and padding where groups have some),
N heads (K of keys and values), C channels of a head.

What attends on the processor is also compiled as TorchScript, for captured forward passes
(forward.py): it takes tensors alone and is written in the part of Python that TorchScript knows.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from inference.engine.layout import Layout
from inference.engine.torchscript import compiled_if_tracing

# Without "flash", which would make transformers look for a kernel when it loads a model; and
# without a mask registered under this name, so that transformers makes none.
ATTENTION = "packed"

# Of exp() of the scores of a row, the sum for which all that counts in it is a normal number: above
# e⁻⁶⁰ what is lost below e⁻⁸⁷ does not show, and below e⁸⁰ nothing was infinite.
LEAST_SUM, MOST_SUM = 8.8e-27, 5.5e34


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
        attended = attend(q, k, v, layout.offsets, *layout.slots, is_causal, scale)
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
    queries: Tensor,
    keys: Tensor,
    padding: Tensor,
    is_key: Tensor,
    tokens: Tensor,
    is_causal: bool,
    scale: float,
    least_sum: float = LEAST_SUM,
    most_sum: float = MOST_SUM,
) -> Tensor:
    """On the processor: texts of about one length together, as two matrix products; (T, N, C).

    `groups` and the rest are Slots; the last two arguments are constants, which TorchScript finds
    in defaults only. The weights are exp(score), not exp(score - highest of the
    row): torch's softmax of rows as short as a text takes longer than both products. That is the
    same softmax while the sums of rows are of a middling size; where one is not, or is not finite,
    the texts go through torch's own attention instead.
    """
    sizes: list[list[int]] = groups.tolist()
    lengths: list[int] = offsets.diff().long().tolist()
    if len(sizes) == 0:
        return attend_by_length(query, key, value, lengths, is_causal, scale)
    heads, key_heads, channels = query.size(1), key.size(1), query.size(2)
    shared = heads // key_heads  # query heads for each head of keys and values
    slots = is_key.size(0)
    if queries.size(0) != slots * heads or keys.size(0) != slots * key_heads:
        raise ValueError("the slots are those of another number of heads")
    q = query.reshape(-1, channels).index_select(0, queries)  # (S · N, C)
    k = key.reshape(-1, channels).index_select(0, keys)
    v = value.reshape(-1, channels).index_select(0, keys)  # 2 × (S · K, C)
    v.index_fill_(0, padding, 0.0)
    counted = is_key.to(q.dtype)
    attended = torch.empty_like(q)
    sums = q.new_empty([q.size(0), 1])
    nothing = q.new_zeros([])
    start = 0
    for rooms, room, is_padded in sizes:
        stop = start + rooms * room
        first, last = start * key_heads, stop * key_heads
        q_g = q[start * heads : stop * heads].view(-1, shared * room, channels)
        k_g = k[first:last].view(-1, room, channels).transpose(1, 2)
        v_g = v[first:last].view(-1, room, channels)
        weights = torch.baddbmm(nothing, q_g, k_g, beta=0.0, alpha=scale).exp_()
        if is_causal:
            weights.view(-1, room, room).tril_()
        out_g = attended[start * heads : stop * heads].view(-1, shared * room, channels)
        torch.bmm(weights, v_g, out=out_g)
        sums_g = sums[start * heads : stop * heads]
        if is_padded == 1:
            by_room = weights.view(rooms, -1, room)
            torch.bmm(
                by_room, counted[start:stop].view(rooms, room, 1), out=sums_g.view(rooms, -1, 1)
            )
        else:
            torch.mm(
                weights.view(-1, room), counted[start : start + room].view(room, 1), out=sums_g
            )
        start = stop
    lowest, highest = torch.aminmax(sums)
    if not (float(lowest) > least_sum and float(highest) < most_sum):  # nor is NaN
        return attend_by_length(query, key, value, lengths, is_causal, scale)
    return attended.div_(sums).index_select(0, tokens).view(-1, heads, channels)


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
