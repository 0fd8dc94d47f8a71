"""What every benchmark computes: real paragraphs, their token ids, and what a token costs."""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean, median

import msgspec
import numpy as np
from numpy.typing import NDArray

from bench.corpus import real_paragraphs
from inference.catalogue import Model, get_model
from inference.tokenization import tokenize_now

MODEL_ID = "all-minilm-l6-v2"
# The catalogue reads Django's settings, which want these; nothing connects to them.
UNUSED = {
    "DJANGO_SETTINGS_MODULE": "config.settings",
    "SECRET_KEY": "unused",
    "ENCRYPTION_KEYS": "unused",
    "PROVIDER_PASSWORD": "unused",
    "DATABASE_URL": "postgresql:///unused",
    "REDIS_URL": "redis://unused",
}


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """The sizes of a transformer that its matrix products have, as its config.json names them."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int

    @property
    def weights(self) -> list[tuple[int, int]]:
        """(in, out) of the linear layers, those of a shape once."""
        hidden, intermediate = self.hidden_size, self.intermediate_size
        return [(hidden, hidden), (hidden, intermediate), (intermediate, hidden)]

    def flops_per_token(self, attended: float) -> float:
        """Of the matrix products alone: 2 for each weight of query, key, value, output and the two
        of the MLP; and in attention 2 for each of `attended` tokens and channel, twice (query by
        key, weights by value)."""
        weights = 4 * self.hidden_size**2 + 2 * self.hidden_size * self.intermediate_size
        attention = 4 * self.hidden_size * attended
        return self.num_hidden_layers * (2 * weights + attention)


@dataclass(frozen=True, kw_only=True)
class Workload:
    """B texts, and the token ids of each: (length,) int32."""

    model: Model
    folder: Path
    texts: list[str]
    sequences: list[NDArray[np.int32]]

    @cached_property
    def lengths(self) -> list[int]:
        return [len(sequence) for sequence in self.sequences]

    @property
    def tokens(self) -> int:
        return sum(self.lengths)

    @property
    def sizes(self) -> Sizes:
        return msgspec.json.decode((self.folder / "config.json").read_bytes(), type=Sizes)

    @property
    def flops_per_token(self) -> float:
        return self.sizes.flops_per_token(attended_tokens(self.lengths))

    def describe(self) -> str:
        ordered = sorted(self.lengths)
        return (
            f"{len(self.texts):,} real paragraphs (bench/corpus.py), mean {fmean(ordered):.0f} "
            f"tokens, median {median(ordered):.0f}, p90 {ordered[len(ordered) * 9 // 10]}"
        )


def attended_tokens(lengths: list[int]) -> float:
    """How many tokens a token attends to in the mean: those of its own text."""
    return sum(length**2 for length in lengths) / sum(lengths)


def load_workload(count: int) -> Workload:
    model = get_model(MODEL_ID)
    if model.path is None:
        raise FileNotFoundError(f"the weights of {model.id} are not installed")
    texts = real_paragraphs(count)
    sequences = token_ids(model, texts)
    return Workload(model=model, folder=model.path, texts=texts, sequences=sequences)


def token_ids(model: Model, texts: list[str]) -> list[NDArray[np.int32]]:
    """As the web tier makes them."""
    batch = tokenize_now(model, texts, "search_document")
    return np.split(batch.ids, np.cumsum(batch.lengths)[:-1])


def set_unused_environment() -> None:
    """Before anything reads the settings. The processor is what is measured, also beside a GPU."""
    os.environ.update(UNUSED)
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ["HF_HUB_OFFLINE"] = "1"
