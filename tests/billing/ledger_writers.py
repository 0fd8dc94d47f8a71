"""Processes that write the ledger of a test's database, all at the same time."""

import asyncio
import dataclasses
import random
import subprocess
import sys
from uuid import UUID

import msgspec
from django.db import connection
from uuid_utils.compat import uuid7

from billing.metering import Ledger, Usage

WRITE = """
import sys
import django
from django.db import connection
django.setup()
connection.settings_dict["NAME"] = sys.argv[1]
from tests.billing.ledger_writers import main
main()
"""


def record_from_processes(template: Usage, *, processes: int, ledgers: int, events: int) -> int:
    """Each ledger of each process records so many events like `template`, half of them recorded by
    its neighbour too, in another order. Returns how many different ones that are."""
    shared = [uuid7() for _ in range(processes * ledgers * events // 2)]
    running = []
    for number in range(processes):
        lists = [
            [*_part(shared, number * ledgers + index, processes * ledgers)]
            + [uuid7() for _ in range(events // 2)]
            for index in range(ledgers)
        ]
        running.append(start_writer(template, lists))
    assert [process.wait(120) for process in running] == [0] * processes
    return len(shared) + processes * ledgers * (events // 2)


def start_writer(template: Usage, lists: list[list[UUID]]) -> subprocess.Popen[bytes]:
    """A process with a ledger for each of the lists of ids, which it records ten at a time."""
    command = [sys.executable, "-c", WRITE, str(connection.settings_dict["NAME"])]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode((template, lists)))
    process.stdin.close()
    return process


def _part(shared: list[UUID], writer: int, writers: int) -> list[UUID]:
    """A writer's own share, and that of the next."""
    size = len(shared) // writers
    own = shared[writer * size : (writer + 1) * size]
    neighbour = (writer + 1) % writers
    return own + shared[neighbour * size : (neighbour + 1) * size]


def main() -> None:
    template, lists = msgspec.json.decode(
        sys.stdin.buffer.read(), type=tuple[Usage, list[list[UUID]]]
    )
    asyncio.run(_record(template, lists))


async def _record(template: Usage, lists: list[list[UUID]]) -> None:
    ledgers = [Ledger() for _ in lists]
    await asyncio.gather(
        *(_record_all(ledger, template, ids) for ledger, ids in zip(ledgers, lists, strict=True))
    )
    for ledger in ledgers:
        await ledger.close()


async def _record_all(ledger: Ledger, template: Usage, ids: list[UUID]) -> None:
    shuffled = random.sample(ids, len(ids))
    for start in range(0, len(shuffled), 10):
        await asyncio.gather(
            *(
                ledger.record(dataclasses.replace(template, id=id_))
                for id_ in shuffled[start : start + 10]
            )
        )
