"""Packing: every text in one batch, each batch within the budget."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from inference.engine.packing import cut, pack, select, share

lengths_of_texts = st.lists(st.integers(1, 300), max_size=60)


@given(lengths_of_texts, st.integers(1, 2_000))
def test_batches_cover_every_text_once_within_the_budget(lengths: list[int], budget: int) -> None:
    batches = cut(lengths, budget)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert sum(lengths[i] for i in batch) <= budget or len(batch) == 1
        assert [lengths[i] for i in batch] == sorted((lengths[i] for i in batch), reverse=True)


def test_a_text_longer_than_the_budget_is_a_batch_of_its_own() -> None:
    assert cut([50, 3, 60, 4], 10) == [[2], [0], [3, 1]]


@given(lengths_of_texts, st.integers(1, 4))
def test_shared_batches_differ_by_no_more_than_a_text(lengths: list[int], parts: int) -> None:
    batches = share(lengths, parts)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert len(batches) == min(parts, len(lengths))
    sums = [sum(lengths[i] for i in batch) for batch in batches]
    assert not sums or max(sums) - min(sums) <= max(lengths)


def test_texts_lie_end_to_end_with_positions_of_their_own() -> None:
    texts = [np.array(ids, np.int32) for ids in ([7, 8, 9], [4, 5], [6])]
    batch = pack(texts, [2, 0, 5])
    assert batch.ids.tolist() == [7, 8, 9, 4, 5, 6]
    assert batch.positions.tolist() == [0, 1, 2, 0, 1, 0]
    assert batch.offsets.tolist() == [0, 3, 5, 6]
    assert batch.lengths == (3, 2, 1)
    assert batch.indexes == (2, 0, 5)
    part = select(batch, [0, 2])
    assert part.ids.tolist() == [7, 8, 9, 6]
    assert part.indexes == (0, 2)
