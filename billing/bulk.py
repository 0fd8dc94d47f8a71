"""Usage events in bulk: past usage that is brought in, or what was kept elsewhere meanwhile."""

import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from itertools import islice

import msgspec
from django.db import connection, transaction

from billing.credits import lock_customer
from billing.metering import COLUMNS, FIND, Usage, UsageConflict, inserting
from billing.models import Invoice
from billing.partitions import make_partitions_of

STATEMENT_MAX_EVENTS = 5_000

_INSERT = inserting(
    events=f"SELECT {COLUMNS} FROM json_populate_recordset(NULL::billing_usageevent, %s)",  # noqa: S608
    stored_at="coalesce(%s, clock_timestamp())",
    destinations="%s::text[]",
)
_NAMES = [field.name for field in fields(Usage)]


class AlreadyInvoiced(Exception):
    """A final invoice has the month in which the usage would be stored; it never changes."""


def record_many(
    usages: Iterable[Usage], *, stored_at: datetime | None = None, destinations: Sequence[str] = ()
) -> int:
    """Insert the events whose ids are new, with their sums and the outbox; returns how many.

    Each STATEMENT_MAX_EVENTS of them are one transaction: what is cut off is repeated as a whole,
    which changes nothing twice. `stored_at`, PostgreSQL's clock by default, decides the billing
    period; it is given for usage of the past only.

    Raises UsageConflict, once all others are recorded, where an id has other content already, and
    AlreadyInvoiced or DatabaseError where an event is refused, and with it its transaction.
    """
    inserted, conflicts = 0, list[uuid.UUID]()
    for chunk in _chunks(usages):
        given: dict[uuid.UUID, Usage] = {}
        conflicts += [usage.id for usage in chunk if given.setdefault(usage.id, usage) != usage]
        if stored_at is not None:
            make_partitions_of(given)
        new = _insert(given, stored_at, destinations)
        inserted += len(new)
        conflicts += _find_conflicts({id_: given[id_] for id_ in given.keys() - new})
    if conflicts:
        listed = ", ".join(map(str, conflicts))
        raise UsageConflict(f"the usage events {listed} exist with other content")
    return inserted


def _chunks(usages: Iterable[Usage]) -> Iterator[list[Usage]]:
    iterator = iter(usages)
    while chunk := list(islice(iterator, STATEMENT_MAX_EVENTS)):
        yield chunk


def _insert(
    given: Mapping[uuid.UUID, Usage], stored_at: datetime | None, destinations: Sequence[str]
) -> set[uuid.UUID]:
    """The ids that were new."""
    events = msgspec.json.encode(list(given.values())).decode()
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_INSERT, [stored_at, events, list(destinations)])
        new = {id_ for (id_,) in cursor.fetchall()}
        if stored_at is not None:
            _check_not_invoiced({given[id_].customer_id for id_ in new}, stored_at)
        return new


def _check_not_invoiced(customer_ids: Collection[uuid.UUID], stored_at: datetime) -> None:
    """Nor will they be, until the transaction ends. Raises AlreadyInvoiced."""
    for customer_id in sorted(customer_ids):
        lock_customer(customer_id)
    invoice = Invoice.objects.filter(
        state=Invoice.State.FINAL,
        customer_id__in=customer_ids,
        period_start__lte=stored_at,
        period_end__gt=stored_at,
    ).first()
    if invoice is not None:
        raise AlreadyInvoiced(
            f"{stored_at:%Y-%m} of customer {invoice.customer_id} is on invoice {invoice.number}"
        )


def _find_conflicts(given: Mapping[uuid.UUID, Usage]) -> list[uuid.UUID]:
    if not given:
        return []
    with connection.cursor() as cursor:
        cursor.execute(FIND, [list(given)])
        stored = (Usage(**dict(zip(_NAMES, row, strict=True))) for row in cursor.fetchall())
        return [usage.id for usage in stored if usage != given[usage.id]]
