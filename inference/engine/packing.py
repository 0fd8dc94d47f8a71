"""Packing: texts laid end to end as one row of tokens, cut into batches by a token budget.

B texts, T tokens of the packed batch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Batch:
    """B texts as one row of T tokens, the longest first; equal lengths are neighbours.

    indexes: where each text stands among those that were to be encoded; ids: (T,) int64;
    positions: (T,) int64, each text's own, from 0; offsets: (B + 1,) int32, where texts begin and end.
    """

    indexes: tuple[int, ...]
    lengths: tuple[int, ...]
    ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    offsets: NDArray[np.int32]


def cut(lengths: Sequence[int], token_budget: int) -> Iterator[list[int]]:
    """Indexes of the texts of each batch, the longest first, each batch within the token budget.

    A text that is longer than the budget is a batch of its own.
    """
    batch: list[int] = []
    tokens = 0
    for index in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        if batch and tokens + lengths[index] > token_budget:
            yield batch
            batch, tokens = [], 0
        batch.append(index)
        tokens += lengths[index]
    if batch:
        yield batch


def pack(sequences: Sequence[NDArray[np.int32]], indexes: Sequence[int]) -> Batch:
    """The sequences at `indexes`, which are in descending order of length, end to end."""
    lengths = np.fromiter((len(sequences[i]) for i in indexes), np.int64, len(indexes))  # (B,)
    offsets = np.zeros(len(indexes) + 1, np.int32)  # (B + 1,)
    np.cumsum(lengths, out=offsets[1:])
    starts = np.repeat(offsets[:-1], lengths)  # (T,)
    return Batch(
        indexes=tuple(indexes),
        lengths=tuple(lengths.tolist()),
        ids=np.concatenate([sequences[i] for i in indexes], dtype=np.int64),
        positions=np.arange(len(starts)) - starts,
        offsets=offsets,
    )


def select(batch: Batch, rows: Sequence[int]) -> Batch:
    """The batch of those rows of `batch` alone; `indexes` are the rows' numbers in `batch`."""
    texts = np.split(batch.ids, batch.offsets[1:-1])
    return pack([text.astype(np.int32) for text in texts], rows)
