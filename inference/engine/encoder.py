"""The encoder: a transformer of transformers' own code over packed texts, one vector a text.

B texts, T tokens of the packed batch, H hidden, D output dimensions.
"""

import logging
import math
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import PreTrainedModel

from inference.engine.checkpoint import best_dtype, load_model
from inference.engine.cores import STREAMS, streams
from inference.engine.forward import Arguments, Forward, capture, forward
from inference.engine.layout import Layout, find_slots, round_up
from inference.engine.linear import can_pack, pack_linear_layers
from inference.engine.packing import Batch, cut, pack, select, share
from inference.engine.pooling import Pooling, pool

logger = logging.getLogger(__name__)

# Tokens a batch. Larger ones compute little faster and keep a small query waiting for longer.
CPU_TOKEN_BUDGET = 2_048
CUDA_LEAST_TOKEN_BUDGET = 1_024
CUDA_MOST_TOKEN_BUDGET = 32_768
FREE_MEMORY_SHARE = 0.9
# Of the texts that a forward pass is captured with, and checked with.
CAPTURED_LENGTHS = ((9, 5, 5), (20, 19, 18, 17, 16, 15, 14, 13))
# Fewer tokens than this are not worth sharing between threads.
MIN_SHARED_TOKENS = 128


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
class Staged:
    """A batch where it will be computed. `numbers`, its ids, positions and offsets, may be read
    once `ready` has happened; without it they are still on the host."""

    batch: Batch
    numbers: Tensor
    ready: torch.cuda.Event | None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Launched:
    """A batch on its way. Its vectors `rows` (B, D), on the host, may be read once `done` has
    happened; those that could not be computed are NaN."""

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

        `dtype` is by default bfloat16 where the device computes it natively (on a processor: and
        faster, which is measured), else float32;
        `token_budget`, the most tokens of a batch, is by default what `warm_up` finds.
        """
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.dtype = dtype or best_dtype(self.device)
        self.pooling = pooling
        self._on_gpu = self.device.type == "cuda"
        self._find_budget = self._on_gpu and token_budget is None
        self.token_budget = token_budget or (
            CUDA_LEAST_TOKEN_BUDGET if self._on_gpu else CPU_TOKEN_BUDGET
        )
        self.model = load_model(folder, self.device, self.dtype)
        self._compute: Forward = partial(forward, self.model)
        self.dimensions: int = self.model.config.hidden_size
        # How many batches are computed at once.
        self.streams = 1 if self._on_gpu else STREAMS
        self.memory_bytes = sum(
            tensor.nbytes for tensor in (*self.model.parameters(), *self.model.buffers())
        )
        self._vocabulary: int = self.model.config.vocab_size
        self._heads: int = self.model.config.num_attention_heads
        self._key_heads: int = getattr(self.model.config, "num_key_value_heads", self._heads)
        # The most tokens of a text, where a table of positions limits them.
        self._first_position, self.max_tokens = _positions(self.model)
        if self._on_gpu:
            self._upload = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
            self._download = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        elif can_pack():
            pack_linear_layers(self.model)

    def encode(self, sequences: Sequence[NDArray[np.int32]]) -> Encoded:
        """Encode B sequences of token ids. Raises DeviceLost, and nothing for a bad text."""
        batches = self.prepare(sequences, idle_streams=self.streams)
        futures = [self.start(batch) for batch in batches]
        return self.collect(len(sequences), [future.result() for future in futures])

    def prepare(self, sequences: Sequence[NDArray[np.int32]], idle_streams: int = 1) -> list[Batch]:
        """The batches of those sequences that the model takes; as many as there are idle streams
        where that is sooner done."""
        valid = [i for i, sequence in enumerate(sequences) if self._takes(sequence)]
        lengths = [len(sequences[i]) for i in valid]
        tokens = sum(lengths)
        if idle_streams > 1 and MIN_SHARED_TOKENS <= tokens <= self.token_budget:
            parts = share(lengths, idle_streams)
        elif idle_streams > 1 and tokens > self.token_budget:
            # As many batches for each stream, so that none is left to one of them at the end;
            # batches of whole texts come a little short of their budget.
            least = math.ceil(1.02 * tokens / self.token_budget)
            batches = math.ceil(least / idle_streams) * idle_streams
            parts = cut(lengths, min(self.token_budget, math.ceil(1.02 * tokens / batches)))
        else:
            parts = cut(lengths, self.token_budget)
        chosen = [[valid[row] for row in rows] for rows in parts]
        return [pack([sequences[i] for i in indexes], indexes) for indexes in chosen]

    def _takes(self, sequence: NDArray[np.int32]) -> bool:
        # On a GPU an id outside the table would lose the device, not just the text.
        return (
            0 < len(sequence) <= (self.max_tokens or len(sequence))
            and int(sequence.min()) >= 0
            and int(sequence.max()) < self._vocabulary
        )

    def start(self, batch: Batch) -> Future[Launched]:
        """Start to compute a batch: on the GPU, or on a stream of the processor's."""
        if not self._on_gpu:
            return streams().submit(lambda: self.launch(self.stage(batch)))
        future: Future[Launched] = Future()
        future.set_result(self.launch(self.stage(batch)))
        return future

    def stage(self, batch: Batch) -> Staged:
        """Bring a batch to the device, without waiting for it."""
        positions = batch.positions + self._first_position
        numbers = torch.from_numpy(np.concatenate([batch.ids, positions, batch.offsets]))
        if not self._on_gpu:
            return Staged(batch=batch, numbers=numbers, ready=None)
        try:
            with torch.cuda.stream(self._upload):
                there = numbers.pin_memory().to(self.device, non_blocking=True)
                return Staged(batch=batch, numbers=there, ready=self._upload.record_event())
        except RuntimeError as error:  # out of memory; to launch it is to try again
            logger.warning("a batch of %d texts waits", len(batch.lengths), exc_info=error)
            return Staged(batch=batch, numbers=numbers, ready=None)

    def launch(self, staged: Staged) -> Launched:
        """Compute a batch; on a GPU without waiting for it. Raises DeviceLost."""
        try:
            return self._launch(staged)
        except Exception as error:  # whatever it is, it must cost one text and not the worker
            count = len(staged.batch.lengths)
            logger.warning("a batch of %d texts failed", count, exc_info=error)
        if self._on_gpu:
            self._survey_device()
        rows = torch.full((count, self.dimensions), torch.nan)
        return Launched(batch=staged.batch, rows=rows, done=None)

    def _survey_device(self) -> None:
        """Give back what a failed batch held. Raises DeviceLost if the device answers no more."""
        try:
            torch.cuda.synchronize(self.device)
            torch.cuda.empty_cache()
        except RuntimeError as error:
            raise DeviceLost(str(error)) from error

    @torch.inference_mode()
    def _launch(self, staged: Staged) -> Launched:
        if not self._on_gpu:
            return Launched(batch=staged.batch, rows=self._forward(staged), done=None)
        computing = torch.cuda.current_stream(self.device)
        if staged.ready is not None:
            computing.wait_event(staged.ready)
            staged.numbers.record_stream(computing)
        rows = self._forward(staged)  # (B, D), on the device
        computed = computing.record_event()
        with torch.cuda.stream(self._download):
            self._download.wait_event(computed)
            rows.record_stream(self._download)
            host = torch.empty(rows.shape, dtype=rows.dtype, pin_memory=True)
            host.copy_(rows, non_blocking=True)
            return Launched(batch=staged.batch, rows=host, done=self._download.record_event())

    def _forward(self, staged: Staged) -> Tensor:
        """Vectors (B, D) float32, on the device."""
        batch = staged.batch
        tokens = len(batch.ids)
        sizes = [tokens, tokens, len(batch.offsets)]
        numbers = staged.numbers.to(self.device)
        ids, positions, offsets = torch.split_with_sizes(numbers, sizes)  # T, T, B + 1
        if self._on_gpu:
            layout = Layout(lengths=batch.lengths, offsets=offsets)
            hidden = self._compute(ids.long(), positions.long(), layout)  # (T, H)
        else:
            hidden = self._compute(*self._fill_up(batch, ids, positions, offsets))[
                :tokens
            ]  # (T, H)
        return pool(hidden, offsets, self.pooling)

    def collect(self, count: int, launched: Sequence[Launched]) -> Encoded:
        """What `count` sequences came to, once their batches are computed. Raises DeviceLost."""
        vectors = np.full((count, self.dimensions), np.nan, np.float32)  # (B, D)
        for part in launched:
            vectors[list(part.batch.indexes)] = self._rows(part)
        failed = np.flatnonzero(~np.isfinite(vectors).all(1))
        vectors[failed] = 0
        return Encoded(vectors=vectors, failed=tuple(failed.tolist()))

    def _rows(self, launched: Launched) -> NDArray[np.float32]:
        """The vectors of a batch; those that are not finite are computed again, by halves."""
        if launched.done is not None:
            try:
                launched.done.synchronize()
            except RuntimeError as error:
                raise DeviceLost(str(error)) from error
        rows: NDArray[np.float32] = launched.rows.numpy()  # (B, D)
        suspects = np.flatnonzero(~np.isfinite(rows).all(1))
        if len(rows) > 1:
            for half in np.array_split(suspects, 2):
                if half.size:
                    again = self.stage(select(launched.batch, half.tolist()))
                    rows[half] = self._rows(self.launch(again))
        return rows

    def warm_up(self) -> None:
        """Pay for what is set up lazily; on a GPU, find the largest safe token budget.

        Raises RuntimeError for a checkpoint that cannot be computed.
        """
        if not self._on_gpu:
            example, other = (self._arguments(lengths) for lengths in CAPTURED_LENGTHS)
            self._compute = capture(self.model, example, other)
        texts = [np.ones(MIN_SHARED_TOKENS // 8, np.int32)] * 8 * STREAMS
        if self.encode(texts).failed:
            raise RuntimeError("the model computes nothing finite; the log above has the reason")
        while self._find_budget and self.token_budget < CUDA_MOST_TOKEN_BUDGET:
            if not self._fits(2 * self.token_budget):
                break
            self.token_budget *= 2

    def _arguments(self, lengths: Sequence[int]) -> Arguments:
        """What the forward pass on the processor takes for some texts of those lengths."""
        texts = [np.arange(length, dtype=np.int32) % self._vocabulary for length in lengths]
        batch = pack(texts, range(len(texts)))
        ids, positions = torch.from_numpy(batch.ids), torch.from_numpy(batch.positions)
        return self._fill_up(
            batch, ids, positions + self._first_position, torch.from_numpy(batch.offsets)
        )

    def _fill_up(self, batch: Batch, ids: Tensor, positions: Tensor, offsets: Tensor) -> Arguments:
        """Ids, positions and layout for the processor, filled up to a round size (T,)."""
        filling = round_up(len(ids)) - len(ids)
        slots = find_slots(
            batch.lengths, heads=self._heads, key_heads=self._key_heads, filling=filling
        )
        layout = Layout(lengths=batch.lengths, offsets=offsets, slots=slots)
        return pad(ids, (0, filling)).long(), pad(positions, (0, filling)).long(), layout

    def _fits(self, tokens: int) -> bool:
        """Whether a batch of that many tokens leaves some of the free memory free."""
        free, _ = torch.cuda.mem_get_info(self.device)
        held = torch.cuda.memory_allocated(self.device)
        free += torch.cuda.memory_reserved(self.device) - held
        length = min(tokens, self.max_tokens or tokens)
        sequences = [np.ones(length, np.int32)] * (tokens // length)
        batch = pack(sequences, range(len(sequences)))
        torch.cuda.reset_peak_memory_stats(self.device)
        launched = self.launch(self.stage(batch))
        if launched.done is None:  # out of memory
            return False
        launched.done.synchronize()
        peak = torch.cuda.max_memory_allocated(self.device) - held
        return peak <= FREE_MEMORY_SHARE * free


def _positions(model: PreTrainedModel) -> tuple[int, int | None]:
    """The first position of a text, and the most tokens it may have where a table limits them."""
    embeddings = getattr(model, "embeddings", None)
    table: nn.Embedding | None = getattr(embeddings, "position_embeddings", None)
    if table is None:
        return 0, None  # rotary
    # RoBERTa's positions begin after the padding's; its table is that much longer.
    first = 0 if table.padding_idx is None else table.padding_idx + 1
    return first, table.num_embeddings - first
