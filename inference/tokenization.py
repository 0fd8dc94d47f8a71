"""Tokenisation: texts to token ids, once, in the web tier.

The number of ids made here is what is limited, computed and billed.
"""

import asyncio
from collections.abc import Sequence
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
    for index, text in enumerate(texts):
        # One by one: an encoding holds much more than the ids, also of what is cut off.
        (encoding,) = tokenizer.encode_batch_fast([prompt + text])
        parts.append(np.asarray(encoding.ids, dtype=np.int32))
        if encoding.overflowing:
            truncated.append(index)
    lengths = np.fromiter(map(len, parts), dtype=np.int32, count=len(parts))
    return TokenBatch(ids=np.concatenate(parts), lengths=lengths, truncated=tuple(truncated))


async def tokenize(model: Model, texts: Sequence[str], input_type: str) -> TokenBatch:
    """`tokenize_now`, off the event loop when there is much to do (the tokenizer drops the GIL)."""
    if sum(map(len, texts)) <= INLINE_MAX_CHARACTERS:
        return tokenize_now(model, texts, input_type)
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_threads, tokenize_now, model, texts, input_type)
