"""Tokenisation: texts to token ids, once, in the web tier.

The number of ids made here is what is limited, computed and billed. What is cut off a text that is
too long is decided here as well, before anything runs.
"""

import asyncio
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from threading import Event
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from inference.catalogue import Model
from inference.checkpoints import TOKENIZER_FILE

# Below this, tokenising takes less time than handing the work to a thread and back.
INLINE_MAX_CHARACTERS = 2_000
# Texts that the tokenizer gets in one call: each call takes the GIL back, and each encoding holds
# much more than the ids until its call is done.
CALL_MAX_CHARACTERS = 10_000
# A text of more than so many characters for each token that it may have will hardly fit.
LONG_CHARACTERS_A_TOKEN = 8

# Requests are tokenised beside each other; threads of the tokenizer's own would only cost more.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# How many requests tokenise at once; the others wait, and their memory with them.
_threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="tokenize")

# From where a text that is too long is cut, or that it is refused.
Truncate = Literal["none", "start", "end"]


class TextTooLong(Exception):
    """The text at `index` has more tokens than `max_tokens`, and must not be cut."""

    def __init__(self, index: int, tokens: int, max_tokens: int) -> None:
        super().__init__(tokens)
        self.index = index
        self.tokens = tokens
        self.max_tokens = max_tokens


class GivenUp(Exception):
    """Nobody waits for the tokens any more."""


class MaxTokensTooFew(Exception):
    """So few tokens leave nothing of a text beside the prompt and the special tokens."""

    def __init__(self, minimum: int) -> None:
        super().__init__(minimum)
        self.minimum = minimum


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TokenBatch:
    """Token ids of B texts, one after the other.

    ids: (T,) int32; lengths: (B,) int32 with sum T. whole_lengths: (B,) int32, before any cut.
    cut: what is left of each text that was cut, by its index.
    """

    ids: NDArray[np.int32]
    lengths: NDArray[np.int32]
    whole_lengths: NDArray[np.int32]
    cut: Mapping[int, str] = field(default_factory=dict)

    @property
    def token_count(self) -> int:
        return int(self.ids.size)

    @property
    def truncated(self) -> tuple[int, ...]:
        """The indexes of the texts that were cut."""
        return tuple(self.cut)


def load_tokenizer(model: Model) -> Tokenizer:
    """The model's tokenizer, which cuts and pads nothing; loaded once a process, and again where
    another was installed in its place."""
    folder = model.path
    if folder is None:
        raise FileNotFoundError(f"the tokenizer of {model.id} is not installed")
    file = folder / TOKENIZER_FILE
    return _load_tokenizer(str(file), file.stat().st_mtime_ns)


@lru_cache(maxsize=32)
def _load_tokenizer(file: str, changed_at_ns: int) -> Tokenizer:
    tokenizer = Tokenizer.from_file(file)
    # The file may carry settings of a training run, such as padding to 128 and truncation there.
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def tokenize_now(
    model: Model,
    texts: Sequence[str],
    input_type: str,
    *,
    truncate: Truncate = "end",
    max_tokens: int | None = None,
    given_up: Event | None = None,
) -> TokenBatch:
    """Token ids of `texts`, each with the model's prompt for `input_type` and special tokens.

    A text of more than `max_tokens` tokens, or than the model's context, is cut at its `truncate`
    until it has as many; prompt and special tokens stay. Raises TextTooLong where that is "none",
    MaxTokensTooFew; and GivenUp soon after `given_up` is set.
    """
    tokenizer = load_tokenizer(model)
    before, after = model.prompt(input_type)
    limit = min(max_tokens or model.context_tokens, model.context_tokens)
    rows: list[NDArray[np.int32]] = []
    whole_lengths: list[int] = []
    cut: dict[int, str] = {}
    for group in _calls(texts):
        if given_up is not None and given_up.is_set():
            raise GivenUp
        prompted = [before + text + after for text in group]
        # Only the slower call finds the places of tokens in a text, which cutting it needs.
        is_long = max(map(len, group)) > LONG_CHARACTERS_A_TOKEN * limit
        encode = tokenizer.encode_batch if is_long else tokenizer.encode_batch_fast
        for text, whole, encoding in zip(group, prompted, encode(prompted), strict=True):
            ids, index = encoding.ids, len(rows)
            whole_lengths.append(len(ids))
            if len(ids) > limit:
                if truncate == "none":
                    raise TextTooLong(index, len(ids), limit)
                placed = encoding if is_long else tokenizer.encode(whole)
                ids, cut[index] = _cut(placed, text, len(before), limit, truncate)
            rows.append(np.asarray(ids, dtype=np.int32))
    return TokenBatch(
        ids=np.concatenate(rows),
        lengths=np.fromiter(map(len, rows), dtype=np.int32, count=len(rows)),
        whole_lengths=np.asarray(whole_lengths, dtype=np.int32),
        cut=cut,
    )


def _calls(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Runs of texts, each of at most CALL_MAX_CHARACTERS or of one text."""
    start, characters = 0, 0
    for index, text in enumerate(texts):
        characters += len(text)
        if characters > CALL_MAX_CHARACTERS and index > start:
            yield texts[start:index]
            start, characters = index, len(text)
    yield texts[start:]


def _cut(
    encoding: Encoding, text: str, begin: int, limit: int, truncate: Truncate
) -> tuple[list[int], str]:
    """The ids of a text cut to `limit` tokens at its start or end, and the text that is left; it
    begins behind a prompt of `begin` characters."""
    ids, offsets = encoding.ids, encoding.offsets  # each made anew whenever it is asked for
    head, tail = _frame(encoding.special_tokens_mask, offsets, begin, begin + len(text))
    whole = len(ids)
    kept = limit - head - tail
    if kept < 1:
        raise MaxTokensTooFew(min(head + tail + 1, whole))
    start, stop = (head, head + kept) if truncate == "end" else (whole - tail - kept, whole - tail)
    first, last = offsets[start][0], offsets[stop - 1][1]
    left = text[max(0, first - begin) : last - begin]
    return ids[:head] + ids[start:stop] + ids[whole - tail :], left


def _frame(
    special: Sequence[int], offsets: Sequence[tuple[int, int]], start: int, stop: int
) -> tuple[int, int]:
    """How many tokens at either end are special or a prompt's, where the text is [start, stop);
    all of them are at the head where the text has none, as one of spaces has."""
    count = len(offsets)

    def is_text(place: int) -> bool:
        first, last = offsets[place]
        return not special[place] and last > start and first < stop

    head = next(filter(is_text, range(count)), count)
    last_of_text = next(filter(is_text, range(count - 1, head - 1, -1)), count - 1)
    return head, count - 1 - last_of_text


async def tokenize(
    model: Model,
    texts: Sequence[str],
    input_type: str,
    *,
    truncate: Truncate = "end",
    max_tokens: int | None = None,
) -> TokenBatch:
    """`tokenize_now`, off the event loop when there is much to do (the tokenizer drops the GIL)."""
    given_up = Event()

    def call() -> TokenBatch:
        return tokenize_now(
            model,
            texts,
            input_type,
            truncate=truncate,
            max_tokens=max_tokens,
            given_up=given_up,
        )

    if sum(map(len, texts)) <= INLINE_MAX_CHARACTERS:
        return call()
    try:
        return await asyncio.get_running_loop().run_in_executor(_threads, call)
    finally:
        given_up.set()  # a thread is not stopped by its caller's end
