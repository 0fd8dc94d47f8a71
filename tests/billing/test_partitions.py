"""Partitions: made ahead, and dropped only when every row in them is on a final invoice."""

from datetime import UTC, date, datetime

import pytest
from django.db import connection

from billing.bulk import record_many
from billing.metering import Usage
from billing.models import Customer, Invoice, OutboxEntry, Reconciliation, UsageEvent, UsageSum
from billing.partitions import drop_partitions, first_whole_day, list_partitions, make_partitions
from billing.periods import Period, month_of
from billing.reconciliation import reconcile_sums
from tests.billing.conftest import NewUsage
from tests.billing.test_bulk import uuid7_at

pytestmark = pytest.mark.django_db

NOW = datetime(2031, 11, 21, 12, tzinfo=UTC)
FEBRUARY = datetime(2024, 2, 29, 23, 30, tzinfo=UTC)
MARCH = datetime(2024, 3, 15, tzinfo=UTC)
LATER = datetime(2024, 8, 1, tzinfo=UTC)


def stored(new_usage: NewUsage, at: datetime, stored_at: datetime | None = None) -> Usage:
    usage = new_usage(id=uuid7_at(at), requested_at=at)
    record_many([usage], stored_at=stored_at or at)
    return usage


def close(usage: Usage, period: Period, state: str = "final") -> None:
    customer, _ = Customer.objects.get_or_create(id=usage.customer_id)
    Invoice.objects.create(
        number=Invoice.objects.count() + 1 if state == "final" else None,
        customer=customer,
        currency="usd",
        period_start=period.start_at,
        period_end=period.end_at,
        state=state,
        created_at=period.end_at,
        updated_at=period.end_at,
    )


def names() -> list[str]:
    return [partition.name for partition in list_partitions()]


def test_this_month_and_the_next_three_get_partitions() -> None:
    made = [f"billing_usageevent_{month}" for month in ("2031_11", "2031_12", "2032_01", "2032_02")]
    assert make_partitions(NOW) == made
    assert make_partitions(NOW) == []
    assert names()[-4:] == made


def test_a_month_whose_rows_lie_elsewhere_gets_none_and_the_others_do(
    new_usage: NewUsage, caplog: pytest.LogCaptureFixture
) -> None:
    record_many([new_usage(id=uuid7_at(NOW), requested_at=NOW)])
    made = [f"billing_usageevent_{month}" for month in ("2031_12", "2032_01", "2032_02")]
    assert make_partitions(NOW) == made
    assert "2031-11-01 gets no partition" in caplog.text
    assert make_partitions(NOW) == []


def test_rows_are_brought_into_a_month_whose_rows_lie_elsewhere(new_usage: NewUsage) -> None:
    record_many([new_usage(id=uuid7_at(FEBRUARY))])
    assert record_many([new_usage(id=uuid7_at(FEBRUARY))], stored_at=FEBRUARY) == 1


@pytest.mark.parametrize("table", ["billing_usageevent_2031_11", "billing_usageevent_2032_02"])
def test_a_new_partition_has_the_ledgers_triggers_and_indexes(table: str) -> None:
    make_partitions(NOW)
    with connection.cursor() as cursor:
        cursor.execute("SELECT tgname FROM pg_trigger WHERE tgrelid = %s::regclass", [table])
        triggers = {name for (name,) in cursor.fetchall()}
        cursor.execute("SELECT count(*) FROM pg_index WHERE indrelid = %s::regclass", [table])
        (indexes,) = cursor.fetchone()
    assert triggers == {"usage_event_is_append_only", "usage_event_is_not_truncated"}
    assert indexes == 4


def test_without_retention_nothing_is_dropped(new_usage: NewUsage) -> None:
    close(stored(new_usage, FEBRUARY), month_of(FEBRUARY))
    assert drop_partitions(LATER, 0) == ([], [])


@pytest.mark.parametrize("state", [None, "draft"])
def test_a_month_that_is_not_invoiced_is_kept(new_usage: NewUsage, state: str | None) -> None:
    usage = stored(new_usage, FEBRUARY)
    if state:
        close(usage, month_of(FEBRUARY), state)
    dropped, (reason,) = drop_partitions(LATER, 3)
    assert dropped == []
    assert reason == "billing_usageevent_2024_02: 1 rows are not on a final invoice"
    assert UsageEvent.objects.count() == 1


def test_one_customer_without_invoice_keeps_the_month(new_usage: NewUsage) -> None:
    close(stored(new_usage, FEBRUARY), month_of(FEBRUARY))
    stored(new_usage, FEBRUARY)
    assert drop_partitions(LATER, 3)[0] == []
    assert UsageEvent.objects.count() == 2


def test_a_row_stored_after_midnight_needs_the_next_months_invoice(new_usage: NewUsage) -> None:
    midnight = month_of(FEBRUARY).end_at
    usage = stored(new_usage, FEBRUARY, stored_at=midnight)
    close(usage, month_of(FEBRUARY))
    assert drop_partitions(LATER, 3)[0] == []
    close(usage, month_of(midnight))
    assert drop_partitions(LATER, 3)[0] == ["billing_usageevent_2024_02"]


def test_a_row_that_waits_for_its_export_keeps_the_month(new_usage: NewUsage) -> None:
    usage = new_usage(id=uuid7_at(FEBRUARY))
    record_many([usage], stored_at=FEBRUARY, destinations=["stripe"])
    close(usage, month_of(FEBRUARY))
    _, (reason,) = drop_partitions(LATER, 3)
    assert "not exported" in reason
    OutboxEntry.objects.all().delete()
    assert drop_partitions(LATER, 3)[0] == ["billing_usageevent_2024_02"]


@pytest.mark.parametrize(
    ("months", "dropped"), [(4, ["2024_02", "2024_03"]), (5, ["2024_02"]), (6, [])]
)
def test_so_many_whole_months_are_kept(
    new_usage: NewUsage, months: int, dropped: list[str]
) -> None:
    for at in (FEBRUARY, MARCH):
        close(stored(new_usage, at), month_of(at))
    assert drop_partitions(LATER, months)[0] == [f"billing_usageevent_{name}" for name in dropped]


def test_what_is_dropped_leaves_its_sums_and_no_drift(new_usage: NewUsage) -> None:
    close(stored(new_usage, FEBRUARY), month_of(FEBRUARY))
    stored(new_usage, MARCH)
    assert first_whole_day() is None
    drop_partitions(LATER, 3)
    assert UsageEvent.objects.count() == 1
    assert UsageSum.objects.count() == 4
    assert first_whole_day() == date(2024, 3, 2)
    assert reconcile_sums(MARCH, days=60).drift_picounits == 0
    assert not Reconciliation.objects.exclude(drift_picounits=0).exists()
