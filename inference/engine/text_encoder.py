"""Texts to vectors, for a program that uses the engine as a library. A worker gets token ids."""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from inference.engine.encoder import Encoded, Encoder, Launched
from inference.engine.pooling import Pooling

# Characters tokenised at a time, while the device computes what came before.
CHUNK_CHARACTERS = 65_536


class TextEncoder:
    """A checkpoint with its tokenizer; what sentence-transformers' own files say is heeded."""

    def __init__(
        self,
        folder: Path,
        *,
        pooling: Pooling | None = None,
        max_tokens: int | None = None,
        device: str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """`pooling` and `max_tokens`, where texts are cut, are by default what the folder says."""
        self.encoder = Encoder(
            folder, pooling=pooling or _read_pooling(folder), device=device, dtype=dtype
        )
        self.encoder.warm_up()
        self.tokenizer: Tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        cut = max_tokens or _read(folder / "sentence_bert_config.json").get("max_seq_length")
        cut = cut or self.encoder.max_tokens
        if cut is not None:
            self.tokenizer.enable_truncation(max_length=cut)

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Vectors of B texts in their order. Raises DeviceLost, and nothing for a bad text."""
        parts: list[tuple[list[int], list[Future[Launched]]]] = []
        for indexes in _chunks(texts):
            sequences = self.tokenize([texts[index] for index in indexes])
            batches = self.encoder.prepare(sequences)
            parts.append((indexes, [self.encoder.start(batch) for batch in batches]))
        vectors = np.zeros((len(texts), self.encoder.dimensions), np.float32)  # (B, D)
        failed: list[int] = []
        for indexes, futures in parts:
            launched = [future.result() for future in futures]
            encoded = self.encoder.collect(len(indexes), launched)
            vectors[indexes] = encoded.vectors
            failed.extend(indexes[row] for row in encoded.failed)
        return Encoded(vectors=vectors, failed=tuple(sorted(failed)))

    def tokenize(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """The token ids of each text, special tokens included."""
        encodings = self.tokenizer.encode_batch_fast(list(texts))
        return [np.asarray(encoding.ids, np.int32) for encoding in encodings]


def encode_texts(folder: Path, texts: Sequence[str]) -> NDArray[np.float32]:
    """Unit vectors (B, D) of B texts by the checkpoint in `folder`; zero for a text that fails."""
    return TextEncoder(folder).encode(texts).vectors


def _chunks(texts: Sequence[str]) -> Iterator[list[int]]:
    """Indexes of texts by the chunk, the longest first, so that lengths in a chunk are similar."""
    chunk: list[int] = []
    characters = 0
    for index in sorted(range(len(texts)), key=lambda i: len(texts[i]), reverse=True):
        chunk.append(index)
        characters += len(texts[index])
        if characters >= CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def _read_pooling(folder: Path) -> Pooling:
    modes = _read(folder / "1_Pooling" / "config.json")
    if modes.get("pooling_mode_cls_token") or modes.get("pooling_mode") == "cls":
        return "cls"
    if modes.get("pooling_mode_lasttoken") or modes.get("pooling_mode") == "lasttoken":
        return "last"
    return "mean"


def _read(file: Path) -> dict[str, Any]:
    """The settings in a file; none where there is no file."""
    settings: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    return settings
