"""Who writes the ledger that bench/ledger.py measures; Django is set up before this is imported."""

import asyncio
import os
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import msgspec
import psutil  # type: ignore[import-untyped]  # publishes no type information
from django.core.management import call_command
from django.db import connection
from uuid_utils.compat import uuid7

from bench.ledger import BULK_CONNECTIONS, POSTGRES_PID, Ledgered, Recorded
from billing.bulk import record_many
from billing.metering import Ledger, Usage

ATTACHMENTS = 50
DESTINATIONS = ("stripe",)


def main() -> None:
    call_command("migrate", verbosity=0)
    events, rounds, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    ledgered = Ledgered(
        bulk_events=events,
        bulk_events_per_s=[_record_in_bulk(events) for _ in range(rounds)],
        recorded=[asyncio.run(_record_singly(connections, seconds)) for connections in (1, 16, 64)],
    )
    print(msgspec.json.encode(ledgered).decode())


def _record_in_bulk(count: int) -> float:
    """Events a second, on BULK_CONNECTIONS at once."""
    with ThreadPoolExecutor(BULK_CONNECTIONS) as threads:
        parts = []
        for _ in range(BULK_CONNECTIONS):
            new_usage = _usages()
            parts.append([new_usage() for _ in range(count // BULK_CONNECTIONS)])
        started_at = time.perf_counter()
        inserted = sum(threads.map(_record_many, parts))
        seconds = time.perf_counter() - started_at
    if inserted != count:
        raise ValueError(f"{inserted} of {count} events were inserted")
    return count / seconds


def _record_many(usages: Sequence[Usage]) -> int:
    try:
        return record_many(usages, destinations=DESTINATIONS)
    finally:
        connection.close()


async def _record_singly(at_once: int, seconds: float) -> Recorded:
    ledger = Ledger(DESTINATIONS)
    await ledger.record(_usages()())
    commits = await asyncio.to_thread(_count_commits)
    cpu_s, started_at = _cpu_s(), time.perf_counter()
    made = await asyncio.gather(
        *(_record_until(ledger.record, started_at + seconds) for _ in range(at_once))
    )
    took_s = time.perf_counter() - started_at
    web_s, postgres_s = (after - before for before, after in zip(cpu_s, _cpu_s(), strict=True))
    commits = await asyncio.to_thread(_count_commits) - commits
    await ledger.close()
    return Recorded(
        at_once=at_once,
        events_per_s=sum(made) / took_s,
        web_cpu_ms=web_s * 1000 / sum(made),
        postgres_cpu_ms=postgres_s * 1000 / sum(made),
        events_per_commit=sum(made) / commits,
    )


async def _record_until(record: Callable[..., Awaitable[None]], until: float) -> int:
    new_usage, count = _usages(), 0
    while time.perf_counter() < until:
        await record(new_usage())
        count += 1
    return count


def _count_commits() -> int:
    """Of which the ledger's rows are."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(DISTINCT xmin::text) FROM billing_usageevent")
        (count,) = cursor.fetchone()
    connection.close()
    return int(count)


def _cpu_s() -> tuple[float, float]:
    """Processor seconds of this process and of PostgreSQL."""
    postgres = psutil.Process(int(os.environ[POSTGRES_PID]))
    times = [process.cpu_times() for process in (postgres, *postgres.children())]
    return time.process_time(), sum(each.user + each.system for each in times)


def _usages() -> Callable[[], Usage]:
    ids = [uuid.uuid4() for _ in range(ATTACHMENTS)]
    customer_id, credential_id = uuid.uuid4(), uuid.uuid4()
    made = 0

    def new_usage() -> Usage:
        nonlocal made
        made += 1
        return Usage(
            id=uuid7(),
            customer_id=customer_id,
            resource_id=ids[made % ATTACHMENTS],
            attachment_id=ids[made % ATTACHMENTS],
            credential_id=credential_id,
            attachment_name="EMBEDDING",
            app_name="shop",
            plan_name="heroku-inference:standard",
            price_id=1,
            model_id="all-minilm-l6-v2",
            inputs=1,
            text_tokens=made,
            cost_picounits=made * 100_000,
            requested_at=datetime.now(UTC),
        )

    return new_usage
