"""Tokenisation: the model's own limit, whatever its tokenizer.json carries."""

import numpy as np

from inference.catalogue import get_model
from inference.tokenization import (
    CALL_MAX_CHARACTERS,
    INLINE_MAX_CHARACTERS,
    tokenize,
    tokenize_now,
)

MODEL = get_model("all-minilm-l6-v2")
CLS, SEP = 101, 102


def test_ids_are_those_of_the_checkpoint_without_padding() -> None:
    batch = tokenize_now(MODEL, ["hello world", "hi"], "search_document")
    assert batch.lengths.tolist() == [4, 3]
    assert batch.ids.tolist() == [CLS, 7592, 2088, SEP, CLS, 7632, SEP]
    assert batch.token_count == 7
    assert batch.truncated == ()


def test_a_text_is_cut_at_the_models_limit_not_at_the_files_128() -> None:
    batch = tokenize_now(MODEL, ["word " * 200, "short", "word " * 300], "search_document")
    assert batch.lengths.tolist() == [202, 3, 256]
    assert batch.truncated == (2,)
    assert batch.ids[-1] == SEP


def test_a_text_of_exactly_the_limit_is_not_reported_as_cut() -> None:
    batch = tokenize_now(MODEL, ["word " * 254], "search_document")
    assert batch.lengths.tolist() == [256]
    assert batch.truncated == ()


async def test_long_work_in_a_thread_gives_the_same_ids() -> None:
    texts = ["a few words here"] * (INLINE_MAX_CHARACTERS // 10)
    batch = await tokenize(MODEL, texts, "search_query")
    assert np.array_equal(batch.ids, tokenize_now(MODEL, texts, "search_query").ids)


def test_texts_of_several_calls_keep_their_order_and_their_cuts() -> None:
    """Beyond one call of the tokenizer: many texts, and one that fills a call alone."""
    long = "word " * (CALL_MAX_CHARACTERS // 4)
    texts = ["word " * number for number in range(1, 90)] + [long, "hi", long]
    batch = tokenize_now(MODEL, texts, "search_document")
    assert batch.lengths.tolist() == [*range(3, 92), 256, 3, 256]
    assert batch.truncated == (89, 91)
