"""Slots: how many calls an upstream gets at once, and whose is next."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from inference.fair_queue import FairQueue


class Slots:
    """Handed out in the order of the fair queue, as the workers' time is. One event loop's."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._queue: FairQueue[asyncio.Future[None]] = FairQueue()

    @asynccontextmanager
    async def take(self, flow_id: str, *, tokens: int, deadline_at: float) -> AsyncIterator[None]:
        """Hold a slot for the block. Raises TimeoutError when none is free by `deadline_at`, in
        unix seconds."""
        if self._free:
            self._free -= 1
        else:
            async with asyncio.timeout(max(0.0, deadline_at - time.time())):
                await self._wait(flow_id, tokens)
        try:
            yield
        finally:
            self._hand_on()

    async def _wait(self, flow_id: str, tokens: int) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = self._queue.push(flow_id, turn, tokens=tokens, now=time.monotonic())
        try:
            await turn
        except asyncio.CancelledError:
            self._queue.withdraw(entry)
            if not turn.cancelled():  # its turn came at the same moment
                self._hand_on()
            raise

    def _hand_on(self) -> None:
        while (turn := self._queue.pop()) is not None:
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
