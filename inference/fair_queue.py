"""The fair queue: whose work is next, by deficit round robin on tokens between flows.

Used on both sides of the broker: a web process decides what to send, a worker what to compute. A
flow is an attachment. The algorithm is DRR++ as in FQ-CoDel (RFC 8290 §4.2): a flow that was idle
is served ahead of those that are backlogged, once, so a small query waits for no bulk of others;
backlogged flows then get the same number of tokens a round. Within a flow an item is ranked by its
arrival plus its size, so that small queries overtake bulk, which waits a bounded time longer.
"""

from collections import deque
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from typing import Generic, TypeVar

T = TypeVar("T")

# Tokens a flow gets in a round: about five paragraphs. Small, so that a round is short.
QUANTUM_TOKENS = 256
# A request of at most so many tokens is a query; what is larger is bulk.
QUERY_MAX_TOKENS = 256
# How much later an item of its flow is ranked for its size, at most: it cannot starve.
RANK_S_PER_TOKEN = 0.001
RANK_MAX_S = 2.0


@dataclass(slots=True, eq=False)
class Entry(Generic[T]):
    """An item's place in the queue."""

    item: T
    flow_id: str
    tokens: int
    size: int
    is_waiting: bool = True


@dataclass(slots=True, eq=False)
class _Flow(Generic[T]):
    heap: list[tuple[float, int, Entry[T]]] = field(default_factory=list)
    deficit: int = QUANTUM_TOKENS
    tokens: int = 0

    def first(self) -> Entry[T] | None:
        """The entry that is next, past those that were withdrawn."""
        while self.heap and not self.heap[0][2].is_waiting:
            heappop(self.heap)
        return self.heap[0][2] if self.heap else None


class FairQueue(Generic[T]):
    """Not thread-safe. `tokens` is of all that waits; `len()` is how many items wait."""

    def __init__(self) -> None:
        self._flows: dict[str, _Flow[T]] = {}
        self._new: deque[str] = deque()
        self._old: deque[str] = deque()
        self._arrivals = count()
        self._waiting = 0
        self.tokens = 0

    def __len__(self) -> int:
        return self._waiting

    @property
    def flow_count(self) -> int:
        """How many flows have something waiting."""
        return sum(flow.tokens > 0 for flow in self._flows.values())

    def tokens_of(self, flow_id: str) -> int:
        """Tokens that wait in one flow."""
        flow = self._flows.get(flow_id)
        return flow.tokens if flow else 0

    def push(
        self, flow_id: str, item: T, *, tokens: int, now: float, size: int | None = None
    ) -> Entry[T]:
        """Add `item` of `tokens` > 0 tokens. `size` is the tokens of the whole request that it is a
        piece of, by which it is ranked; `now` is in seconds of any clock that does not go back."""
        flow = self._flows.get(flow_id)
        if flow is None:
            flow = self._flows[flow_id] = _Flow()
            self._new.append(flow_id)
        entry = Entry(item, flow_id, tokens, size or tokens)
        rank = now + min(entry.size * RANK_S_PER_TOKEN, RANK_MAX_S)
        heappush(flow.heap, (rank, next(self._arrivals), entry))
        flow.tokens += tokens
        self.tokens += tokens
        self._waiting += 1
        return entry

    def withdraw(self, entry: Entry[T]) -> bool:
        """Take an entry out, wherever it stands. False if it no longer waits."""
        if not entry.is_waiting:
            return False
        self._leave(entry)
        return True

    def next_flow_id(self) -> str | None:
        """The flow whose turn it is; None when nothing waits."""
        entry = self._next()
        return entry.flow_id if entry else None

    def pop(self) -> T | None:
        """Take the next item out; None when nothing waits."""
        entry = self._next()
        return self._take(entry) if entry else None

    def pop_batch(self, budget: int) -> list[T]:
        """Take the next items out as long as they fit `budget` tokens together; at least one. Where
        a query is next, only queries: it shall not wait for bulk in its own batch either."""
        batch: list[T] = []
        is_quick = False
        while (entry := self._next()) is not None:
            if batch and (entry.tokens > budget or (is_quick and entry.size > QUERY_MAX_TOKENS)):
                break
            is_quick = is_quick or (not batch and entry.size <= QUERY_MAX_TOKENS)
            batch.append(self._take(entry))
            budget -= entry.tokens
        return batch

    def _next(self) -> Entry[T] | None:
        """The entry whose turn it is; its flow is then first of its list, with a deficit > 0."""
        while self._new or self._old:
            flows = self._new or self._old
            flow_id = flows[0]
            flow = self._flows[flow_id]
            if flow.deficit <= 0:  # also of an empty flow: it pays before it may be new again
                flow.deficit += QUANTUM_TOKENS
                flows.popleft()
                self._old.append(flow_id)
            elif (entry := flow.first()) is not None:
                return entry
            elif flows is self._new and self._old:
                self._old.append(flows.popleft())  # nor before it has waited a round
            else:
                del self._flows[flows.popleft()]
        return None

    def _take(self, entry: Entry[T]) -> T:
        flow = self._flows[entry.flow_id]
        flow.deficit -= entry.tokens
        self._leave(entry)
        return entry.item

    def _leave(self, entry: Entry[T]) -> None:
        entry.is_waiting = False
        self._flows[entry.flow_id].tokens -= entry.tokens
        self.tokens -= entry.tokens
        self._waiting -= 1
