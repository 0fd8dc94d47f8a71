"""Metering: one row an answered request, never changed, whatever happens to the database."""

import asyncio
import dataclasses
import os
import socket
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from django.db import DatabaseError, connection, transaction
from psycopg import sql
from uuid_utils.compat import uuid7

from billing import metering
from billing.metering import Ledger, Usage, UsageConflict, UsageNotRecorded
from billing.models import UsageEvent
from inference.database import run_in_database_thread

pytestmark = pytest.mark.django_db(transaction=True)

NewUsage = Callable[..., Usage]


@pytest.fixture
def new_usage() -> NewUsage:
    def new_usage(**changes: Any) -> Usage:
        usage = Usage(
            id=uuid7(),
            request_id=str(uuid.uuid4()),
            resource_id=uuid.uuid4(),
            attachment_id=uuid.uuid4(),
            credential_id=uuid.uuid4(),
            attachment_name="EMBEDDING",
            app_name="shop",
            plan_name="heroku-inference:standard",
            model_id="all-minilm-l6-v2",
            inputs=2,
            tokens=17,
            requested_at=datetime.now(UTC),
        )
        return dataclasses.replace(usage, **changes)

    return new_usage


@pytest.fixture
async def ledger() -> AsyncIterator[Ledger]:
    ledger = Ledger()
    yield ledger
    await ledger.close()


@pytest.fixture
def operator() -> Iterator[psycopg.Connection[Any]]:
    """A connection of its own to the same database."""
    parameters = connection.get_connection_params()
    given = {name: parameters[name] for name in ("dbname", "user", "host")}
    with psycopg.connect(**given, autocommit=True) as other:
        yield other


async def rows() -> list[UsageEvent]:
    return await run_in_database_thread(lambda: list(UsageEvent.objects.order_by("id")))


async def test_usage_becomes_a_row(ledger: Ledger, new_usage: NewUsage) -> None:
    usage = new_usage()
    await ledger.record(usage)
    (row,) = await rows()
    assert {name: getattr(row, name) for name in dataclasses.asdict(usage)} == dataclasses.asdict(
        usage
    )
    assert row.stored_at >= usage.requested_at


async def test_recording_twice_leaves_one_row(ledger: Ledger, new_usage: NewUsage) -> None:
    usage = new_usage()
    await ledger.record(usage)
    await ledger.record(usage)
    await asyncio.gather(ledger.record(usage), ledger.record(usage))
    assert len(await rows()) == 1


