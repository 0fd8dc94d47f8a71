"""Who gets an upstream's slots, whatever is cancelled meanwhile."""

import asyncio
import random
import time

import pytest

from inference.upstream.slots import Slots


class Visits:
    """Tasks that take a slot and keep it until they are told to leave."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self.inside: set[str] = set()

    async def visit(self, name: str, leave: asyncio.Event, within_s: float = 5.0) -> None:
        deadline_at = time.time() + within_s
        async with self.slots.take(name, tokens=1, deadline_at=deadline_at):
            self.inside.add(name)
            try:
                await leave.wait()
            finally:
                self.inside.remove(name)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.mark.parametrize("leaves_first", [True, False])
async def test_a_turn_is_not_lost_with_one_that_is_cancelled_as_it_comes(
    leaves_first: bool,
) -> None:
    visits = Visits(Slots(1))
    leave = [asyncio.Event() for _ in range(3)]
    tasks = [asyncio.create_task(visits.visit(name, leave[i])) for i, name in enumerate("abc")]
    await settle()
    assert visits.inside == {"a"}
    if leaves_first:
        leave[0].set()
        while visits.inside:
            await asyncio.sleep(0)  # until b's turn has come, and b does not know of it yet
        tasks[1].cancel()
    else:
        tasks[1].cancel()
        leave[0].set()
    await settle()
    assert visits.inside == {"c"}
    leave[2].set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert tasks[1].cancelled()


async def test_slots_are_neither_lost_nor_made_by_cancelling_at_random() -> None:
    chance = random.Random(4)  # noqa: S311
    visits = Visits(Slots(3))
    for _ in range(40):
        leave = [asyncio.Event() for _ in range(8)]
        tasks = [asyncio.create_task(visits.visit(str(i), leave[i])) for i in range(8)]
        for index in chance.sample(range(8), 8):
            if chance.random() < 0.5:
                tasks[index].cancel()
            else:
                leave[index].set()
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)
            assert len(visits.inside) <= 3
        await asyncio.gather(*tasks, return_exceptions=True)
    leave = [asyncio.Event() for _ in range(4)]
    tasks = [asyncio.create_task(visits.visit(str(i), leave[i])) for i in range(4)]
    await settle()
    assert len(visits.inside) == 3
    for event in leave:
        event.set()
    await asyncio.gather(*tasks)


async def test_one_that_waits_too_long_leaves_the_queue() -> None:
    visits = Visits(Slots(1))
    leave = asyncio.Event()
    first = asyncio.create_task(visits.visit("a", leave))
    await settle()
    with pytest.raises(TimeoutError):
        await visits.visit("b", leave, within_s=0.05)
    leave.set()
    await first
    await visits.visit("c", leave)
