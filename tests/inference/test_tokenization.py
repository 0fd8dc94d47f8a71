"""Tokenisation: the model's own limit, whatever its tokenizer.json carries."""

import asyncio
import json
import os
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

from inference.catalogue import Model, get_model
from inference.checkpoints import TOKENIZER_FILE
from inference.tokenization import (
    CALL_MAX_CHARACTERS,
    INLINE_MAX_CHARACTERS,
    LONG_CHARACTERS_A_TOKEN,
    MaxTokensTooFew,
    TextTooLong,
    Truncate,
    tokenize,
    tokenize_now,
)

MODEL = get_model("all-minilm-l6-v2")
PROMPTED = msgspec.structs.replace(MODEL, prompts={"search_query": "query: "}, suffix=" ?!")
CLS, SEP = 101, 102


def ids_of(text: str) -> list[int]:
    ids: list[int] = tokenize_now(MODEL, [text], "search_document").ids.tolist()
    return ids


def cut(
    text: str, truncate: Truncate, max_tokens: int, model: Model = MODEL
) -> tuple[list[int], str]:
    """The ids of one text, and what is left of it."""
    batch = tokenize_now(model, [text], "search_query", truncate=truncate, max_tokens=max_tokens)
    return batch.ids.tolist(), batch.cut[0]


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


async def test_a_caller_that_is_gone_frees_its_thread_for_others() -> None:
    """As many of them as may be, and more: each would take seconds."""
    texts = ["." * 65_536] * 96
    gone = [asyncio.create_task(tokenize(MODEL, texts, "search_query")) for _ in range(8)]
    await asyncio.sleep(0.2)
    for task in gone:
        task.cancel()
    started = time.perf_counter()
    batch = await tokenize(MODEL, ["word " * 1_000], "search_query")
    assert time.perf_counter() - started < 5.0
    assert batch.lengths.tolist() == [256]
    assert all(task.cancelled() for task in gone)


def test_texts_of_several_calls_keep_their_order_and_their_cuts() -> None:
    """Beyond one call of the tokenizer: many texts, and one that fills a call alone."""
    long = "word " * (CALL_MAX_CHARACTERS // 4)
    texts = ["word " * number for number in range(1, 90)] + [long, "hi", long]
    batch = tokenize_now(MODEL, texts, "search_document")
    assert batch.lengths.tolist() == [*range(3, 92), 256, 3, 256]
    assert batch.truncated == (89, 91)


@pytest.mark.parametrize(
    ("truncate", "left"), [("end", "one two three"), ("start", "three four five")]
)
def test_a_text_is_cut_at_the_side_asked_for_until_it_has_as_many_tokens(
    truncate: Truncate, left: str
) -> None:
    assert cut("one two three four five", truncate, 5) == (ids_of(left), left)


@pytest.mark.parametrize(
    ("truncate", "left"), [("end", "one two three"), ("start", "three four five")]
)
def test_prompt_and_special_tokens_stay_whatever_is_cut(truncate: Truncate, left: str) -> None:
    # [CLS] query : one two three ? ! [SEP]
    ids, text = cut("one two three four five", truncate, 9, PROMPTED)
    assert ids == ids_of(f"query: {left} ?!")
    assert text == left


@pytest.mark.parametrize("truncate", ["start", "end"])
@pytest.mark.parametrize("max_tokens", range(3, 30))
def test_what_is_left_of_a_text_has_the_tokens_that_were_kept(
    truncate: Truncate, max_tokens: int
) -> None:
    text = "Grüße aus Łódź — naïve café, 東京 tokenisation 🙂 " * 4
    ids, left = cut(text, truncate, max_tokens)
    whole = ids_of(text)
    if truncate == "start":
        assert ids == [CLS, *whole[1 - max_tokens :]]
        assert text.rstrip().endswith(left)
    else:
        assert ids == [*whole[: max_tokens - 1], SEP]
        assert text.startswith(left)
    assert left == left.strip()


def test_no_text_is_cut_where_that_is_not_wanted() -> None:
    fits, long = "word " * 254, "word " * 255
    batch = tokenize_now(MODEL, [fits], "search_document", truncate="none")
    assert batch.truncated == ()
    with pytest.raises(TextTooLong) as refusal:
        tokenize_now(MODEL, ["short", long], "search_document", truncate="none")
    assert (refusal.value.index, refusal.value.tokens, refusal.value.max_tokens) == (1, 257, 256)


def test_max_tokens_over_the_context_changes_nothing() -> None:
    batch = tokenize_now(MODEL, ["word " * 300], "search_document", max_tokens=100_000)
    assert batch.lengths.tolist() == [256]
    assert batch.whole_lengths.tolist() == [302]


def test_max_tokens_that_leave_nothing_of_a_text_are_refused_with_the_fewest() -> None:
    with pytest.raises(MaxTokensTooFew) as refusal:
        cut("one two three", "end", 2)
    assert refusal.value.minimum == 3
    with pytest.raises(MaxTokensTooFew) as refusal:
        cut("one two three", "start", 6, PROMPTED)
    assert refusal.value.minimum == 7
    assert len(cut("one two three", "start", 7, PROMPTED)[0]) == 7


@pytest.mark.parametrize("truncate", ["start", "end"])
@pytest.mark.parametrize("text", [" ", "\u200b", "\x01\x02"])
@pytest.mark.parametrize(("model", "whole"), [(MODEL, 2), (PROMPTED, 6)])
def test_a_text_without_tokens_is_refused_where_it_would_be_cut(
    truncate: Truncate, text: str, model: Model, whole: int
) -> None:
    with pytest.raises(MaxTokensTooFew) as refusal:
        cut(text, truncate, whole - 1, model)
    assert refusal.value.minimum == whole
    batch = tokenize_now(model, [text], "search_query", truncate=truncate, max_tokens=whole)
    assert (batch.lengths.tolist(), batch.truncated) == ([whole], ())


def test_a_tokenizer_that_is_installed_in_place_of_another_is_read(tmp_path: Path) -> None:
    folder = MODEL.path
    assert folder is not None
    tokenizer = json.loads((folder / TOKENIZER_FILE).read_text())
    (file := tmp_path / TOKENIZER_FILE).write_text(json.dumps(tokenizer))
    model = msgspec.structs.replace(MODEL, package=None, folder=str(tmp_path))
    before = tokenize_now(model, ["Hello"], "search_document").ids.tolist()
    tokenizer["post_processor"] = None  # what adds the special tokens
    file.write_text(json.dumps(tokenizer))
    os.utime(file, ns=(1, 1))
    after = tokenize_now(model, ["Hello"], "search_document").ids.tolist()
    assert before == [CLS, *after, SEP]


@pytest.mark.parametrize("truncate", ["start", "end"])
def test_a_text_is_cut_alike_however_much_too_long_it_is(truncate: Truncate) -> None:
    limit = 50
    text = "one two three four five six seven eight nine ten " * 8  # 80 tokens, 392 characters
    assert len(text) <= LONG_CHARACTERS_A_TOKEN * limit < len(text * 2)
    short, long = (cut(part, truncate, limit, PROMPTED) for part in (text, text * 2))
    assert short == long
