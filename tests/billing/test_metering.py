"""Metering: one row an answered request, never changed, whatever happens to the database."""

import asyncio
import dataclasses
import os
import socket
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection
from psycopg import sql
from uuid_utils.compat import uuid7

from billing import metering
from billing.metering import Ledger, UsageConflict, UsageNotRecorded, _Session
from billing.models import OutboxEntry, UsageEvent, UsageSum
from billing.sums import verify_sums
from inference.database import run_in_database_thread
from tests.billing.conftest import NewUsage
from tests.billing.ledger_writers import start_writer

pytestmark = pytest.mark.django_db(transaction=True)


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
        *[ledger.record(dataclasses.replace(usage, text_tokens=tokens)) for tokens in (17, 18)],
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [type(None), UsageConflict]
    assert [row.tokens for row in await rows()] == [17]


async def test_64_at_once_are_64_rows_of_few_commits(ledger: Ledger, new_usage: NewUsage) -> None:
    await ledger.record(new_usage())
    usages = [new_usage(text_tokens=1 + number) for number in range(64)]
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
    "wrong",
    [{"text_tokens": 0}, {"app_name": "x" * 65}, {"app_name": "\0"}, {"app_name": "\ud800"}],
)
async def test_a_bad_event_fails_alone(
    ledger: Ledger, new_usage: NewUsage, wrong: dict[str, Any]
) -> None:
    good = [new_usage() for _ in range(8)]
    known = new_usage()
    await ledger.record(known)
    events = [*good[:4], new_usage(**wrong), dataclasses.replace(known, text_tokens=1), *good[4:]]
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


# PostgreSQL gives a statement up itself, at the moment when it is cut off, or not at all.
@pytest.mark.parametrize("statement_timeout_s", [0.3, 0.5, 60.0])
async def test_a_database_that_hangs_refuses_in_time_and_writes_nothing_later(
    ledger: Ledger,
    new_usage: NewUsage,
    operator: psycopg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
    statement_timeout_s: float,
) -> None:
    monkeypatch.setattr(metering, "BEGIN_WITHIN_S", 0.2)
    monkeypatch.setattr(metering, "STATEMENT_TIMEOUT_S", statement_timeout_s)
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
    # A statement that goes on once it has the lock finds that it is late.
    is_busy = sql.SQL(
        "SELECT count(*) FROM pg_stat_activity WHERE pid = {} AND state = 'active'"
    ).format(backend)
    while operator.execute(is_busy).fetchone() != (0,):
        await asyncio.sleep(0.02)
    assert len(await rows()) == 1
    await ledger.record(new_usage())
    assert len(await rows()) == 2