@pytest.mark.parametrize("together", [True, False])
async def test_the_same_id_with_other_content_is_a_conflict(
    ledger: Ledger, new_usage: NewUsage, together: bool
) -> None:
    usage = new_usage()
    if not together:
        await ledger.record(usage)
    outcomes = await asyncio.gather(
        *[ledger.record(dataclasses.replace(usage, tokens=tokens)) for tokens in (17, 18)],
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [type(None), UsageConflict]
    assert [row.tokens for row in await rows()] == [17]


async def test_64_at_once_are_64_rows_of_few_commits(ledger: Ledger, new_usage: NewUsage) -> None:
    await ledger.record(new_usage())
    usages = [new_usage(tokens=1 + number) for number in range(64)]
    await asyncio.gather(*[ledger.record(usage) for usage in usages])
    stored = {row.id: row.tokens for row in await rows()}
    assert len(stored) == 65
    assert all(stored[usage.id] == usage.tokens for usage in usages)
    assert len(await run_in_database_thread(transactions)) <= 1 + 3


async def test_more_than_a_sockets_buffer_holds_is_written_whole(
    ledger: Ledger, new_usage: NewUsage
) -> None:
    await ledger.record(new_usage())
    assert ledger._session is not None
    with socket.socket(fileno=os.dup(ledger._session._connection.pgconn.socket)) as duplicate:
        duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    await asyncio.gather(*[ledger.record(new_usage()) for _ in range(200)])
    assert len(await rows()) == 201


def transactions() -> set[int]:
    """Of the rows that there are."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT DISTINCT xmin::text::bigint FROM billing_usageevent")
        return {number for (number,) in cursor.fetchall()}


@pytest.mark.parametrize(
    "wrong", [{"tokens": 0}, {"app_name": "x" * 65}, {"app_name": "\0"}, {"app_name": "\ud800"}]
)
async def test_a_bad_event_fails_alone(
    ledger: Ledger, new_usage: NewUsage, wrong: dict[str, Any]
) -> None:
    good = [new_usage() for _ in range(8)]
    known = new_usage()
    await ledger.record(known)
    events = [*good[:4], new_usage(**wrong), dataclasses.replace(known, tokens=1), *good[4:]]
    outcomes = await asyncio.gather(*map(ledger.record, events), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes[4:6]] == [UsageNotRecorded, UsageConflict]
    assert outcomes[:4] + outcomes[6:] == [None] * 8
    assert {row.id for row in await rows()} == {known.id, *(usage.id for usage in good)}


async def test_a_connection_that_is_killed_while_it_writes_leaves_every_row_once(
    ledger: Ledger, new_usage: NewUsage, operator: psycopg.Connection[Any]
) -> None:
    usages = [new_usage() for _ in range(200)]
    recording = [asyncio.ensure_future(ledger.record(usage)) for usage in usages[:100]]
    await recording[0]
    backend = session_pid(ledger)
    with operator.transaction():
        # A statement waits for the lock, so that it is surely under way when its backend is killed.
        operator.execute("LOCK TABLE billing_usageevent IN EXCLUSIVE MODE")
        recording += [asyncio.ensure_future(ledger.record(usage)) for usage in usages[100:]]
        await asyncio.to_thread(wait_until_blocked, operator, backend)
        operator.execute("SELECT pg_terminate_backend(%s)", (backend,))
    await asyncio.gather(*recording)
    assert session_pid(ledger) != backend
    assert {row.id for row in await rows()} == {usage.id for usage in usages}


def session_pid(ledger: Ledger) -> int:
    assert ledger._session is not None
    return ledger._session._connection.info.backend_pid


def wait_until_blocked(operator: psycopg.Connection[Any], backend: int) -> None:
    while operator.execute("SELECT pg_blocking_pids(%s)", (backend,)).fetchone() == ([],):
        time.sleep(0.01)


async def test_a_database_that_hangs_refuses_in_time_and_writes_nothing_later(
    ledger: Ledger,
    new_usage: NewUsage,
    operator: psycopg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metering, "BEGIN_WITHIN_S", 0.2)
    monkeypatch.setattr(metering, "ANSWER_WITHIN_S", 0.5)
    await ledger.record(new_usage())
    backend = session_pid(ledger)
    started = asyncio.get_running_loop().time()
    with operator.transaction():
        operator.execute("LOCK TABLE billing_usageevent IN EXCLUSIVE MODE")
        outcomes = await asyncio.gather(
            *[ledger.record(new_usage()) for _ in range(5)], return_exceptions=True
        )
        assert [type(outcome) for outcome in outcomes] == [UsageNotRecorded] * 5
        assert asyncio.get_running_loop().time() - started < 3
    # The statement goes on once it has the lock, finds that it is late, and its backend ends.
    is_there = sql.SQL("SELECT count(*) FROM pg_stat_activity WHERE pid = {}").format(backend)
    while operator.execute(is_there).fetchone() != (0,):
        await asyncio.sleep(0.02)
    assert len(await rows()) == 1
    await ledger.record(new_usage())
    assert len(await rows()) == 2


async def test_a_clock_that_was_set_is_read_again(ledger: Ledger, new_usage: NewUsage) -> None:
    await ledger.record(new_usage())
    assert ledger._session is not None
    ledger._session._clock_offset_s -= 3600
    await ledger.record(new_usage())
    assert len(await rows()) == 2


async def test_without_a_database_it_says_so(
    ledger: Ledger, new_usage: NewUsage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connection.settings_dict, "HOST", "/nonexistent")
    with pytest.raises(UsageNotRecorded):
        await ledger.record(new_usage())
    monkeypatch.undo()
    await ledger.record(new_usage())
    assert len(await rows()) == 1


async def test_who_is_cancelled_while_its_row_is_written_comes_too_late(
    ledger: Ledger, new_usage: NewUsage, operator: psycopg.Connection[Any]
) -> None:
    await ledger.record(new_usage())
    with operator.transaction():
        operator.execute("LOCK TABLE billing_usageevent IN EXCLUSIVE MODE")
        recording = asyncio.ensure_future(ledger.record(new_usage()))
        await asyncio.to_thread(wait_until_blocked, operator, session_pid(ledger))
        recording.cancel()
        await asyncio.sleep(0.05)
        assert not recording.done()
    await recording
    assert len(await rows()) == 2


@pytest.mark.parametrize(
    "statement", ["UPDATE billing_usageevent SET tokens = 1", "DELETE FROM billing_usageevent"]
)
async def test_rows_cannot_be_changed_or_deleted(
    ledger: Ledger, new_usage: NewUsage, statement: str
) -> None:
    def change() -> None:
        with (
            pytest.raises(DatabaseError, match="never changed"),
            transaction.atomic(),
            connection.cursor() as cursor,
        ):
            cursor.execute(statement)

    await ledger.record(new_usage())
    await run_in_database_thread(change)
    assert [row.tokens for row in await rows()] == [17]
