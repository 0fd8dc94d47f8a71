"""Metering: every answered request becomes one row of the ledger before its answer leaves.

Events that wait at the same moment are written by one statement and one commit; it also adds what
it really inserted to the sums of the hour and the day, and to the outbox of each destination. A row
is durable when `record` returns, and only then does the answer leave.

A database that hangs must neither hold a request for ever nor make the ledger disagree with what
was answered. A statement that PostgreSQL has not begun BEGIN_WITHIN_S after it was sent therefore
writes nothing, by PostgreSQL's own clock, even if it gets to it much later; one that takes
STATEMENT_TIMEOUT_S there, or has not been answered after ANSWER_WITHIN_S, is given up, and its
requests are refused. A row without its answer is left possible only where the commit itself takes
so long, or its end is not heard of; which events these may be is logged as an error.
"""

import asyncio
import logging
import os
import socket
import time
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Self

import msgspec
import psycopg
from django.db import connection as django_connection
from psycopg.errors import QueryCanceled, error_from_result
from psycopg.pq import ExecStatus, Format
from psycopg.pq.abc import PGresult
from psycopg.rows import class_row

from billing.coalescing import Coalescer
from billing.counters import RECORDING_SECONDS

logger = logging.getLogger(__name__)

STATEMENT_MAX_EVENTS = 64
CONNECT_TIMEOUT_S = 3
BEGIN_WITHIN_S = 1.0
STATEMENT_TIMEOUT_S = 3.0
ANSWER_WITHIN_S = 4.0
TRY_AGAIN_EVERY_S = 0.1


class UsageConflict(Exception):
    """The ledger has a row under this id that says something else."""