async def test_a_statement_that_waits_too_long_for_a_sum_writes_nothing(
    ledger: Ledger,
    new_usage: NewUsage,
    operator: psycopg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(metering, "STATEMENT_TIMEOUT_S", 0.3)
    usage = new_usage()
    await ledger.record(usage)
    with operator.transaction():
        operator.execute("SELECT FROM billing_usagesum FOR UPDATE")
        with pytest.raises(UsageNotRecorded):
            await ledger.record(dataclasses.replace(usage, id=uuid7()))
    await asyncio.sleep(0.1)
    assert len(await rows()) == 1
    assert "possibly stored" not in caplog.text


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
        for _ in range(2):  # its client hung up, and then the process is stopped
            recording.cancel()
            await asyncio.sleep(0.05)
            assert not recording.done()
    await recording
    assert len(await rows()) == 2


async def test_a_row_comes_with_its_sums_and_outbox_entries(new_usage: NewUsage) -> None:
    ledger = Ledger(["openmeter", "stripe"])
    usage = new_usage()
    await ledger.record(usage)
    await asyncio.gather(
        *(ledger.record(dataclasses.replace(usage, id=uuid7())) for _ in range(9)),
        ledger.record(usage),
    )
    await ledger.close()
    await run_in_database_thread(is_written, 10, 2)


def is_written(events: int, destinations: int = 0) -> None:
    """So many events of 2 inputs and 17 tokens each, once everywhere."""
    assert UsageEvent.objects.count() == events
    amounts = set(UsageSum.objects.values_list("requests", "inputs", "text_tokens"))
    assert amounts == ({(events, 2 * events, 17 * events)} if events else set())
    assert OutboxEntry.objects.count() == events * destinations
    today = datetime.now(UTC).date()
    assert verify_sums(today - timedelta(days=1), today) == []


async def test_all_rows_of_a_statement_are_stored_at_one_time(
    ledger: Ledger, new_usage: NewUsage
) -> None:
    await ledger.record(new_usage())
    recording = [ledger.record(new_usage()) for _ in range(9)]
    await asyncio.gather(*recording)
    assert len({row.stored_at for row in (await rows())[1:]}) <= 2


async def test_an_insert_that_fails_claims_nothing(
    new_usage: NewUsage, operator: psycopg.Connection[Any]
) -> None:
    """The row is inserted, its sum is refused: neither is left, and the retry is not a lie."""
    ledger, usage = Ledger(["stripe"]), new_usage()
    operator.execute("ALTER TABLE billing_usagesum ADD CONSTRAINT full_up CHECK (false) NOT VALID")
    with pytest.raises(UsageNotRecorded):
        await ledger.record(usage)
    await run_in_database_thread(is_written, 0)
    operator.execute("ALTER TABLE billing_usagesum DROP CONSTRAINT full_up")
    await ledger.record(usage)
    await ledger.record(usage)
    await ledger.close()
    await run_in_database_thread(is_written, 1, 1)


async def test_an_acknowledgement_that_is_lost_after_the_commit_counts_nothing_twice(
    new_usage: NewUsage, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute, lost = _Session._execute, 0

    async def lose_once(session: _Session, parameters: Sequence[bytes]) -> Any:
        nonlocal lost
        result = await execute(session, parameters)
        lost += 1
        if lost == 1:
            raise psycopg.OperationalError("the connection is lost")
        return result

    monkeypatch.setattr(_Session, "_execute", lose_once)
    usages = [new_usage()]
    usages += [dataclasses.replace(usages[0], id=uuid7()) for _ in range(4)]
    ledger = Ledger(["stripe"])
    await asyncio.gather(*map(ledger.record, usages))
    assert lost >= 2
    await ledger.close()
    await run_in_database_thread(is_written, 5, 1)


async def test_a_writer_killed_between_commit_and_answer_is_replayed_without_a_trace(
    new_usage: NewUsage, operator: psycopg.Connection[Any]
) -> None:
    template = new_usage()
    ids = [uuid7() for _ in range(50)]
    writer = start_writer(template, [ids])
    while operator.execute("SELECT count(*) FROM billing_usageevent").fetchone() == (0,):
        await asyncio.sleep(0.001)
    writer.kill()
    writer.wait()
    ledger = Ledger()
    for id_ in ids:
        await ledger.record(dataclasses.replace(template, id=id_))
    await ledger.close()
    await run_in_database_thread(is_written, 50)


@pytest.mark.parametrize("table", ["billing_usageevent", "the partition"])
@pytest.mark.parametrize(
    "change",
    [
        "UPDATE {} SET text_tokens = 1",
        "UPDATE {} SET id = gen_random_uuid()",
        "DELETE FROM {}",
        "TRUNCATE {}",
        "MERGE INTO {} AS event USING (SELECT 1) AS one ON true WHEN MATCHED THEN DELETE",
        "INSERT INTO {0} SELECT * FROM {0} ON CONFLICT (id) DO UPDATE SET text_tokens = 1",
    ],
)
async def test_rows_cannot_be_changed_or_deleted(
    ledger: Ledger,
    new_usage: NewUsage,
    operator: psycopg.Connection[Any],
    table: str,
    change: str,
) -> None:
    await ledger.record(new_usage())
    (partition,) = operator.execute(
        "SELECT tableoid::regclass::text FROM billing_usageevent"
    ).fetchone() or ("",)
    assert partition == f"billing_usageevent_{datetime.now(UTC):%Y_%m}"
    name = partition if table == "the partition" else table
    with pytest.raises(psycopg.Error, match="only ever added to") as refused:
        operator.execute(sql.SQL(change).format(sql.Identifier(name)))
    assert refused.value.sqlstate == "23001"
    assert [row.text_tokens for row in await rows()] == [17]
