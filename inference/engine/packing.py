"""Packing: texts laid end to end as one row of tokens, cut into batches by a token budget.

B texts, T tokens of the packed batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Batch:
    """B texts as one row of T tokens, the longest first; equal lengths are neighbours.

    indexes: where each text stands among those that were to be encoded; ids: (T,) int32;
    positions: (T,) int32, each text's own, from 0; offsets: (B + 1,) int32, where texts begin and
    end.
    """

    indexes: tuple[int, ...]
    lengths: tuple[int, ...]
    ids: NDArray[np.int32]
    positions: NDArray[np.int32]
    offsets: NDArray[np.int32]


def cut(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Indexes of the texts of each batch, the longest first, each batch within the token budget.

    A text that is longer than the budget is a batch of its own.
    """
    batches: list[list[int]] = []
    tokens = token_budget
    for index in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        if tokens + lengths[index] > token_budget:
            batches.append([])
            tokens = 0
        batches[-1].append(index)
        tokens += lengths[index]
    return batches


def share(lengths: Sequence[int], parts: int) -> list[list[int]]:
    """Indexes of the texts of each of at most `parts` batches of about as many tokens."""
    batches: list[list[int]] = [[] for _ in range(parts)]
    tokens = [0] * parts
    for index in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        lightest = tokens.index(min(tokens))
        batches[lightest].append(index)
        tokens[lightest] += lengths[index]
    return [batch for batch in batches if batch]


def pack(sequences: Sequence[NDArray[np.int32]], indexes: Sequence[int]) -> Batch:
    """Sequences in descending order of length end to end; `indexes` say where they came from."""
    lengths = np.fromiter(map(len, sequences), np.int64, len(sequences))  # (B,)
    offsets = np.zeros(len(sequences) + 1, np.int32)  # (B + 1,)
    np.cumsum(lengths, out=offsets[1:])
    ids = np.concatenate(sequences, dtype=np.int32)  # (T,)
    return Batch(
        indexes=tuple(indexes),
        lengths=tuple(lengths.tolist()),
        ids=ids,
        positions=np.arange(len(ids), dtype=np.int32) - offsets[:-1].repeat(lengths),
        offsets=offsets,
    )


def select(batch: Batch, rows: Sequence[int]) -> Batch:
    """Those rows of a batch as one of their own, its `indexes` the rows' numbers."""
    texts = np.split(batch.ids, batch.offsets[1:-1])
    return pack([texts[row] for row in rows], rows)
