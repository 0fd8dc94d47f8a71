"""Tokenisation: texts to token ids, once, in the web tier.

The number of ids made here is what is limited, computed and billed.
"""

import asyncio
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from inference.catalogue import Model

# Below this, tokenising takes less time than handing the work to a thread and back.
INLINE_MAX_CHARACTERS = 2_000
# Texts that the tokenizer gets in one call: each call takes the GIL back, and each encoding holds
# much more than the ids, also of what is cut off, until its call is done.
CALL_MAX_CHARACTERS = 10_000

# Requests are tokenised beside each other; threads of the tokenizer's own would only cost more.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# How many requests tokenise at once; the others wait, and their memory with them.
_threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="tokenize")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TokenBatch:
    """Token ids of B texts, one after the other.

    ids: (T,) int32; lengths: (B,) int32 with sum T; truncated: the indexes of texts that were cut
    to the model's context.
    """

    ids: NDArray[np.int32]
    lengths: NDArray[np.int32]
    truncated: tuple[int, ...]

    @property
    def token_count(self) -> int:
        return int(self.ids.size)


def load_tokenizer(model: Model) -> Tokenizer:
    """The model's tokenizer, cutting at the model's context; loaded once a process."""
    if model.path is None:
        raise FileNotFoundError(f"the weights of {model.id} are not installed")
    return _load_tokenizer(model.path / "tokenizer.json", model.context_tokens)


@lru_cache(maxsize=32)
def _load_tokenizer(file: Path, context_tokens: int) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(file))
    # The file may carry settings of a training run, such as padding to 128 and truncation there.
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length=context_tokens)
    return tokenizer


def tokenize_now(model: Model, texts: Sequence[str], input_type: str) -> TokenBatch:
    """Token ids of `texts`, each with the model's prompt for `input_type` and special tokens."""
    prompt = model.prompts.get(input_type, "")
    tokenizer = load_tokenizer(model)
    parts: list[NDArray[np.int32]] = []
    truncated: list[int] = []
    for group in _calls(texts):
        for encoding in tokenizer.encode_batch_fast([prompt + text for text in group]):
            if encoding.overflowing:
                truncated.append(len(parts))
            parts.append(np.asarray(encoding.ids, dtype=np.int32))
    lengths = np.fromiter(map(len, parts), dtype=np.int32, count=len(parts))
    return TokenBatch(ids=np.concatenate(parts), lengths=lengths, truncated=tuple(truncated))


def _calls(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Runs of texts, each of at most CALL_MAX_CHARACTERS or of one text."""
    start, characters = 0, 0
    for index, text in enumerate(texts):
        characters += len(text)
        if characters > CALL_MAX_CHARACTERS and index > start:
            yield texts[start:index]
            start, characters = index, len(text)
    yield texts[start:]


async def tokenize(model: Model, texts: Sequence[str], input_type: str) -> TokenBatch:
    """`tokenize_now`, off the event loop when there is much to do (the tokenizer drops the GIL)."""
    if sum(map(len, texts)) <= INLINE_MAX_CHARACTERS:
        return tokenize_now(model, texts, input_type)
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_threads, tokenize_now, model, texts, input_type)
