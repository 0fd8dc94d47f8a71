"""Coalescing: what waits at the same moment travels together.

One round trip is under way at a time. Items that come meanwhile gather, and leave together in the
next; an item that comes while none is under way leaves at once, so nothing is delayed at rest.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class Coalescer(Generic[Item, Outcome]):
    """Sends items by `send`, at most `max_items` at once, in the order in which they came.

    An item that has waited `max_wait_s` for others to come back is not sent: it gets `refusal`.

    `send` returns one outcome an item, in order; an exception among them is raised to that item
    alone, one that `send` raises to all it was given. It is `send` that has to end in time.
    """

    def __init__(
        self,
        send: Callable[[list[Item]], Awaitable[Sequence[Outcome | Exception]]],
        *,
        max_items: int,
        max_wait_s: float,
        refusal: Callable[[], Exception],
    ) -> None:
        self._send = send
        self._max_items = max_items
        self._max_wait_s = max_wait_s
        self._refusal = refusal
        self._waiting: deque[tuple[float, Item, asyncio.Future[Outcome]]] = deque()
        self._sending: asyncio.Task[None] | None = None

    def submit(self, item: Item) -> "asyncio.Future[Outcome]":
        """The item's outcome to come. Cancelling it takes the item back if it has not left yet."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append((time.monotonic(), item, future))
        if self._sending is None:
            self._sending = asyncio.create_task(self._send_waiting())
        return future

    async def drain(self) -> None:
        """Wait until nothing is on its way."""
        if self._sending is not None:
            await asyncio.wait([self._sending])

    async def _send_waiting(self) -> None:
        try:
            while self._waiting:
                if together := self._take():
                    await self._send_together(together)
        finally:
            self._sending = None

    def _take(self) -> list[tuple[Item, "asyncio.Future[Outcome]"]]:
        taken: list[tuple[Item, asyncio.Future[Outcome]]] = []
        while self._waiting and len(taken) < self._max_items:
            came_at, item, future = self._waiting.popleft()
            if future.done():
                continue  # nobody waits for it any more
            if time.monotonic() - came_at > self._max_wait_s:
                future.set_exception(self._refusal())
            else:
                taken.append((item, future))
        return taken

    async def _send_together(self, together: list[tuple[Item, "asyncio.Future[Outcome]"]]) -> None:
        outcomes: Sequence[Outcome | Exception]
        try:
            outcomes = await self._send([item for item, _ in together])
            if len(outcomes) != len(together):
                raise ValueError(f"{len(outcomes)} outcomes of {len(together)} items")
        except Exception as error:  # noqa: BLE001 - raised to each of those who wait
            outcomes = [error] * len(together)
        for (_, future), outcome in zip(together, outcomes, strict=True):
            if future.done():
                continue
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)
