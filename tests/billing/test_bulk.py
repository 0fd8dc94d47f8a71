"""Bulk: past usage becomes rows, sums and outbox, each once, in the partition of its month."""

import dataclasses
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import DatabaseError, connection

from billing.bulk import STATEMENT_MAX_EVENTS, AlreadyInvoiced, record_many
from billing.metering import Usage, UsageConflict
from billing.models import Customer, Invoice, OutboxEntry, UsageEvent, UsageSum
from billing.periods import month_of
from billing.sums import verify_sums
from tests.billing.conftest import NewUsage

pytestmark = pytest.mark.django_db


def uuid7_at(at: datetime) -> UUID:
    """One drawn in that millisecond."""
    milliseconds = round(at.timestamp() * 1000)
    return UUID(int=milliseconds << 80 | 7 << 76 | 2 << 62 | secrets.randbits(62))


def of_one_attachment(new_usage: NewUsage, count: int) -> list[Usage]:
    first = new_usage()
    return [first, *(dataclasses.replace(first, id=new_usage().id) for _ in range(count - 1))]


def test_events_become_rows_sums_and_outbox_entries(new_usage: NewUsage) -> None:
    usages = of_one_attachment(new_usage, 5)
    assert record_many(usages, destinations=["openmeter", "stripe"]) == 5
    assert set(UsageEvent.objects.values_list("id", flat=True)) == {usage.id for usage in usages}
    amounts = UsageSum.objects.values_list("granularity", "requests", "inputs", "text_tokens")
    assert sorted(amounts) == [("day", 5, 10, 85), ("hour", 5, 10, 85)]
    entries = OutboxEntry.objects.values_list("destination", "event_id")
    assert set(entries) == {
        (destination, usage.id) for destination in ("openmeter", "stripe") for usage in usages
    }


def test_what_is_there_already_is_added_to_nothing(new_usage: NewUsage) -> None:
    usages = of_one_attachment(new_usage, 5)
    assert record_many(usages[:3], destinations=["stripe"]) == 3
    assert record_many([*usages, *usages], destinations=["stripe"]) == 2
    assert UsageEvent.objects.count() == OutboxEntry.objects.count() == 5
    assert set(UsageSum.objects.values_list("requests", flat=True)) == {5}


def test_more_than_a_statement_takes_is_recorded(new_usage: NewUsage) -> None:
    usages = of_one_attachment(new_usage, STATEMENT_MAX_EVENTS + 1)
    assert record_many(iter(usages)) == len(usages)
    assert UsageEvent.objects.count() == len(usages)


def test_a_conflict_is_reported_once_the_others_are_recorded(new_usage: NewUsage) -> None:
    known, twice, *others = (new_usage() for _ in range(4))
    record_many([known])
    changed = [dataclasses.replace(usage, text_tokens=18) for usage in (known, twice)]
    with pytest.raises(UsageConflict) as conflict:
        record_many([changed[0], twice, changed[1], *others])
    assert str(known.id) in str(conflict.value)
    assert str(twice.id) in str(conflict.value)
    stored = UsageEvent.objects.values_list("id", "text_tokens")
    assert set(stored) == {(usage.id, 17) for usage in (known, twice, *others)}


@pytest.mark.parametrize(
    "wrong",
    [
        {"text_tokens": 0},
        {"inputs": 0},
        {"cost_picounits": -1},
        {"outcome": "correction"},
        {"outcome": "forgiven"},
        {"reason": "because"},
        {"app_name": "x" * 65},
    ],
)
def test_a_refused_event_takes_its_transaction_along(
    new_usage: NewUsage, wrong: dict[str, Any]
) -> None:
    with pytest.raises(DatabaseError):
        record_many([new_usage(), new_usage(**wrong)])
    assert not UsageEvent.objects.exists()
    assert not UsageSum.objects.exists()


@pytest.mark.parametrize(
    ("drawn_at", "partition"),
    [
        ("2024-02-29T23:59:59.999+00:00", "billing_usageevent_2024_02"),
        ("2024-03-01T00:00:00+00:00", "billing_usageevent_2024_03"),
        ("2024-12-31T23:59:59.999+00:00", "billing_usageevent_2024_12"),
        ("2025-01-01T00:00:00+00:00", "billing_usageevent_2025_01"),
    ],
)
def test_an_id_decides_the_partition(new_usage: NewUsage, drawn_at: str, partition: str) -> None:
    at = datetime.fromisoformat(drawn_at)
    record_many([new_usage(id=uuid7_at(at), requested_at=at)], stored_at=at)
    with connection.cursor() as cursor:
        cursor.execute("SELECT tableoid::regclass::text FROM billing_usageevent")
        assert cursor.fetchall() == [(partition,)]


def test_the_time_of_storing_decides_hour_and_day(new_usage: NewUsage) -> None:
    drawn_at = datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC)
    stored_at = drawn_at + timedelta(seconds=2)
    record_many([new_usage(id=uuid7_at(drawn_at), requested_at=drawn_at)], stored_at=stored_at)
    midnight = datetime(2024, 3, 1, tzinfo=UTC)
    assert set(UsageSum.objects.values_list("granularity", "start_at")) == {
        ("hour", midnight),
        ("day", midnight),
    }
    assert verify_sums(drawn_at.date(), stored_at.date()) == []


def test_past_usage_is_recorded_where_rows_of_its_month_have_no_partition(
    new_usage: NewUsage,
) -> None:
    at = datetime(2024, 2, 29, tzinfo=UTC)
    record_many([new_usage(id=uuid7_at(at))])
    record_many([new_usage(id=uuid7_at(at))], stored_at=at)
    with connection.cursor() as cursor:
        cursor.execute("SELECT tableoid::regclass::text FROM billing_usageevent")
        assert cursor.fetchall() == [("billing_usageevent_other",)] * 2


def test_a_month_that_is_invoiced_gets_no_more_usage(new_usage: NewUsage) -> None:
    """What is there already may be sent again; another customer's month is another matter."""
    month = month_of(datetime(2024, 2, 29, tzinfo=UTC))
    first, *later = of_one_attachment(new_usage, 3)
    record_many([first], stored_at=month.start_at)
    Invoice.objects.create(
        customer=Customer.objects.create(id=first.customer_id),
        currency="usd",
        period_start=month.start_at,
        period_end=month.end_at,
        state="final",
        number=1,
        created_at=month.end_at,
        updated_at=month.end_at,
    )
    other, last_moment = new_usage(), month.end_at - timedelta(microseconds=1)
    assert record_many([first, other], stored_at=month.start_at) == 1
    for stored_at in (month.start_at, last_moment):
        with pytest.raises(AlreadyInvoiced, match=r"2024-02 .* is on invoice 1"):
            record_many([*later, new_usage()], stored_at=stored_at)
    assert UsageEvent.objects.count() == 2
    assert record_many(later, stored_at=month.end_at) == 2
