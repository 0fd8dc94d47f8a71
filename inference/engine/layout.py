"""Where the texts of a packed batch lie, and which of them attend together on the processor.

B texts, T tokens of the packed batch, S slots of all groups, N heads of queries and K of keys and
values.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# What one more group costs, a few small operations a layer, in tokens spread out with padding.
GROUP_COST_TOKENS = 16
# Above this the scores of a group leave the processor's cache.
MAX_GROUPED_LENGTH = 512

NONE = torch.empty(0, dtype=torch.int64)


class Slots(NamedTuple):
    """Where states go so that texts of about one length attend together.

    A group has so many `rooms` of so many slots, its `room`; both are rounded up. A text stands at
    the beginning of its room. Slots that are left hold its last token once more, but are no keys;
    rooms that are left hold the last text once more. States are (rooms, heads, room, …), one group
    after the other, so that what a group multiplies is contiguous.

    groups: (G, 3), their rooms, their room, and whether it has slots that are no keys; none where a
    text is too long for this. queries: (S · N,), which of the T · N rows of states each holds;
    keys: (S · K,) likewise; padding: those of them that are no keys. is_key: (S,) float32, 1 or 0.
    tokens: (T · N,), which of the queries each is.
    """

    groups: Tensor
    queries: Tensor
    keys: Tensor
    padding: Tensor
    is_key: Tensor
    tokens: Tensor


NO_SLOTS = Slots(NONE.view(0, 3), NONE, NONE, NONE, torch.empty(0), NONE)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Layout:
    """Where the texts lie in the packed row. It travels with the forward pass, as a keyword.

    lengths: of the B texts; offsets: (B + 1,) int32, where they begin and end, on the device;
    slots: on the processor. T beyond the last text fills the row up to a round size.
    """

    lengths: Sequence[int]
    offsets: Tensor
    slots: Slots = NO_SLOTS


def find_slots(
    lengths: Sequence[int], *, heads: int, key_heads: int | None = None, filling: int = 0
) -> Slots:
    """The slots of texts in descending order of length, and of `filling` that attends to nothing.

    `key_heads` are as many as `heads` unless told.
    """
    if lengths[0] > MAX_GROUPED_LENGTH:
        return NO_SLOTS
    sizes, of_slots, are_keys, of_tokens = [], [], [], []
    ends = np.cumsum(lengths)  # (B,)
    first = start = 0
    for texts, longest in find_groups(lengths):
        rooms, room = _round_texts(texts), round_up(longest)
        places = np.arange(room)
        texts_of_rooms = first + np.minimum(np.arange(rooms), texts - 1)
        last_token = ends[texts_of_rooms, None] - 1  # (rooms, 1)
        length = np.asarray(lengths)[texts_of_rooms, None]
        held = last_token - np.maximum(length - 1 - places, 0)  # (rooms, room)
        is_key = places < length
        sizes.append((rooms, room, int(not is_key.all())))
        of_slots.append(held)
        are_keys.append(is_key)
        of_tokens.append((start, is_key[:texts]))
        first += texts
        start += held.size
    queries = _rows(of_slots, heads)
    keys = queries if key_heads in (None, heads) else _rows(of_slots, key_heads)
    return Slots(
        groups=torch.tensor(sizes),
        queries=queries,
        keys=keys,
        padding=_padding(are_keys, key_heads or heads),
        is_key=torch.from_numpy(_joined(are_keys).astype(np.float32)),
        tokens=_queries_of_tokens(of_tokens, heads, filling),
    )


def find_groups(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """(texts, longest) of the groups of texts, in descending order of length.

    Texts of one length are a group. Where that makes many small groups, lengths that are near to
    each other share one, with padding inside the attention only.
    """
    exact = [(len(list(run)), length) for length, run in groupby(lengths)]
    padded = _find_padded_groups(lengths)
    slots = sum(texts * longest for texts, longest in padded)
    saved = (len(exact) - len(padded)) * GROUP_COST_TOKENS
    return exact if saved <= slots - sum(lengths) else padded


def _find_padded_groups(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Groups of texts padded to one length, where that costs less than another group."""
    groups: list[tuple[int, int]] = []
    texts = longest = padding = 0
    for length in lengths:
        padding += longest - length
        if texts and padding > GROUP_COST_TOKENS:
            groups.append((texts, longest))
            texts = 0
        if not texts:
            longest, padding = length, 0
        texts += 1
    groups.append((texts, longest))
    return groups


def round_up(size: int) -> int:
    """The next of few sizes, at most a thirty-second larger (and 7): oneDNN makes, and keeps, code
    for every shape that it multiplies."""
    step = max(8, 1 << max(0, size.bit_length() - 6))
    return -(-size // step) * step


def _round_texts(texts: int) -> int:
    """The next of 1, 2, 3, 4, 6, 8, 12, 16, 24, …"""
    power = 1 << (texts - 1).bit_length()
    return power * 3 // 4 if power >= 4 and texts <= power * 3 // 4 else power


def _rows(of_slots: Sequence[NDArray[np.int64]], heads: int) -> Tensor:
    """For the tokens (rooms, room) of each group, the rows of their heads, (rooms, heads, room)."""
    numbers = np.arange(heads)[:, None]
    return torch.from_numpy(_joined([held[:, None] * heads + numbers for held in of_slots]))


def _padding(are_keys: Sequence[NDArray[np.bool_]], heads: int) -> Tensor:
    by_head = [
        np.broadcast_to(~is_key[:, None], (len(is_key), heads, is_key.shape[1]))
        for is_key in are_keys
    ]
    return torch.from_numpy(np.flatnonzero(_joined(by_head)))


def _queries_of_tokens(
    of_tokens: Sequence[tuple[int, NDArray[np.bool_]]], heads: int, filling: int
) -> Tensor:
    """Where the heads of the tokens (texts, room) stand, of each group from its first slot on."""
    found = []
    for start, is_token in of_tokens:
        text, place = np.nonzero(is_token)  # 2 × (tokens of the group,)
        room = is_token.shape[1]
        found.append(
            (start + text * room)[:, None] * heads + np.arange(heads) * room + place[:, None]
        )
    found.append(np.zeros((filling, heads), dtype=np.int64))
    return torch.from_numpy(_joined(found))


def _joined(arrays: Sequence[NDArray[np.generic]]) -> NDArray[np.generic]:
    return np.concatenate([array.ravel() for array in arrays])
