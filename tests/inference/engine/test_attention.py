"""Attention over packed texts, each way of computing it against the plain formula."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from inference.engine.attention import attend_by_length, attend_in_groups, attend_varlen
from inference.engine.layout import Layout, find_groups, find_slots, round_up
from inference.engine.torchscript import compiled

SCALE = 0.3
lengths_of_texts = st.lists(st.integers(1, 90), min_size=1, max_size=40)


def states_of(lengths: list[int], heads: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(sum(lengths), heads, 8, generator=generator)  # (T, heads, C)


def plain_attention(
    query: Tensor, key: Tensor, value: Tensor, lengths: list[int], is_causal: bool
) -> Tensor:
    """softmax(q kᵀ) v of each text alone; (T, N, C)."""
    shared = query.shape[1] // key.shape[1]
    key, value = (states.repeat_interleave(shared, 1) for states in (key, value))
    parts = []
    for q, k, v in zip(
        *(torch.split_with_sizes(t, lengths) for t in (query, key, value)), strict=True
    ):
        scores = torch.einsum("inc,jnc->nij", q, k) * SCALE
        if is_causal:
            scores += torch.full_like(scores, float("-inf")).triu(1)
        parts.append(torch.einsum("nij,jnc->inc", scores.softmax(-1), v))
    return torch.cat(parts)


def offsets_of(lengths: list[int]) -> Tensor:
    return torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32)


def in_groups(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lengths: list[int],
    is_causal: bool = False,
    filling: int = 0,
    attend: Any = attend_in_groups,
) -> Tensor:
    slots = find_slots(lengths, heads=query.shape[1], key_heads=key.shape[1], filling=filling)
    found: Tensor = attend(query, key, value, offsets_of(lengths), *slots, is_causal, SCALE)
    return found


in_compiled_groups = partial(in_groups, attend=compiled(attend_in_groups))


def by_length(
    query: Tensor, key: Tensor, value: Tensor, lengths: list[int], is_causal: bool
) -> Tensor:
    return attend_by_length(query, key, value, lengths, is_causal, SCALE)


@pytest.mark.parametrize("attend", [in_groups, in_compiled_groups, by_length])
@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("key_heads", [4, 2, 1])
@pytest.mark.parametrize(
    "lengths",
    [[1], [40] * 13, [60, 58, 51, 47, 33, 30, 21, 20, 19, 1], [600, 20], list(range(90, 0, -1))],
    ids=["one token", "equal", "near", "long", "all different"],
)
def test_each_text_attends_to_itself(
    attend: Any, is_causal: bool, key_heads: int, lengths: list[int]
) -> None:
    query, key, value = (states_of(lengths, n, i) for i, n in enumerate((4, key_heads, key_heads)))
    found = attend(query, key, value, lengths, is_causal)
    expected = plain_attention(query, key, value, lengths, is_causal)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@settings(deadline=None, max_examples=40)
@given(lengths_of_texts, st.integers(0, 9))
def test_texts_of_any_lengths_attend_to_themselves(lengths: list[int], filling: int) -> None:
    lengths.sort(reverse=True)
    query, key, value = (
        torch.cat([states_of(lengths, 2, i), torch.full((filling, 2, 8), torch.nan)])
        for i in range(3)
    )
    found = in_groups(query, key, value, lengths, filling=filling)
    tokens = sum(lengths)
    expected = plain_attention(query[:tokens], key[:tokens], value[:tokens], lengths, False)
    assert found.shape == query.shape
    torch.testing.assert_close(found[:tokens], expected, atol=1e-5, rtol=1e-5)


@given(lengths_of_texts, st.sampled_from([(1, 1), (4, 4), (4, 2)]), st.integers(0, 9))
def test_every_slot_holds_a_token_and_the_keys_are_each_token_once_in_its_text(
    lengths: list[int], heads: tuple[int, int], filling: int
) -> None:
    lengths.sort(reverse=True)
    query_heads, key_heads = heads
    slots = find_slots(lengths, heads=query_heads, key_heads=key_heads, filling=filling)
    count = sum(lengths)
    starts = np.cumsum([0, *lengths[:-1]])
    queries, keys = slots.queries.numpy(), slots.keys.numpy()
    assert queries.max() < count * query_heads
    # Each token and head is found where `tokens` says.
    rows = slots.tokens.numpy()[: count * query_heads]
    assert queries[rows].tolist() == list(range(count * query_heads))
    assert slots.tokens.shape == ((count + filling) * query_heads,)
    no_keys = np.zeros(len(keys), dtype=bool)
    no_keys[slots.padding.numpy()] = True
    first = first_text = 0
    for (texts, _), (rooms, room, is_padded) in zip(
        find_groups(lengths), slots.groups.tolist(), strict=True
    ):
        last = first + rooms * room
        held = keys[first * key_heads : last * key_heads].reshape(rooms, key_heads, room)
        padding = no_keys[first * key_heads : last * key_heads].reshape(held.shape)
        is_key = slots.is_key.numpy()[first:last].reshape(rooms, 1, room)
        assert (padding == (is_key == 0)).all()
        assert padding.any() == bool(is_padded)
        for number in range(rooms):
            text = first_text + min(number, texts - 1)
            tokens = starts[text] + np.arange(lengths[text])
            for head in range(key_heads):
                kept = held[number, head][~padding[number, head]]
                assert kept.tolist() == (tokens * key_heads + head).tolist()
                assert set(held[number, head]) == set(kept)
        first, first_text = last, first_text + texts
    assert first_text == len(lengths)
    assert first == len(slots.is_key)


def test_many_lengths_that_are_near_share_groups_and_equal_ones_are_not_padded() -> None:
    assert find_groups([40] * 12 + [37] * 13) == [(12, 40), (13, 37)]
    groups = find_groups(list(range(40, 20, -1)))
    assert len(groups) < 8
    assert sum(texts for texts, _ in groups) == 20
    assert find_groups([300, 20]) == [(1, 300), (1, 20)]


@given(st.integers(1, 10_000))
def test_round_sizes_are_few_and_little_larger(size: int) -> None:
    assert size <= round_up(size) <= size * (1 + 1 / 32) + 7
    assert round_up(round_up(size)) == round_up(size)


@pytest.mark.parametrize("attend", [in_groups, in_compiled_groups])
@pytest.mark.parametrize("sign", [1, -1])
def test_large_scores_are_computed_by_torchs_own_attention(attend: Any, sign: int) -> None:
    """exp() of them is infinite, or all of a row is zero, without its highest taken from it."""
    lengths = [20, 20, 9]
    query, key, value = (states_of(lengths, 2, i) for i in range(3))
    key[20:40] = key[20].abs()
    query[25] = sign * 1_000 * key[20].abs()
    found = attend(query, key, value, lengths)
    expected = plain_attention(query, key, value, lengths, False)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("attend", [in_groups, in_compiled_groups])
def test_a_text_of_nan_leaves_the_others_of_its_group_alone(attend: Any) -> None:
    lengths = [20, 20, 19, 18, 17, 16]
    query, key, value = (states_of(lengths, 2, i) for i in range(3))
    expected = plain_attention(query, key, value, lengths, False)
    for states in (query, key, value):
        states[20:40] = torch.nan
    found = attend(query, key, value, lengths)
    assert found[20:40].isnan().all()
    others = torch.ones(len(query), dtype=torch.bool)
    others[20:40] = False
    torch.testing.assert_close(found[others], expected[others], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("is_causal", "key_heads"), [(False, 4), (True, 2)])
def test_the_gpus_kernel_is_asked_for_each_text_alone(is_causal: bool, key_heads: int) -> None:
    """A stand-in computes by torch 2.13's documentation of `varlen_attn` what its arguments say."""
    lengths = [30, 12, 12, 5]

    def varlen_attn(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        cu_seq_q: Tensor,
        cu_seq_k: Tensor,
        max_q: int,
        max_k: int,
        *,
        scale: float,
        window_size: tuple[int, int],
        enable_gqa: bool,
    ) -> Tensor:
        assert scale == SCALE
        assert cu_seq_q.dtype == torch.int32
        assert max_q == max_k == 30
        assert cu_seq_q.equal(cu_seq_k)
        assert enable_gqa == (key.shape[1] != query.shape[1])
        assert window_size in {(-1, -1), (-1, 0)}
        told = cu_seq_q.diff().tolist()
        return plain_attention(query, key, value, told, window_size == (-1, 0))

    query, key, value = (states_of(lengths, n, i) for i, n in enumerate((4, key_heads, key_heads)))
    found = attend_varlen(
        query,
        key,
        value,
        layout=Layout(lengths=lengths, offsets=offsets_of(lengths)),
        is_causal=is_causal,
        scale=SCALE,
        varlen_attn=varlen_attn,
    )
    torch.testing.assert_close(found, plain_attention(query, key, value, lengths, is_causal))


def test_the_arguments_are_those_of_torchs_own_function() -> None:
    from inspect import signature

    from torch.nn.attention.varlen import varlen_attn

    states = states_of([3], 2)
    bound = signature(varlen_attn).bind(
        *(states, states, states, None, None, 3, 3),
        scale=SCALE,
        window_size=(-1, 0),
        enable_gqa=False,
    )
    assert list(bound.arguments)[3:7] == ["cu_seq_q", "cu_seq_k", "max_q", "max_k"]
