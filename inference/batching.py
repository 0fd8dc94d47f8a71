"""Batching: what a worker holds, and what it computes next.

Tasks of any web process are taken apart into their parts, which wait here in fair order; a batch is
what comes first, up to the device's token budget, whichever task and request it came in.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference import wire
from inference.fair_queue import QUERY_MAX_TOKENS, FairQueue

# What a worker takes from the broker beyond what it computes; more stays there, for others.
HELD_BATCHES = 64
POLL_S = 0.1
# A share of what waits is no smaller than this: a batch has a cost of its own.
SHARE_MIN_TOKENS = 256
# So long after a query, batches of bulk are half as large: another query may come, and would wait
# for the one that is computed. Large batches compute about 5 % more tokens.
QUERY_MEMORY_S = 5.0
# To load a model takes seconds: so long the loaded ones have the worker to themselves afterwards,
# unless nothing more comes for them; the next requests come once the last are answered.
STAY_S = 5.0
GAP_S = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """A part, the ids of each of its texts, and the list that its answer goes to."""

    part: wire.Part
    sequences: list[NDArray[np.int32]]
    reply_to: str


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Parts for one model, computed together."""

    model_id: str
    parts: list[Held]

    @property
    def tokens(self) -> int:
        return sum(held.part.tokens for held in self.parts)


class Batcher:
    """Thread-safe: one thread accepts, another takes.

    `budget_of` says how many tokens of a model fit a batch, `is_loaded` whether it is in memory;
    `streams` is how many batches are computed at once, which share out what there is when it is
    little. Models take turns, a batch each; whoever takes a batch of one that is not loaded loads
    it before it takes the next.
    """

    def __init__(
        self,
        budget_of: Callable[[str], int],
        *,
        is_loaded: Callable[[str], bool] = lambda _: True,
        streams: int = 1,
    ) -> None:
        self._budget_of = budget_of
        self._is_loaded = is_loaded
        self.streams = streams
        self._queues: dict[str, FairQueue[Held]] = {}
        self._changed = threading.Condition()
        self._computing: set[Batch] = set()
        self._is_loading = False
        self._stay_until = -STAY_S
        self._done_at = -GAP_S
        self._last_query_at = -QUERY_MEMORY_S
        self._is_closed = False
        # Set by a signal handler, which must take no lock.
        self.is_stopping = False

    def accept(self, task: wire.EncodeTask) -> None:
        """Hold the task's parts. Waits while too much is held, unless the worker is stopping.

        Raises ValueError, and holds none, if a part's lengths are not those of its ids.
        """
        parts = [Held(part, _sequences(part), task.reply_to) for part in task.parts]
        with self._changed:
            queue = self._queues.setdefault(task.model_id, FairQueue())
            bound = HELD_BATCHES * self._budget_of(task.model_id)
            while queue.tokens > bound and not self.is_stopping:
                self._changed.wait(POLL_S)
            now = time.monotonic()
            for held in parts:
                part = held.part
                size = part.request_tokens
                queue.push(part.flow_id, held, tokens=part.tokens, size=size, now=now)
            self._changed.notify_all()

    def take(self) -> Batch | None:
        """The next batch, as soon as there is one; None once closed. Parts past their deadline are
        left out: nobody waits for them any more."""
        with self._changed:
            if self._is_loading:
                self._is_loading, self._stay_until = False, time.monotonic() + STAY_S
            while not self._is_closed:
                turns = self._turns()
                for model_id in turns:
                    self._queues[model_id] = queue = self._queues.pop(model_id)  # now the last
                    now = time.time()
                    parts = queue.pop_batch(self._share(model_id, queue.tokens))
                    live = [held for held in parts if held.part.deadline_at > now]
                    if parts:
                        self._changed.notify_all()
                    if live:
                        batch = Batch(model_id, live)
                        self._computing.add(batch)
                        self._is_loading = not self._is_loaded(model_id)
                        if live[0].part.request_tokens <= QUERY_MAX_TOKENS:
                            self._last_query_at = time.monotonic()
                        return batch
                if not any(len(self._queues[model_id]) for model_id in turns):
                    others_wait = any(map(len, self._queues.values()))
                    self._changed.wait(POLL_S if others_wait else None)
            return None

    def done(self, batch: Batch) -> None:
        """A batch that was taken is answered."""
        with self._changed:
            self._computing.remove(batch)
            self._done_at = time.monotonic()
            self._changed.notify_all()

    def drain(self, timeout_s: float) -> list[Held]:
        """Wait until all that is held is answered, at most `timeout_s`, and close. What is not
        then is returned, also what is being computed."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while self._is_busy() and (left_s := deadline - time.monotonic()) > 0:
                self._changed.wait(left_s)
            self._is_closed = True
            self._changed.notify_all()
            waiting = [held for queue in self._queues.values() for held in iter(queue.pop, None)]
            return [held for batch in self._computing for held in batch.parts] + waiting

    def _turns(self) -> list[str]:
        """The models in their turns; only the loaded ones while they have it to themselves."""
        now = time.monotonic()
        is_busy = bool(self._computing) or now - self._done_at < GAP_S
        stays = now < self._stay_until and is_busy
        return [id_ for id_ in self._queues if self._is_loaded(id_) or not stays]

    def _share(self, model_id: str, waiting_tokens: int) -> int:
        """The budget of the next batch: no more than a stream's share of all that is there, or one
        would compute most of it while the others ran out."""
        computing_tokens = sum(batch.tokens for batch in self._computing)
        share = -(-(waiting_tokens + computing_tokens) // self.streams)
        budget = self._budget_of(model_id)
        if time.monotonic() - self._last_query_at < QUERY_MEMORY_S:
            budget //= 2
        return min(budget, max(share, SHARE_MIN_TOKENS))

    def _is_busy(self) -> bool:
        return bool(self._computing) or any(map(len, self._queues.values()))


def _sequences(part: wire.Part) -> list[NDArray[np.int32]]:
    ids = np.frombuffer(part.ids, dtype="<i4")
    lengths = np.frombuffer(part.lengths, dtype="<i4")
    if not len(lengths) or lengths.min() < 1 or lengths.sum() != len(ids):
        raise ValueError(f"part {part.id} holds no texts of {len(ids)} tokens")
    return np.split(ids, np.cumsum(lengths)[:-1])
