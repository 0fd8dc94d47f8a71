"""Residency: which models are in memory, under a budget; the least recently used goes first."""

import gc
from collections import OrderedDict
from collections.abc import Callable

import torch

from inference.engine.encoder import Encoder


class ModelTooLarge(Exception):
    """The model does not fit into the memory budget, even alone."""


class ModelStore:
    """Loaded encoders within a budget of bytes."""

    def __init__(
        self,
        *,
        memory_budget_bytes: int,
        load: Callable[[str], Encoder],
        estimate_bytes: Callable[[str], int],
    ) -> None:
        """`load` loads a model by its id; `estimate_bytes` says what it will take, unloaded."""
        self._budget_bytes = memory_budget_bytes
        self._load = load
        self._estimate_bytes = estimate_bytes
        self._encoders: OrderedDict[str, Encoder] = OrderedDict()  # the least recently used first

    @property
    def resident(self) -> tuple[str, ...]:
        """The ids of the loaded models, the least recently used first."""
        return tuple(self._encoders)

    @property
    def memory_bytes(self) -> int:
        """What the loaded models take."""
        return sum(encoder.memory_bytes for encoder in self._encoders.values())

    def has_room_for(self, model_id: str) -> bool:
        """Whether no other model goes when this one is loaded."""
        return self.memory_bytes + self._estimate_bytes(model_id) <= self._budget_bytes

    def get(self, model_id: str) -> Encoder:
        """The model, loaded if it is not, for which others may go. Raises ModelTooLarge."""
        if model_id not in self._encoders:
            needed_bytes = self._estimate_bytes(model_id)
            if needed_bytes > self._budget_bytes:
                raise ModelTooLarge(
                    f"{model_id} takes {needed_bytes:,} bytes of a budget of {self._budget_bytes:,}"
                )
            self._evict(needed_bytes)
            self._encoders[model_id] = self._load(model_id)
        self._encoders.move_to_end(model_id)
        return self._encoders[model_id]

    def _evict(self, needed_bytes: int) -> None:
        """Unload until that much fits."""
        evicted = False
        while self._encoders and self.memory_bytes + needed_bytes > self._budget_bytes:
            self._encoders.popitem(last=False)
            evicted = True
        if evicted:
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
