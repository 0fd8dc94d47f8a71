"""The pipeline: prepare, compute, hand back, each in its place, the device never waiting."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from inference.engine.cores import STREAMS
from inference.engine.encoder import Encoded, Encoder, Launched, Staged

T = TypeVar("T")

# Computed work that waits for `give`; more than this, and computing waits.
MAX_UNGIVEN = 2


@dataclass(kw_only=True, slots=True, eq=False)
class Work(Generic[T]):
    """Sequences to encode together, and what the giver of the work knows them by."""

    encoder: Encoder
    sequences: list[NDArray[np.int32]]
    tag: T


@dataclass(kw_only=True, slots=True, eq=False)
class _Computed(Generic[T]):
    """Work in the pipe: its batches as they come, `missing` so many."""

    work: Work[T]
    missing: int
    launched: list[Launched] = field(default_factory=list)


class Pipeline(Generic[T]):
    """Takes work, computes it, gives back what it came to.

    On the processor, work is taken only when a core is idle, so that a small query waits for no
    more than the batches that run. On a GPU one piece of work is prepared and copied ahead, and
    results are copied back beside the next. `take` and `give` are each called by one thread at a
    time; work that takes longer may be given after work that was taken later.
    """

    def __init__(
        self,
        *,
        take: Callable[[], Work[T] | None],
        give: Callable[[T, Encoded], None],
        prepare_ahead: bool | None = None,
    ) -> None:
        """`take` blocks while there is nothing to do and returns None to end the pipeline.

        `prepare_ahead` is by default whether there is a GPU.
        """
        self._take = take
        self._give = give
        self._ahead = torch.cuda.is_available() if prepare_ahead is None else prepare_ahead
        self._computed: queue.Queue[_Computed[T] | None] = queue.Queue(MAX_UNGIVEN)
        self._staged: queue.Queue[tuple[Work[T], list[Staged]] | None] = queue.Queue()
        self._room_ahead = threading.Semaphore(1)
        self._idle = STREAMS
        self._held = 0  # work that was taken and has not been given
        self._changed = threading.Condition()
        self._error: Exception | None = None

    def run(self) -> None:
        """Until `take` returns None; then finish what is in the pipe.

        Raises what `take` or `give` raise, and DeviceLost, after which the process should end.
        """
        giver = threading.Thread(target=self._give_back, name="give", daemon=True)
        giver.start()
        try:
            if self._ahead:
                self._run_on_gpu()
            else:
                self._run_on_processor()
        finally:
            self._computed.put(None)
            giver.join()
        if self._error is not None:
            raise self._error

    def wait_until_empty(self) -> None:
        """Until all that was taken before is given, and nothing here refers to its model: for
        `take`, before it loads another in its place."""
        with self._changed:
            self._changed.wait_for(lambda: not self._held)

    def _take_one(self) -> Work[T] | None:
        work = self._take()
        if work is not None:
            with self._changed:
                self._held += 1
        return work

    def _run_on_processor(self) -> None:
        try:
            while self._error is None and self._start_one():
                continue
        finally:
            self._wait_for_idle(STREAMS)

    def _start_one(self) -> bool:
        """Take work and start it; False at the end. A function of its own, as others here are, so
        that nothing refers to the last work's model while `take` may be loading another."""
        self._wait_for_idle(1)
        work = self._take_one()
        if work is None:
            return False
        batches = work.encoder.prepare(work.sequences, idle_streams=self._idle)
        computed = _Computed(work=work, missing=len(batches))
        if not batches:
            self._computed.put(computed)
        for batch in batches:
            self._wait_for_idle(1)
            future = work.encoder.start(batch)
            with self._changed:
                self._idle -= 1
            future.add_done_callback(partial(self._finish, computed))
        return True

    def _wait_for_idle(self, streams: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._idle >= streams)

    def _finish(self, computed: _Computed[T], future: Future[Launched]) -> None:
        """A stream has computed a batch; it is idle once its result is on its way."""
        with self._changed:
            try:
                computed.launched.append(future.result())
            except Exception as error:  # noqa: BLE001 — run() raises it
                self._error = self._error or error
            computed.missing -= 1
            complete = computed.missing == 0
        if complete:
            self._computed.put(computed)
        with self._changed:
            self._idle += 1
            self._changed.notify()

    def _run_on_gpu(self) -> None:
        threading.Thread(target=self._prepare, name="prepare", daemon=True).start()
        while self._launch_one():
            continue

    def _launch_one(self) -> bool:
        item = self._staged.get()
        if item is None or self._error is not None:
            return False
        self._room_ahead.release()
        work, staged = item
        launched = [work.encoder.launch(batch) for batch in staged]
        self._computed.put(_Computed(work=work, missing=0, launched=launched))
        return True

    def _prepare(self) -> None:
        try:
            while self._stage_one():
                continue
        except Exception as error:  # noqa: BLE001 — run() raises it
            self._error = self._error or error
        finally:
            self._staged.put(None)

    def _stage_one(self) -> bool:
        self._room_ahead.acquire()
        work = self._take_one()
        if work is None:
            return False
        batches = work.encoder.prepare(work.sequences)
        self._staged.put((work, [work.encoder.stage(batch) for batch in batches]))
        return True

    def _give_back(self) -> None:
        while self._give_one():
            with self._changed:
                self._held -= 1
                self._changed.notify()

    def _give_one(self) -> bool:
        computed = self._computed.get()
        if computed is None:
            return False
        if self._error is not None:
            return True  # drained, so that nothing waits for room
        work = computed.work
        try:
            encoded = work.encoder.collect(len(work.sequences), computed.launched)
            self._give(work.tag, encoded)
        except Exception as error:  # noqa: BLE001 — run() raises it
            self._error = error
            self._staged.put(None)  # wakes run(), whatever `take` is waiting for
        return True
