"""Coalescing: what waits at the same moment travels together."""

import asyncio
from collections.abc import Sequence

import pytest

from billing.coalescing import Coalescer


class TooLong(Exception):
    pass


class Line:
    """A far end that answers when it is told to, and remembers what came together."""

    def __init__(self, max_items: int = 100, max_wait_s: float = 60.0) -> None:
        self.sent: list[list[int]] = []
        self.go = asyncio.Event()
        self.coalescer = Coalescer(
            self._send, max_items=max_items, max_wait_s=max_wait_s, refusal=TooLong
        )

    async def _send(self, items: list[int]) -> Sequence[str | Exception]:
        self.sent.append(items)
        await self.go.wait()
        if 13 in items:
            raise ConnectionError("the line is cut")
        return [ValueError(item) if item < 0 else f"answer {item}" for item in items]


async def turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_an_item_leaves_at_once_and_what_comes_meanwhile_leaves_together() -> None:
    line = Line()
    first = line.coalescer.submit(1)
    await turn()
    others = [line.coalescer.submit(item) for item in (2, 3, 4)]
    await turn()
    assert line.sent == [[1]]
    line.go.set()
    assert await asyncio.gather(first, *others) == [f"answer {n}" for n in (1, 2, 3, 4)]
    assert line.sent == [[1], [2, 3, 4]]


async def test_no_more_than_max_items_leave_together_and_order_is_kept() -> None:
    line = Line(max_items=2)
    line.go.set()
    await asyncio.gather(*[line.coalescer.submit(item) for item in range(5)])
    assert line.sent == [[0, 1], [2, 3], [4]]


async def test_an_item_that_waited_too_long_for_those_before_it_is_refused_and_not_sent() -> None:
    line = Line(max_wait_s=0.05)
    first = line.coalescer.submit(1)
    await turn()
    second = line.coalescer.submit(2)
    await asyncio.sleep(0.1)
    line.go.set()
    assert await first == "answer 1"
    with pytest.raises(TooLong):
        await second
    assert await line.coalescer.submit(3) == "answer 3"
    assert line.sent == [[1], [3]]


async def test_an_exception_among_the_outcomes_is_raised_to_its_item_alone() -> None:
    line = Line()
    line.go.set()
    outcomes = await asyncio.gather(
        *[line.coalescer.submit(item) for item in (1, -2, 3)], return_exceptions=True
    )
    assert outcomes[::2] == ["answer 1", "answer 3"]
    assert isinstance(outcomes[1], ValueError)


async def test_what_send_raises_is_raised_to_all_it_was_given_and_no_others() -> None:
    line = Line(max_items=2)
    line.go.set()
    outcomes = await asyncio.gather(
        *[line.coalescer.submit(item) for item in (12, 13, 14)], return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [ConnectionError, ConnectionError, str]


async def test_a_cancelled_item_is_not_sent_if_it_has_not_left() -> None:
    line = Line()
    leaving = line.coalescer.submit(1)
    await turn()
    waiting = [line.coalescer.submit(item) for item in (2, 3)]
    leaving.cancel()
    waiting[0].cancel()
    line.go.set()
    assert await waiting[1] == "answer 3"
    assert line.sent == [[1], [3]]


async def test_it_works_again_after_a_rest_and_drains() -> None:
    line = Line()
    line.go.set()
    await line.coalescer.drain()
    assert await line.coalescer.submit(1) == "answer 1"
    late = line.coalescer.submit(2)
    await line.coalescer.drain()
    assert late.result() == "answer 2"


async def test_outcomes_that_are_too_few_are_an_error_rather_than_a_wait() -> None:
    async def send(items: list[int]) -> list[int]:
        return items[1:]

    coalescer = Coalescer(send, max_items=9, max_wait_s=60.0, refusal=TooLong)
    with pytest.raises(ValueError, match="outcomes"):
        await asyncio.wait_for(coalescer.submit(1), 1)
