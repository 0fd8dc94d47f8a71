"""Lanes: what one web process has waiting and in flight for one Celery queue.

A lane decides, and does no I/O: who is admitted, what is sent next, how long a request would wait.
Only a few batches a worker are in flight; the rest waits here, where it is in fair order, can be
withdrawn when its client hangs up, and is not lost with a worker.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from inference import wire
from inference.fair_queue import QUERY_MAX_TOKENS, Entry, FairQueue
from inference.presence import Worker
from inference.tokenization import TokenBatch

# A request in more than one part is spread over workers, and lets others in between.
PARTS_PER_BATCH = 2
PART_MAX_TOKENS = 8_192
TASK_MAX_PARTS = 64
# Of the time that a request has left, how much it may be expected to wait.
WAIT_SHARE = 0.8
# A bound for when nothing is known of the workers' speed.
WAITING_MAX_TOKENS = 16_000_000
RATE_LIFE_S = 5.0
RETRY_AFTER_MAX_S = 60.0


class Overloaded(Exception):
    """So much is waiting that the request would not be answered in time."""

    def __init__(self, *, wait_s: float, retry_after_s: float) -> None:
        super().__init__(f"the queue is about {wait_s:.0f} s long")
        self.wait_s = wait_s
        self.retry_after_s = min(max(1.0, retry_after_s), RETRY_AFTER_MAX_S)


class TooMuchWaiting(Overloaded):
    """So much is waiting, and it is the caller's own."""


@dataclass(slots=True, eq=False)
class Piece:
    """A part of a request on its way: waiting (with an entry in the queue) or in flight."""

    part: wire.Part
    rows: slice  # its texts among the request's
    attempts: int = 0
    entry: "Entry[Piece] | None" = None
    sent_at: float = 0.0  # monotonic seconds


