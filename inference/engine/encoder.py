"""The encoder: a transformer of transformers' own code, mean pooling, unit length.

B texts, T tokens of a padded row, H hidden, D output dimensions.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize
from transformers import AutoModel
from transformers.utils.logging import disable_progress_bar

# A worker's log is no terminal.
disable_progress_bar()  # type: ignore[no-untyped-call]

# Padded tokens a forward pass. Small passes keep the activations in the processor's cache.
TOKEN_BUDGET = 2_048


class Encoder:
    """One loaded checkpoint on one device."""

    def __init__(
        self, folder: Path, *, device: str | None = None, token_budget: int = TOKEN_BUDGET
    ) -> None:
        """Load `folder` onto `device`: by default the GPU that torch finds, else the processor."""
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.token_budget = token_budget
        self.model = (
            AutoModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
            .to(self.device)
            .eval()
        )

    @torch.inference_mode()
    def encode(self, sequences: Sequence[NDArray[np.int32]]) -> NDArray[np.float32]:
        """Unit vectors (B, D) float32 of B sequences of token ids, in their order."""
        vectors: list[Tensor] = []
        order: list[int] = []
        for indexes in self._batches([len(sequence) for sequence in sequences]):
            vectors.append(self._forward([sequences[index] for index in indexes]))  # (b, D)
            order.extend(indexes)
        stacked = torch.cat(vectors).cpu().numpy()  # (B, D), sorted by length
        ordered = np.empty_like(stacked)
        ordered[order] = stacked
        return ordered

    def _batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Indexes of sequences, the longest first so that a batch pads little, by budget."""
        batch: list[int] = []
        longest = 0
        for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
            if batch and longest * (len(batch) + 1) > self.token_budget:
                yield batch
                batch = []
            if not batch:
                longest = lengths[index]
            batch.append(index)
        if batch:
            yield batch

    def _forward(self, sequences: Sequence[NDArray[np.int32]]) -> Tensor:
        longest = max(len(sequence) for sequence in sequences)
        ids = torch.zeros(len(sequences), longest, dtype=torch.long)  # (b, T)
        mask = torch.zeros(len(sequences), longest, dtype=torch.long)  # (b, T)
        for row, sequence in enumerate(sequences):
            ids[row, : len(sequence)] = torch.from_numpy(sequence.astype(np.int64))
            mask[row, : len(sequence)] = 1
        ids, mask = ids.to(self.device), mask.to(self.device)
        hidden = self.model(input_ids=ids, attention_mask=mask).last_hidden_state  # (b, T, H)
        weight = mask.unsqueeze(-1).to(hidden.dtype)  # (b, T, 1)
        mean = (hidden * weight).sum(1) / weight.sum(1)  # (b, H)
        return normalize(mean, dim=1)  # (b, D = H)
