"""The ledger's partitions: one for each month (UTC) in which the ids of its rows were drawn.

A row whose month has none lies in billing_usageevent_other. Partitions are made ahead of time, and
dropped, where the settings say so, once every row in them is on a final invoice. Sums stay.
"""

import logging
import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from django.db import IntegrityError, connection, transaction

from billing.periods import Period, month_of

logger = logging.getLogger(__name__)

MONTHS_AHEAD = 3
# Rows drawn in a month's last seconds are stored in the next; later than this, only by an import.
STORED_WITHIN = timedelta(days=1)
# How long a change of partitions may keep those who write waiting; else it is for the next time.
LOCK_TIMEOUT_MS = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class Partition:
    """`name` is its table's."""

    name: str
    month: Period


class PartitionStillNeeded(Exception):
    """Rows of it are not on a final invoice, are not exported yet, or belong to a later day."""


def list_partitions() -> list[Partition]:
    """In the order of their months."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits "
            "WHERE inhparent = 'billing_usageevent'::regclass"
        )
        names = (name for (name,) in cursor.fetchall())
        found = (re.fullmatch(r"billing_usageevent_(\d{4})_(\d\d)", name) for name in names)
    partitions = [
        Partition(
            name=match[0], month=month_of(datetime(int(match[1]), int(match[2]), 1, tzinfo=UTC))
        )
        for match in found
        if match
    ]
    return sorted(partitions, key=lambda partition: partition.month.start_at)


def make_partitions(now: datetime) -> list[str]:
    """Those of this month and MONTHS_AHEAD more that are missing; returns their names.

    A month whose rows lie in billing_usageevent_other already gets none; they are as good there.
    Raises OperationalError where the ledger is too busy.
    """
    months = [month_of(now)]
    for _ in range(MONTHS_AHEAD):
        months.append(month_of(months[-1].end_at))
    return _make({month.start_at.date() for month in months})


def make_partitions_of(ids: Iterable[uuid.UUID]) -> list[str]:
    """Those of past months in which uuid7s were drawn; raises as `make_partitions`."""
    now_ms = datetime.now(UTC).timestamp() * 1000
    drawn_ms = {id_.int >> 80 for id_ in ids if id_.version == 7}
    days = {datetime.fromtimestamp(ms / 1000, UTC).date() for ms in drawn_ms if ms <= now_ms}
    return _make({day.replace(day=1) for day in days})


def drop_partitions(now: datetime, retention_months: int) -> tuple[list[str], list[str]]:
    """Drop what is older than so many whole months; 0 keeps everything.

    Returns the names of what was dropped, and why each of the others that are due was not.
    """
    if not retention_months:
        return [], []
    kept = month_of(now)
    for _ in range(retention_months):
        kept = kept.previous
    dropped, refused = [], []
    for partition in list_partitions():
        if partition.month.start_at >= kept.start_at:
            break
        try:
            drop_partition(partition)
        except PartitionStillNeeded as error:
            refused.append(f"{partition.name}: {error}")
        else:
            dropped.append(partition.name)
    return dropped, refused


def drop_partition(partition: Partition) -> None:
    """Raises PartitionStillNeeded, and OperationalError where the ledger is too busy."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
        table = connection.ops.quote_name(partition.name)
        cursor.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        for reason, condition in _NEEDED.items():
            cursor.execute(
                f"SELECT count(*) FROM {table} AS event WHERE {condition}",  # noqa: S608 - ours
                {"until": partition.month.end_at + STORED_WITHIN},
            )
            if count := cursor.fetchone()[0]:
                raise PartitionStillNeeded(f"{count} rows {reason}")
        cursor.execute(f"ALTER TABLE billing_usageevent DETACH PARTITION {table}")
        cursor.execute(f"DROP TABLE {table}")


def first_whole_day() -> date | None:
    """The first day of which no row can have been dropped; None where none ever was.

    Where sums begin before the first partition, rows of its first day may be gone too.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT min(start_at) FROM billing_usagesum WHERE granularity = 'day'")
        (first_sum,) = cursor.fetchone()
    partitions = list_partitions()
    if first_sum is None or not partitions:
        return None
    first = partitions[0].month.start_at
    return (first + STORED_WITHIN).date() if first_sum < first else None


_NEEDED = {
    "are not on a final invoice": """NOT EXISTS (
        SELECT FROM billing_invoice AS invoice
        WHERE invoice.customer_id = event.customer_id AND invoice.state = 'final'
            AND event.stored_at >= invoice.period_start AND event.stored_at < invoice.period_end
    )""",
    "are not exported yet": """EXISTS (
        SELECT FROM billing_outboxentry AS entry
        WHERE entry.event_id = event.id AND entry.next_attempt_at IS NOT NULL
    )""",
    "were stored in a later month": "stored_at >= %(until)s",
}


def _make(days: Iterable[date]) -> list[str]:
    """The partitions of months, given by their first days, that are missing."""
    there = {partition.month.start_at.date() for partition in list_partitions()}
    made = []
    for day in sorted(set(days) - there):
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
                cursor.execute("SELECT billing_make_usage_partition(%s)", [day])
                made.append(cursor.fetchone()[0])
        except IntegrityError:
            logger.warning("%s gets no partition: it has rows in billing_usageevent_other", day)
    return made