@dataclass(slots=True, eq=False)
class Lane:
    """`now` is in monotonic seconds throughout."""

    queue: str
    model_id: str
    workers: list[Worker] = field(default_factory=list)
    refreshed_at: float = -1e9
    used_at: float = -1e9
    in_flight: dict[int, Piece] = field(default_factory=dict)
    _waiting: FairQueue[Piece] = field(default_factory=FairQueue)
    _in_flight_by_flow: Counter[str] = field(default_factory=Counter)
    # Since when something waits for room at the workers, or since the last measurement meanwhile.
    _full_since: float | None = None
    _delivered: int = 0  # tokens, since then
    _rate: float = 0.0
    _rated_at: float = -1e9

    @property
    def accepting(self) -> list[Worker]:
        """The workers that live and take work."""
        return [worker for worker in self.workers if worker.is_accepting]

    @property
    def may_gather(self) -> bool:
        """Whether what waits is little, and the workers have enough to do meanwhile."""
        is_little = self._waiting.tokens < self.batch_tokens // PARTS_PER_BATCH
        return is_little and self.tokens_in_flight > QUERY_MAX_TOKENS

    @property
    def tokens_waiting(self) -> int:
        return self._waiting.tokens

    @property
    def tokens_in_flight(self) -> int:
        return self._in_flight_by_flow.total()

    @property
    def batch_tokens(self) -> int:
        """The token budget of a worker's batch; the smallest where they differ."""
        return min((w.report.token_budget for w in self.accepting), default=1_024)

    def split(
        self, batch: TokenBatch, *, ids: Iterator[int], flow_id: str, deadline_at: float
    ) -> list[Piece]:
        """The request's texts in parts of about the same number of tokens each."""
        part_tokens = min(max(1, self.batch_tokens // PARTS_PER_BATCH), PART_MAX_TOKENS)
        count = min(-(-batch.token_count // part_tokens), len(batch.lengths))
        ends = np.cumsum(batch.lengths, dtype=np.int64)  # (B,)
        pieces = []
        for rows in _even_slices(ends, count):
            first = int(ends[rows.start - 1]) if rows.start else 0
            part = wire.Part(
                id=next(ids),
                flow_id=flow_id,
                deadline_at=deadline_at,
                request_tokens=batch.token_count,
                ids=batch.ids[first : int(ends[rows.stop - 1])].astype("<i4").tobytes(),
                lengths=batch.lengths[rows].astype("<i4").tobytes(),
            )
            pieces.append(Piece(part, rows))
        return pieces

    def admit(self, flow_id: str, tokens: int, *, seconds_left: float, now: float) -> None:
        """Raise Overloaded or TooMuchWaiting where a request would probably not be answered in
        `seconds_left`. An idle lane admits everything."""
        if not self.in_flight and not len(self._waiting):
            return
        own = self._waiting.tokens_of(flow_id) + tokens
        flows = self._waiting.flow_count + (own == tokens)
        total = self._waiting.tokens + tokens
        is_new = own == tokens and flow_id not in self._in_flight_by_flow
        # Whoever has nothing at the workers is next there, after the batches that run.
        ahead = self.tokens_in_flight
        if is_new:
            ahead = min(ahead, self._running_tokens)
        allowed_s = seconds_left * WAIT_SHARE
        rate = self.rate(now)
        # With n flows a flow gets an n-th of the rate, and never waits for more than there is.
        wait_s = (min(total, own * flows) + ahead) / rate if rate else 0.0
        if wait_s <= allowed_s and total <= WAITING_MAX_TOKENS:
            return
        all_own = own + self._in_flight_by_flow[flow_id]
        is_all = all_own == total + self.tokens_in_flight
        is_own = not is_new and (is_all or (rate and all_own / rate > allowed_s))
        refusal = TooMuchWaiting if is_own else Overloaded
        raise refusal(wait_s=wait_s, retry_after_s=wait_s - allowed_s)

    def push(self, piece: Piece, *, now: float) -> None:
        """Let the piece wait for its turn."""
        part = piece.part
        piece.entry = self._waiting.push(
            part.flow_id, piece, tokens=part.tokens, size=part.request_tokens, now=now
        )

    def withdraw(self, pieces: Sequence[Piece]) -> None:
        """Take out those of the pieces that still wait."""
        for piece in pieces:
            if piece.entry is not None:
                self._waiting.withdraw(piece.entry)
                piece.entry = None

    def next_tasks(self, *, now: float) -> list[list[Piece]]:
        """The pieces to send now, each list a task of about a batch; they are then in flight."""
        tasks: list[list[Piece]] = []
        room = 0
        while (piece := self._next()) is not None:
            self._fly(piece, now)
            if piece.part.tokens > room or len(tasks[-1]) == TASK_MAX_PARTS:
                tasks.append([])
                room = self.batch_tokens
            tasks[-1].append(piece)
            room -= piece.part.tokens
        if not len(self._waiting):
            self._full_since = None
        elif self._full_since is None:
            self._full_since, self._delivered = now, 0
        return tasks

    def land(self, part_id: int) -> Piece | None:
        """The piece in flight of that id, which is no longer; None if there is none."""
        piece = self.in_flight.pop(part_id, None)
        if piece is not None:
            self._in_flight_by_flow[piece.part.flow_id] -= piece.part.tokens
            if not self._in_flight_by_flow[piece.part.flow_id]:
                del self._in_flight_by_flow[piece.part.flow_id]
        return piece

    def count_delivered(self, piece: Piece) -> None:
        """Note that a piece was computed, for the rate."""
        self._delivered += piece.part.tokens

    def drop_expired(self, now_unix: float) -> None:
        """Forget what is in flight past its deadline: its answer was lost, or nobody waits."""
        for piece in list(self.in_flight.values()):
            if piece.part.deadline_at < now_unix:
                self.land(piece.part.id)

    def rate(self, now: float) -> float:
        """Tokens a second that this process gets computed: as measured while there was a backlog,
        else as the workers report; 0 if nothing is known."""
        if self._rate and now - self._rated_at < RATE_LIFE_S:
            return self._rate
        return sum(worker.report.tokens_per_s for worker in self.accepting)

    def measure(self, now: float) -> None:
        """Learn the rate while there is a backlog: from what landed, once it is as much as the
        workers hold, since a batch may take seconds and lands at once. Until then no more can have
        been computed than what landed and what is in flight."""
        if not self.accepting:
            self._full_since, self._rate = None, 0.0
        if self._full_since is None or self._full_since >= now or not len(self._waiting):
            return
        elapsed_s = now - self._full_since
        before = self.rate(now)
        if self._delivered >= self._window_tokens:
            measured = self._delivered / elapsed_s
            self._rate = 0.5 * (before or measured) + 0.5 * measured
            self._full_since, self._delivered = now, 0
        else:
            self._rate = min(before, (self._delivered + self.tokens_in_flight) / elapsed_s)
        self._rated_at = now

    @property
    def _running_tokens(self) -> int:
        """The tokens of the batches that the workers compute at once."""
        return sum(w.report.token_budget * w.report.batches_at_once for w in self.accepting)

    @property
    def _window_tokens(self) -> int:
        """The tokens that may be in flight: what the workers compute, and for each of them one
        batch that waits for it there."""
        return self._running_tokens + sum(w.report.token_budget for w in self.accepting)

    def _next(self) -> Piece | None:
        flow_id = self._waiting.next_flow_id()
        if flow_id is None:
            return None
        window = self._window_tokens
        if flow_id not in self._in_flight_by_flow:
            window += self.batch_tokens  # whoever has nothing there does not wait for who does
        if self.in_flight and self.tokens_in_flight >= window:
            return None
        return self._waiting.pop()

    def _fly(self, piece: Piece, now: float) -> None:
        piece.entry = None
        piece.attempts += 1
        piece.sent_at = now
        self.in_flight[piece.part.id] = piece
        self._in_flight_by_flow[piece.part.flow_id] += piece.part.tokens


def _even_slices(ends: NDArray[np.int64], count: int) -> Iterator[slice]:
    """Cut texts that end at the tokens `ends` into at most `count` runs of about the same size."""
    start = 0
    for number in range(1, count + 1):
        stop = int(np.searchsorted(ends, ends[-1] * number / count, side="left")) + 1
        stop = min(max(stop, start + 1), len(ends))
        if number == count:
            stop = len(ends)
        if stop > start:
            yield slice(start, stop)
        start = stop
        if start == len(ends):
            return
