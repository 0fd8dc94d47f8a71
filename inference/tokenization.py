"""Tokenisation: texts to token ids, once, in the web tier.

The number of ids made here is what is limited, computed and billed.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from inference.catalogue import Model

# Below this, tokenising takes less time than handing the work to a thread and back.
INLINE_MAX_CHARACTERS = 2_000


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
    encodings = load_tokenizer(model).encode_batch_fast([prompt + text for text in texts])
    lengths = np.fromiter((len(e) for e in encodings), dtype=np.int32, count=len(encodings))
    ids = np.concatenate([np.asarray(e.ids, dtype=np.int32) for e in encodings])
    truncated = tuple(i for i, e in enumerate(encodings) if e.overflowing)
    return TokenBatch(ids=ids, lengths=lengths, truncated=truncated)


async def tokenize(model: Model, texts: Sequence[str], input_type: str) -> TokenBatch:
    """`tokenize_now`, off the event loop when there is much to do (the tokenizer drops the GIL)."""
    if sum(map(len, texts)) <= INLINE_MAX_CHARACTERS:
        return tokenize_now(model, texts, input_type)
    return await asyncio.to_thread(tokenize_now, model, texts, input_type)
