"""The pipeline: prepare, compute, hand back, each in its place, the device never waiting."""

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from inference.engine.encoder import Encoded, Encoder, Launched

T = TypeVar("T")


@dataclass(kw_only=True, slots=True, eq=False)
class Work(Generic[T]):
    """Sequences to encode together, and what the giver of the work knows them by."""

    encoder: Encoder
    sequences: list[NDArray[np.int32]]
    tag: T


class Pipeline(Generic[T]):
    """Takes work, computes it, gives back what it came to, in order."""

    def __init__(
        self, *, take: Callable[[], Work[T] | None], give: Callable[[T, Encoded], None]
    ) -> None:
        self._take = take
        self._give = give
        self._launched: queue.Queue[tuple[Work[T], list[Launched]] | None] = queue.Queue(2)
        self._error: BaseException | None = None

    def run(self) -> None:
        """Until `take` returns None; then finish what is in the pipe."""
        giver = threading.Thread(target=self._collect, name="collect", daemon=True)
        giver.start()
        try:
            while self._error is None and (work := self._take()) is not None:
                batches = work.encoder.prepare(work.sequences)
                self._launched.put((work, [work.encoder.launch(batch) for batch in batches]))
        finally:
            self._launched.put(None)
            giver.join()
        if self._error is not None:
            raise self._error

    def _collect(self) -> None:
        while (item := self._launched.get()) is not None:
            work, launched = item
            if self._error is None:
                try:
                    self._give(work.tag, work.encoder.collect(len(work.sequences), launched))
                except BaseException as error:  # noqa: BLE001 — raised again by run()
                    self._error = error
