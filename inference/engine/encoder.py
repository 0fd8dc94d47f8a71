"""The encoder: a transformer of transformers' own code over packed texts, one vector a text.

B texts, T tokens of the packed batch, H hidden, D output dimensions.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from inference.engine.attention import Layout, group, slots_of
from inference.engine.checkpoint import best_dtype, load_model
from inference.engine.linear import can_pack, pack_linear_layers
from inference.engine.packing import Batch, cut, pack, select
from inference.engine.pooling import Pooling, pool

logger = logging.getLogger(__name__)

# Tokens a batch. On a processor small batches keep the activations in its cache.
CPU_TOKEN_BUDGET = 1_024
CUDA_TOKEN_BUDGET = 16_384
CUDA_MAX_TOKEN_BUDGET = 262_144
FREE_MEMORY_SHARE = 0.9


class DeviceLost(Exception):
    """The device can compute nothing more in this process, which should end."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Encoded:
    """Vectors of B texts in their order.

    vectors: (B, D) float32, unit length, zero for a text that failed; failed: the indexes of texts
    that could not be computed (no token, an id that the model does not know, more tokens than it
    has positions, out of memory alone, numbers that are not finite).
    """

    vectors: NDArray[np.float32]
    failed: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Launched:
    """A batch on its way through the device. `rows` (B, D) may be read once `done` has happened."""

    batch: Batch
    rows: Tensor
    done: torch.cuda.Event | None


class Encoder:
    """One loaded checkpoint on one device."""

    def __init__(
        self,
        folder: Path,
        *,
        pooling: Pooling = "mean",
        device: str | None = None,
        dtype: torch.dtype | None = None,
        token_budget: int | None = None,
    ) -> None:
        """Load `folder` onto `device`: by default the GPU that torch finds, else the processor.

        `dtype` is by default bfloat16 where the device computes it natively, else float32;
        `token_budget` is the most tokens of a batch, by default what `warm_up` finds.
        """
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.dtype = dtype or best_dtype(self.device)
        self.pooling = pooling
        self._budget_given = token_budget is not None
        self.token_budget = token_budget or (
            CUDA_TOKEN_BUDGET if self.device.type == "cuda" else CPU_TOKEN_BUDGET
        )
        self.model = load_model(folder, self.device, self.dtype)
        config = self.model.config
        self.dimensions: int = config.hidden_size
        self.memory_bytes = sum(
            tensor.nbytes for tensor in (*self.model.parameters(), *self.model.buffers())
        )
        self._vocabulary: int = config.vocab_size
        self._first_position, self._max_tokens = _positions(self.model)
        if self.device.type == "cpu" and can_pack():
            pack_linear_layers(self.model)

    def encode(self, sequences: Sequence[NDArray[np.int32]]) -> Encoded:
        """Encode B sequences of token ids. Raises DeviceLost, and nothing for a bad text."""
        launched = [self.launch(batch) for batch in self.prepare(sequences)]
        return self.collect(len(sequences), launched)

    def prepare(self, sequences: Sequence[NDArray[np.int32]]) -> list[Batch]:
        """The batches of those sequences that the model can take; on the host."""
        valid = [i for i, sequence in enumerate(sequences) if self._takes(sequence)]
        lengths = [len(sequences[i]) for i in valid]
        return [
            pack(sequences, [valid[row] for row in rows]) for rows in cut(lengths, self.token_budget)
        ]

    def _takes(self, sequence: NDArray[np.int32]) -> bool:
        # On a GPU an id outside the table would lose the device, not just the text.
        return (
            0 < len(sequence) <= (self._max_tokens or len(sequence))
            and int(sequence.min()) >= 0
            and int(sequence.max()) < self._vocabulary
        )

    def launch(self, batch: Batch) -> Launched:
        """Start computing; rows that cannot be computed are NaN. Raises DeviceLost."""
        try:
            rows = self._forward(batch)
        except torch.AcceleratorError as error:
            raise DeviceLost(str(error)) from error
        except Exception as error:  # whatever it is, it must cost one text and not the worker
            logger.warning("a batch of %d texts failed", len(batch.lengths), exc_info=error)
            rows = torch.full((len(batch.lengths), self.dimensions), torch.nan)
        return Launched(batch=batch, rows=rows, done=None)

    def collect(self, count: int, launched: Sequence[Launched]) -> Encoded:
        """What `count` sequences came to, once the batches are computed. Raises DeviceLost."""
        vectors = np.full((count, self.dimensions), np.nan, np.float32)  # (B, D)
        for part in launched:
            vectors[list(part.batch.indexes)] = self._rows(part)
        failed = np.flatnonzero(~np.isfinite(vectors).all(1))
        vectors[failed] = 0
        return Encoded(vectors=vectors, failed=tuple(failed.tolist()))

    def _rows(self, launched: Launched) -> NDArray[np.float32]:
        """The rows of a batch; those that are not finite computed again, by halves."""
        rows: NDArray[np.float32] = launched.rows.numpy()
        suspects = np.flatnonzero(~np.isfinite(rows).all(1))
        if suspects.size and len(rows) > 1:
            for half in np.array_split(suspects, 2):
                if half.size:
                    rows[half] = self._rows(self.launch(select(launched.batch, half.tolist())))
        return rows

    @torch.inference_mode()
    def _forward(self, batch: Batch) -> Tensor:
        ids = torch.from_numpy(batch.ids).to(self.device)
        positions = torch.from_numpy(batch.positions + self._first_position).to(self.device)
        offsets = torch.from_numpy(batch.offsets).to(self.device)
        groups = group(batch.lengths)
        layout = Layout(lengths=batch.lengths, offsets=offsets, groups=groups, slots=slots_of(torch.tensor(batch.lengths), groups))
        hidden = self.model(
            input_ids=ids.unsqueeze(0), position_ids=positions.unsqueeze(0), layout=layout
        ).last_hidden_state[0]  # (T, H)
        return pool(hidden, offsets, self.pooling).cpu()

    def warm_up(self) -> None:
        """Pay for what is set up lazily."""
        self.encode([np.ones(8, np.int32)])


def _positions(model: PreTrainedModel) -> tuple[int, int | None]:
    """The first position of a text, and the most tokens it may have where a table limits them."""
    embeddings = getattr(model, "embeddings", None)
    table: nn.Embedding | None = getattr(embeddings, "position_embeddings", None)
    if table is None:
        return 0, None  # rotary
    # RoBERTa's positions begin after the padding's; its table is that much longer.
    first = 0 if table.padding_idx is None else table.padding_idx + 1
    return first, table.num_embeddings - first