class UsageNotRecorded(Exception):
    """The database cannot be reached, hangs, or refuses the event."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """What one answered request used. `id` is a uuid7 drawn before execution, and the request's.

    `cost_picounits` is tokens × micro-units per million tokens, an exact integer. A correction has
    another outcome, names the event that it `corrects` and why, and its amounts are differences.
    """

    id: uuid.UUID
    customer_id: uuid.UUID
    resource_id: uuid.UUID
    attachment_id: uuid.UUID
    credential_id: uuid.UUID
    attachment_name: str
    app_name: str
    plan_name: str
    price_id: int
    model_id: str
    inputs: int
    text_tokens: int
    image_tokens: int = 0
    cost_picounits: int
    outcome: str = "answered"
    corrects: uuid.UUID | None = None
    reason: str = ""
    requested_at: datetime

    @property
    def tokens(self) -> int:
        return self.text_tokens + self.image_tokens


class Ledger:
    """Writes usage events on a connection of its own; one per process, on its event loop.

    Each event is also put into the outbox, once for each of `destinations`.
    """

    def __init__(self, destinations: Sequence[str] = ()) -> None:
        self._destinations = destinations
        self._events = Coalescer(
            self._record_together,
            max_items=STATEMENT_MAX_EVENTS,
            max_wait_s=ANSWER_WITHIN_S,
            refusal=lambda: UsageNotRecorded("the database does not answer"),
        )
        self._session: _Session | None = None

    async def record(self, usage: Usage) -> None:
        """Insert the usage event; durable when this returns. Recording it again changes nothing.

        A caller that is cancelled meanwhile comes too late: the event is recorded, and this returns
        or raises when it is known to be. Raises UsageConflict, UsageNotRecorded.
        """
        started = time.perf_counter()
        recorded = self._events.submit(usage)
        while not recorded.done():
            with suppress(asyncio.CancelledError):  # however often
                await asyncio.wait([recorded])
        recorded.result()
        RECORDING_SECONDS.observe(time.perf_counter() - started)

    async def close(self) -> None:
        """Disconnect, once what waits is written. A later event would connect again."""
        await self._events.drain()
        if self._session is not None:
            await self._session.close()

    async def _record_together(self, usages: Sequence[Usage]) -> list[Exception | None]:
        """One outcome an event; what is wrong with one of them does not touch the others."""
        first: dict[uuid.UUID, Usage] = {}
        for usage in usages:
            first.setdefault(usage.id, usage)
        try:
            stored = await self._store(first)
        except _LOST as error:
            raise UsageNotRecorded("the database does not answer") from error
        except (psycopg.Error, ValueError) as error:
            if len(usages) == 1:
                raise UsageNotRecorded("the database refuses the event") from error
            logger.warning("%d usage events failed (%s); trying each alone", len(usages), error)
            return [await self._record_alone(usage) for usage in usages]
        return [_find_conflict(usage, stored[usage.id]) for usage in usages]

    async def _record_alone(self, usage: Usage) -> Exception | None:
        try:
            return (await self._record_together([usage]))[0]
        except UsageNotRecorded as error:
            return error

    async def _store(self, usages: Mapping[uuid.UUID, Usage]) -> dict[uuid.UUID, Usage]:
        """Store, and again if the connection was lost or the statement late: the ids make that
        safe."""
        try:
            return await (await self._connected()).store(usages)
        except _LOST as error:
            logger.warning("lost the database while metering (%s); trying again", error)
            return await self._store_again(usages)

    async def _store_again(self, usages: Mapping[uuid.UUID, Usage]) -> dict[uuid.UUID, Usage]:
        """For as long as an answer may take: a first statement may have reached its end unheard,
        and a PostgreSQL that has crashed is often back in a second."""
        give_up_at = time.monotonic() + ANSWER_WITHIN_S
        while True:
            try:
                return await (await self._connected()).store(usages)
            except (UsageNotRecorded, *_LOST):
                if time.monotonic() > give_up_at:
                    _log_unknown(usages)
                    raise
            await asyncio.sleep(TRY_AGAIN_EVERY_S)

    async def _connected(self) -> "_Session":
        if self._session is None or self._session.is_closed:
            self._session = await _Session.open(self._destinations)
        return self._session


def _find_conflict(usage: Usage, stored: Usage) -> UsageConflict | None:
    if usage == stored:
        return None
    return UsageConflict(f"usage event {usage.id} exists with other content")


def _log_unknown(ids: Collection[uuid.UUID]) -> None:
    if ids:
        listed = ", ".join(map(str, ids))
        logger.error("refused, but possibly stored, are the usage events %s", listed)


_LOST = (psycopg.OperationalError, psycopg.InterfaceError)
COLUMNS = ", ".join(field.name for field in fields(Usage))
EVENT_KEY = """customer_id, resource_id, attachment_id, credential_id, price_id, model_id, app_name,
    attachment_name, plan_name"""
SUM_KEY = f"{EVENT_KEY}, granularity, start_at"
AMOUNTS = ("requests", "inputs", "text_tokens", "image_tokens", "cost_picounits")
TOTALS = "count(*) FILTER (WHERE outcome = 'answered') AS requests, " + ", ".join(
    f"sum({amount})::bigint AS {amount}" for amount in AMOUNTS[1:]
)
ADD = ", ".join(f"{amount} = billing_usagesum.{amount} + excluded.{amount}" for amount in AMOUNTS)
SPANS = """LATERAL (
    VALUES ('hour', date_trunc('hour', stored_at, 'UTC')),
        ('day', date_trunc('day', stored_at, 'UTC'))
) AS span (granularity, start_at)"""


def inserting(events: str, stored_at: str, destinations: str) -> str:
    """The statement that inserts `events`, rows of COLUMNS, unless their ids are there already.

    What it inserts, and nothing else, it adds to the sums and the outbox. All writers take locks in
    one order: ids, then sums by their keys. Returns the ids that it inserted.
    """
    return f"""
        WITH clock AS MATERIALIZED (SELECT {stored_at} AS stored_at),
        inserted AS (
            INSERT INTO billing_usageevent ({COLUMNS}, stored_at)
            SELECT {COLUMNS}, clock.stored_at FROM ({events}) AS event CROSS JOIN clock
            WHERE clock.stored_at IS NOT NULL
            ORDER BY id
            ON CONFLICT (id) DO NOTHING
            RETURNING *
        ),
        summed AS (
            INSERT INTO billing_usagesum ({SUM_KEY}, {", ".join(AMOUNTS)})
            SELECT {SUM_KEY}, {", ".join(AMOUNTS)}
            FROM (
                SELECT {EVENT_KEY}, stored_at, {TOTALS}
                FROM inserted GROUP BY {EVENT_KEY}, stored_at
            ) AS total, {SPANS}
            ORDER BY {SUM_KEY}
            ON CONFLICT ({SUM_KEY}) DO UPDATE SET {ADD}
        ),
        queued AS (
            INSERT INTO billing_outboxentry
                (destination, event_id, created_at, attempts, next_attempt_at, last_error)
            SELECT destination, id, stored_at, 0, stored_at, ''
            FROM inserted, unnest({destinations}) AS destination
        )
        SELECT id FROM inserted
    """  # noqa: S608 - the parts are this package's


# No clock, no rows: a statement that begins too late inserts nothing.
_INSERT = inserting(
    events=f"SELECT {COLUMNS} FROM json_populate_recordset(NULL::billing_usageevent, $1)",  # noqa: S608
    stored_at="(SELECT at FROM clock_timestamp() AS at WHERE at < to_timestamp($2))",
    destinations="$3",
)
_STATEMENT = b"insert_usage_events"
_PREPARE = f"PREPARE {_STATEMENT.decode()} (json, float8, text[]) AS {_INSERT}"
FIND = f"SELECT {COLUMNS} FROM billing_usageevent WHERE id = ANY(%s)"  # noqa: S608 - as above
_CLOCK = "SELECT extract(epoch FROM clock_timestamp())::float8"


class _TooLate(psycopg.OperationalError):
    """PostgreSQL began the statement too late, or its clock was set since we connected."""


class _Session:
    """A connection, each statement a transaction, and how PostgreSQL's clock differs from ours.

    What is run for every answer is sent by libpq's own functions: a cursor around it takes twice
    the processor time, and a third of a millisecond more until the answer.
    """

    def __init__(
        self, connection: psycopg.AsyncConnection[Any], destinations: Sequence[str]
    ) -> None:
        self._connection = connection
        self._destinations = f"{{{','.join(destinations)}}}".encode()
        self._clock_offset_s = 0.0
        self._is_cut = False
        self._answered: asyncio.Future[PGresult] | None = None

    @classmethod
    async def open(cls, destinations: Sequence[str]) -> Self:
        """Connect as Django does. Raises UsageNotRecorded."""
        parameters = django_connection.get_connection_params()
        for django_only in ("cursor_factory", "context"):
            del parameters[django_only]
        parameters["connect_timeout"] = CONNECT_TIMEOUT_S
        try:
            connection = await psycopg.AsyncConnection.connect(**parameters, autocommit=True)
            session = cls(connection, destinations)
            await session._prepare()
        except _LOST as error:
            raise UsageNotRecorded("the database cannot be reached") from error
        return session

    @property
    def is_closed(self) -> bool:
        return self._connection.closed

    async def close(self) -> None:
        await self._connection.close()

    async def store(self, usages: Mapping[uuid.UUID, Usage]) -> dict[uuid.UUID, Usage]:
        """Insert the events whose ids are new; returns what is stored under each of the ids."""
        begin_before = time.monotonic() + self._clock_offset_s + BEGIN_WITHIN_S
        events = msgspec.json.encode(list(usages.values()))
        with self._given_up_in_time(usages):
            try:
                result = await self._execute([events, b"%.6f" % begin_before, self._destinations])
            except QueryCanceled as error:  # it had its time, and wrote nothing
                raise UsageNotRecorded("the database takes too long") from error
            inserted = (uuid.UUID(bytes=result.get_value(row, 0)) for row in range(result.ntuples))
            stored = {id_: usages[id_] for id_ in inserted}
            if len(stored) < len(usages):
                stored |= await self._find(usages.keys() - stored.keys())
        if len(stored) < len(usages):
            await self.close()
            raise _TooLate("a statement began too late")
        return stored

    async def _prepare(self) -> None:
        """Prepare the statement, and read PostgreSQL's clock."""
        timeout = f"SET statement_timeout = {int(STATEMENT_TIMEOUT_S * 1000)}"
        try:
            with self._given_up_in_time():
                await self._connection.execute(timeout)
                await self._connection.execute(_PREPARE)
                asked = time.monotonic()
                cursor = await self._connection.execute(_CLOCK)
                ((clock_s,),) = await cursor.fetchall()
        except psycopg.Error:
            await self.close()
            raise
        self._clock_offset_s = clock_s - (asked + time.monotonic()) / 2

    async def _execute(self, parameters: Sequence[bytes]) -> PGresult:
        """Run the prepared statement. Raises the psycopg.Error that PostgreSQL answers with."""
        server, loop = self._connection.pgconn, asyncio.get_running_loop()
        answered: asyncio.Future[PGresult] = loop.create_future()
        self._answered = answered
        results: list[PGresult] = []
        # libpq closes the socket, and forgets its number, at the moment it finds the connection
        # lost. The loop must forget it then too, and once: the next connection may get the number.
        watched = {server.socket}

        def stop_watching() -> None:
            while watched:
                number = watched.pop()
                loop.remove_reader(number)
                loop.remove_writer(number)

        def proceed() -> None:
            """Whenever the socket can be read, or be written while not all is sent."""
            try:
                if not server.flush():
                    loop.remove_writer(server.socket)
                server.consume_input()
                while not (answered.done() or server.is_busy()):
                    if (result := server.get_result()) is None:
                        answered.set_result(results[0])
                    else:
                        results.append(result)
            except psycopg.Error as error:
                stop_watching()
                if not answered.done():
                    answered.set_exception(error)

        server.send_query_prepared(_STATEMENT, parameters, result_format=Format.BINARY)
        if server.flush():
            loop.add_writer(server.socket, proceed)
        loop.add_reader(server.socket, proceed)
        try:
            result = await answered
        finally:
            stop_watching()
        if result.status != ExecStatus.TUPLES_OK:
            raise error_from_result(result)
        return result

    async def _find(self, ids: Collection[uuid.UUID]) -> dict[uuid.UUID, Usage]:
        cursor = self._connection.cursor(row_factory=class_row(Usage))
        await cursor.execute(FIND, (list(ids),))
        return {usage.id: usage for usage in await cursor.fetchall()}

    @contextmanager
    def _given_up_in_time(self, usages: Collection[uuid.UUID] = ()) -> Iterator[None]:
        """Cut the connection when the block takes ANSWER_WITHIN_S: nobody writes on it then.
        Raises UsageNotRecorded in that case."""
        timer = asyncio.get_running_loop().call_later(ANSWER_WITHIN_S, self._cut)
        try:
            yield
        except _LOST as error:
            if not self._is_cut:
                raise
            _log_unknown(usages)
            raise UsageNotRecorded("the database hangs") from error
        finally:
            timer.cancel()
            if self._is_cut:  # else an answer that came at that moment would hide it
                self._connection.pgconn.finish()

    def _cut(self) -> None:
        """End the connection below psycopg, which would otherwise wait for PostgreSQL to agree."""
        self._is_cut = True
        with (
            suppress(psycopg.OperationalError),  # libpq has closed it already
            socket.socket(fileno=os.dup(self._connection.pgconn.socket)) as duplicate,
        ):
            duplicate.shutdown(socket.SHUT_RDWR)
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(psycopg.OperationalError("no answer in time"))
